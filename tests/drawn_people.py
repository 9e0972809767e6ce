"""Random people who do not exist, and the conditions of a photo of one; draws nothing.

Traits that go together in people go together here, so that an eye tells something of its face. Colors
are RGB, 0 to 255.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

Point = tuple[float, float]
Color = tuple[float, float, float]

SKINS: tuple[Color, ...] = (
    *((250, 222, 203), (240, 200, 172), (225, 178, 142), (198, 146, 108)),
    *((158, 108, 76), (116, 76, 54), (82, 54, 42)),
)
IRISES: tuple[Color, ...] = ((110, 150, 185), (105, 130, 85), (140, 95, 50), (85, 52, 30), (50, 32, 22))
HAIRS: tuple[Color, ...] = ((225, 190, 120), (160, 105, 55), (95, 60, 38), (45, 32, 28), (25, 22, 24))
BACKGROUNDS: tuple[Color, ...] = ((205, 215, 225), (60, 95, 150), (120, 60, 55), (70, 90, 70), (40, 40, 48))


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who does not exist: what stays the same from photo to photo."""

    name: str
    skin: Color
    iris: Color
    hair: Color
    hair_style: Literal["bald", "short", "long"]
    beard: float
    glasses: bool
    width: float
    eye_width: float
    eye_open: float
    eye_tilt: float
    brow: float
    nose: float
    mouth: float
    lip: Color
    age: float


@dataclass(frozen=True, slots=True)
class Shot:
    """How a photo is taken: what changes from photo to photo. Lengths in pixels of the photo."""

    width: int = 200
    height: int = 240
    eye_distance_px: float = 44.0
    middle: Point = (100.0, 105.0)
    roll_deg: float = 0.0
    light: float = 1.0
    side_light: float = 0.0
    warmth: float = 0.0
    smile: float = 0.3
    background: Color = BACKGROUNDS[0]
    noise: float = 2.0
    sunglasses: bool = False
    seed: int = 0


def make_person(seed: int) -> Person:
    """Somebody, the same for the same seed; traits that go together in people go together here."""
    rng = np.random.default_rng([seed, 1])
    tone, male, age = rng.uniform(), rng.uniform() < 0.5, rng.uniform()
    skin = _mix(SKINS, tone, rng)
    hair = _mix(HAIRS, 0.15 + 0.85 * tone**0.5, rng)
    gray = max(0.0, age - 0.6) / 0.4
    lips = (205.0, 70.0, 80.0) if not male and rng.uniform() < 0.5 else shade(skin, 0.82)
    styles: tuple[Literal["bald", "short", "long"], ...] = (
        ("bald", "short", "short") if male else ("long", "short")
    )
    return Person(
        name=hashlib.sha256(f"drawn {seed}".encode()).hexdigest()[:10],
        skin=skin,
        iris=_mix(IRISES, min(1.0, 0.2 + tone + rng.normal(0, 0.15)), rng),
        hair=between(hair, (205.0, 205.0, 208.0), gray),
        hair_style=styles[int(rng.integers(len(styles)))],
        beard=float(rng.uniform(0.2, 1.0)) if male and rng.uniform() < 0.6 else 0.0,
        glasses=bool(rng.uniform() < 0.15 + 0.3 * age),
        width=float(rng.uniform(0.88, 1.04) + (0.05 if male else 0)),
        eye_width=float(rng.uniform(0.2, 0.25)),
        eye_open=float(rng.uniform(0.075, 0.125)),
        eye_tilt=float(rng.uniform(-0.03, 0.04)),
        brow=float(rng.uniform(0.055, 0.09) if male else rng.uniform(0.025, 0.045)),
        nose=float(rng.uniform(0.16, 0.27)),
        mouth=float(rng.uniform(0.32, 0.46)),
        lip=lips,
        age=age,
    )


def make_shot(seed: int) -> Shot:
    """A way to take a photo, the same for the same seed."""
    rng = np.random.default_rng([seed, 2])
    distance = float(rng.uniform(32, 60))
    width, height = round(4.3 * distance), round(5.0 * distance)
    shake = rng.uniform(-0.12, 0.12, 2) * distance
    return Shot(
        width=width,
        height=height,
        eye_distance_px=distance,
        middle=(width / 2 + float(shake[0]), 0.42 * height + float(shake[1])),
        roll_deg=float(rng.normal(0, 6)),
        light=float(rng.uniform(0.65, 1.1)),
        side_light=float(rng.uniform(-0.35, 0.35)),
        warmth=float(rng.uniform(-0.06, 0.08)),
        smile=float(rng.uniform(0, 1)),
        background=shade(BACKGROUNDS[int(rng.integers(len(BACKGROUNDS)))], float(rng.uniform(0.8, 1.2))),
        seed=seed,
    )


def _mix(colors: tuple[Color, ...], part: float, rng: np.random.Generator) -> Color:
    """A color at `part` (0…1) along a row of colors, a little off."""
    at = min(max(part, 0.0), 1.0) * (len(colors) - 1)
    low = min(int(at), len(colors) - 2)
    return shade(between(colors[low], colors[low + 1], at - low), float(rng.uniform(0.94, 1.06)))


def between(first: Color, second: Color, part: float) -> Color:
    """The color at `part` (0…1) of the way."""
    red, green, blue = (a + (b - a) * part for a, b in zip(first, second, strict=True))
    return red, green, blue


def shade(color: Color, factor: float) -> Color:
    """A color made darker or lighter."""
    red, green, blue = (min(255.0, value * factor) for value in color)
    return red, green, blue
