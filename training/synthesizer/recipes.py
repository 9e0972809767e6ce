"""Named recipes: everything that decides a training run but its data, its seed and its folder.

A new recipe is `dataclasses.replace(RECIPES[...], ...)`; each run writes its recipe beside its weights.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from training.data.augmentation import Jitter
from training.loop.precision import Precision
from training.loop.schedule import Schedule
from training.synthesizer.autoencoder import ModelConfig


@dataclass(frozen=True, slots=True)
class Recipe(Schedule):
    """One run.

    `first` is the stage before: it is trained first, and this one goes on with its weights, which may draw
    smaller faces. `source_power`, `monochrome` and `ai_made` balance the photos (see
    `EyeFacePairs.balanced_weights`), and faces narrower than `min_face_px` in their photo are left out.
    `convs` are the layers of VGG19 (after the ReLU) whose features the objective compares, all of the same
    weight.
    """

    name: str
    objective: str
    model: ModelConfig = field(default_factory=ModelConfig)
    jitter: Jitter = field(default_factory=Jitter)
    source_power: float = 0.5
    monochrome: float = 1.0
    ai_made: float = 1.0
    min_face_px: float = 0.0
    convs: tuple[str, ...] = ("2_1", "3_1", "4_1", "5_1")
    precision: Precision = "bf16-mixed"
    first: "Recipe | None" = None


def describe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it stands in `run.json` and in the results."""
    as_json: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return as_json


_EYE2FACE_32 = Recipe(
    "eye2face-32", "stdmap-ema-dct", num_steps=1000, cooldown_part=0.0,
    source_power=0.75, monochrome=0.25, ai_made=0.5,
    model=ModelConfig(
        face_size=32, vector_size=128, encoder_widths=(24, 48, 96, 192), decoder_widths=(192, 128)
    ),
)  # fmt: skip
"""The first stage: many faces, cheap at this size."""

_EYE2FACE_64 = replace(
    _EYE2FACE_32, name="eye2face-64", num_steps=900, first=_EYE2FACE_32,
    model=replace(_EYE2FACE_32.model, face_size=64, decoder_widths=(192, 128, 64)),
)  # fmt: skip

EYE2FACE_128 = replace(
    _EYE2FACE_64, name="eye2face-128", num_steps=850, first=_EYE2FACE_64, cooldown_part=0.7, min_face_px=100,
    model=replace(_EYE2FACE_64.model, face_size=128, decoder_widths=(192, 128, 64, 32)),
    convs=("1_1", "2_1", "3_1", "4_1", "5_1"),
)  # fmt: skip
"""176,000 faces in three sizes."""

EYE2FACE_192 = replace(
    EYE2FACE_128, name="eye2face-192", num_steps=1000, first=EYE2FACE_128, cooldown_part=0.3, min_face_px=150,
    model=replace(EYE2FACE_128.model, face_size=192, decoder_widths=(192, 128, 64, 48), pixel_shuffle=3),
)  # fmt: skip
"""The recipe of the shipped model: the last step makes nine pixels of one instead of four."""

LAYER_STDMAP_64 = Recipe(
    "layer-stdmap-64", "layer-stdmap", convs=EYE2FACE_128.convs,
    num_steps=600, warmup_steps=50, ema_decay=0.99, cooldown_part=0.4,
    model=ModelConfig(face_size=64, encoder_widths=(24, 48, 96, 192), decoder_widths=(192, 128, 64)),
)  # fmt: skip
"""The experiment's: all of its runs see 38,000 samples, five minutes of two cores with a feature loss."""

_RECIPES = (
    EYE2FACE_192,
    EYE2FACE_128,
    Recipe(
        "tiny", "l1", precision="32-true", num_steps=200, batch_size=16, warmup_steps=10, ema_decay=0.95,
        model=ModelConfig(encoder_widths=(16, 32, 64, 64), vector_size=64, decoder_widths=(64, 64, 32, 16)),
    ),
    LAYER_STDMAP_64,
    *(
        replace(LAYER_STDMAP_64, name=f"{objective}-64", objective=objective)
        for objective in (
            *("l1", "l2", "feature", "pixel-std", "pixel-stdmap", "layer-std"),
            *("moments-ema", "moments-ema-cov", "stdmap-ema", "stdmap-ema-dct"),
            *("l2-layer-std-ema", "gan", "cgan"),
        )
    ),
    replace(
        LAYER_STDMAP_64, name="cgan-two-eyes-64", objective="cgan-two-eyes",
        model=replace(LAYER_STDMAP_64.model, num_eyes=2),
    ),
)  # fmt: skip

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in _RECIPES}
