"""The autoencoder: shapes, multiplications, invalid sizes, and growing a smaller one."""

from dataclasses import replace

import pytest
import torch

from tests.training.multiplications import count_multiplications
from training.errors import RecipeError
from training.synthesizer.autoencoder import Autoencoder, ModelConfig, can_grow, grow


def test_an_eye_becomes_a_face_between_0_and_1() -> None:
    faces = Autoencoder(ModelConfig()).eval()(torch.rand(2, 3, 64, 64))
    assert faces.shape == (2, 3, 128, 128) and faces.dtype == torch.float32
    assert faces.min() >= 0 and faces.max() <= 1


@pytest.mark.parametrize(("eye_size", "face_size"), [(32, 64), (96, 256), (64, 64)])
def test_other_sizes_follow_from_the_configuration(eye_size: int, face_size: int) -> None:
    config = ModelConfig(eye_size=eye_size, face_size=face_size, encoder_widths=(8, 8), decoder_widths=(8, 8))
    assert Autoencoder(config)(torch.rand(2, 3, eye_size, eye_size)).shape == (2, 3, face_size, face_size)


def test_a_face_costs_at_most_half_a_billion_multiplications() -> None:
    assert 0.4e9 < count_multiplications(ModelConfig()) <= 0.5e9


def test_the_multiplications_of_a_known_model_are_counted() -> None:
    config = ModelConfig(eye_size=4, face_size=8, encoder_widths=(2,), vector_size=3, decoder_widths=(5,))
    encoder, to_vector, from_vector = 4 * 4 * 2 * 27, 2 * 2 * 2 * 3, 3 * 5 * 2 * 2
    decoder, to_pixels = 4 * 4 * 5 * 45, 4 * 4 * 12 * 45
    assert count_multiplications(config) == encoder + to_vector + from_vector + decoder + to_pixels


def test_gray_is_the_middle_of_what_the_encoder_sees() -> None:
    model, seen = Autoencoder(ModelConfig()).eval(), []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.full((1, 3, 64, 64), 0.5))
    assert seen[0].abs().max() == 0.0


def test_too_many_halvings_are_refused() -> None:
    with pytest.raises(RecipeError, match="more blocks"):
        Autoencoder(ModelConfig(eye_size=4))


@pytest.mark.parametrize(("face_size", "factor"), [(128, 2), (192, 3)])
def test_a_fresh_model_draws_no_checkerboard(face_size: int, factor: int) -> None:
    model = Autoencoder(ModelConfig(face_size=face_size, pixel_shuffle=factor)).eval()
    faces = model(torch.rand(1, 3, 64, 64)).reshape(3, 64, factor, 64, factor)
    spread = faces.amax((2, 4)) - faces.amin((2, 4))
    assert spread.max() == 0.0


LARGE = ModelConfig(face_size=128, encoder_widths=(8, 8), decoder_widths=(8, 8, 6, 4))


def test_a_model_goes_on_where_a_smaller_one_ends() -> None:
    small = Autoencoder(replace(LARGE, face_size=64, decoder_widths=(8, 8, 6))).eval()
    large = grow(small, LARGE).eval()
    eyes = torch.rand(2, 3, 64, 64)
    assert large(eyes).shape == (2, 3, 128, 128)
    vectors = small.to_vector(small.encoder(eyes - 0.5).flatten(1))
    torch.testing.assert_close(large.to_vector(large.encoder(eyes - 0.5).flatten(1)), vectors)
    coarse = small.from_vector(vectors).unflatten(1, (-1, small.coarsest, small.coarsest))
    torch.testing.assert_close(large.decoder[:-2](coarse), small.decoder(coarse))


def test_a_model_goes_on_with_a_larger_last_step_and_a_wider_last_block() -> None:
    small = Autoencoder(LARGE).eval()
    larger = grow(small, replace(LARGE, face_size=192, pixel_shuffle=3)).eval()
    vectors = torch.rand(2, LARGE.vector_size)
    assert larger.decode(vectors).shape == (2, 3, 192, 192)
    coarse = torch.rand(2, 8, LARGE.coarsest, LARGE.coarsest)
    torch.testing.assert_close(larger.decoder(coarse), small.decoder(coarse))
    wider = grow(small, replace(LARGE, decoder_widths=(8, 8, 6, 5))).eval()
    torch.testing.assert_close(wider.decoder[:-2](coarse), small.decoder[:-2](coarse))


@pytest.mark.parametrize(
    "other",
    [
        replace(LARGE, vector_size=5),
        replace(LARGE, decoder_widths=(8, 7, 6, 4)),
        replace(LARGE, decoder_widths=(8, 8), face_size=32),
        replace(LARGE, decoder_widths=(8, 8, 6, 4, 4), face_size=256),
        replace(LARGE, face_size=192),
    ],
    ids=["vector", "a block within", "two blocks less", "a block more", "another grid"],
)
def test_it_goes_on_from_nothing_else(other: ModelConfig) -> None:
    assert not can_grow(other, LARGE)
    with pytest.raises(RecipeError, match="cannot go on from one of"):
        grow(Autoencoder(other), LARGE)
