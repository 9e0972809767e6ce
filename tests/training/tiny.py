"""A recipe of 32 px that trains in moments."""

from dataclasses import replace

from training.synthesizer.autoencoder import ModelConfig
from training.synthesizer.recipes import RECIPES

TINY_MODEL = ModelConfig(
    eye_size=32, face_size=32, encoder_widths=(16, 32, 32), vector_size=32, decoder_widths=(32, 32, 16)
)
HALF_MODEL = replace(TINY_MODEL, face_size=16, decoder_widths=(32, 32))
"""Without the last block of the decoder."""

TINY = replace(RECIPES["tiny"], model=TINY_MODEL, num_steps=6, batch_size=8, warmup_steps=2)
