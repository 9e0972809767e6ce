"""Faces drawn by code, with exact points: photos of nobody for the tests and for trying out training.

    python -m tests.drawn_faces OUT --num 20 --seed 0

writes OUT/faces/*.jpg and OUT/faces.csv in the format that `prepare` reads. What an eye shows (skin,
iris, brows, lids, glasses, wrinkles) tells something of the rest of its face (hair, beard, age), so that
there is something to learn. Lengths are in eye distances, from the point between the eyes, y down.
"""

import argparse
import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.images import Image, encode
from tests.drawn_people import Color, Person, Point, Shot, between, make_person, make_shot, shade

Canvas = NDArray[np.float32]
"""H x W x 4: red, green, blue from 0 to 255, and 1 where something is drawn."""

UNIT = 160
"""Pixels of an eye distance while drawing; photos are smaller, so edges come out smooth."""

CANVAS_WIDTH, CANVAS_HEIGHT = 4.4, 5.0
MIDDLE = (2.2, 2.0)
"""The point between the eyes on the canvas."""

CSV_COLUMNS = (
    *("file", "split", "source", "licence", "person", "width", "height"),
    *("face_x", "face_y", "face_w", "face_h", "right_eye_x", "right_eye_y", "left_eye_x", "left_eye_y"),
    *("nose_x", "nose_y", "score", "roll_deg", "yaw", "monochrome", "label_spread"),
)


@dataclass(frozen=True, slots=True)
class DrawnPhoto:
    """A photo with its exact points, in its pixels; right and left are the subject's."""

    person: Person
    shot: Shot
    pixels: Image
    right: Point
    left: Point
    nose: Point


def draw_photos(num: int, seed: int = 0) -> Iterator[DrawnPhoto]:
    """`num` photos of about half as many people, the same for the same seed."""
    rng = np.random.default_rng(seed)
    number = 0
    while num > 0:
        person = make_person(seed * 100_003 + number)
        for _ in range(min(num, int(rng.integers(1, 4)))):
            yield draw_photo(person, make_shot(int(rng.integers(2**31))))
            num -= 1
        number += 1


def draw_photo(person: Person, shot: Shot) -> DrawnPhoto:
    """The photo of a person, and exactly where the eyes and the tip of the nose are in it."""
    canvas = np.zeros((round(CANVAS_HEIGHT * UNIT), round(CANVAS_WIDTH * UNIT), 4), np.float32)
    _draw_body_and_hair(canvas, person)
    _draw_skin(canvas, person)
    for side in (-1, 1):
        _draw_eye(canvas, person, side)
    _draw_nose_and_mouth(canvas, person, shot)
    if person.glasses or shot.sunglasses:
        _draw_glasses(canvas, dark=shot.sunglasses)
    to_photo = _canvas_to_photo(shot)
    # Smoothed first: a linear warp reads 2 x 2 pixels and would leave steps.
    smooth = cv2.GaussianBlur(canvas, (0, 0), 0.35 * UNIT / shot.eye_distance_px)
    layer = cv2.warpAffine(smooth, to_photo, (shot.width, shot.height), flags=cv2.INTER_LINEAR)
    behind = np.array(shot.background, np.float32) * np.linspace(1.08, 0.9, shot.height)[:, None, None]
    pixels = layer[..., :3] + (1 - layer[..., 3:]) * behind
    points = [_moved(to_photo, point) for point in ((-0.5, 0.0), (0.5, 0.0), (0.0, 0.62))]
    return DrawnPhoto(person, shot, _lit(pixels.astype(np.float32), shot), *points)


def write_csv(out: Path, photos: list[DrawnPhoto], *, val_every: int = 8) -> Path:
    """Writes the photos and their labels as `prepare` reads them; one person in `val_every` is `val`."""
    (out / "faces").mkdir(parents=True, exist_ok=True)
    with (out / "faces.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for number, photo in enumerate(photos):
            name = f"drawn-{number:05}.jpg"
            (out / "faces" / name).write_bytes(encode(photo.pixels, "jpeg"))
            split = "val" if int(photo.person.name, 16) % val_every == 0 else "train"
            writer.writerow({"file": name, "split": split} | _labels(photo))
    return out / "faces.csv"


def write_celeba(out: Path, num_persons: int = 6, photos_each: int = 2, seed: int = 0) -> Path:
    """Writes a tiny tree of CelebA's layout: its size, its places of the eyes, its text files."""
    (out / "img_align_celeba").mkdir(parents=True, exist_ok=True)
    identities, partitions, landmarks = [], [], []
    for number in range(num_persons * photos_each):
        owner = number // photos_each
        shot = replace(make_shot(seed + number), width=178, height=218, eye_distance_px=38.0, roll_deg=0.0)
        photo = draw_photo(make_person(seed + owner), replace(shot, middle=(89.0, 111.0)))
        name = f"{number + 1:06}.jpg"
        (out / "img_align_celeba" / name).write_bytes(encode(photo.pixels, "jpeg"))
        identities.append(f"{name} {owner + 1}")
        partitions.append(f"{name} {owner % 3}")
        # Their `lefteye` is the viewer's left: the subject's right eye.
        points = [*photo.right, *photo.left, *photo.nose, 73, 152, 108, 154]
        landmarks.append(f"{name}  " + "  ".join(str(round(value)) for value in points))
    parts = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
    columns = " ".join(f"{part}_{axis}" for part in parts for axis in "xy")
    _write_lines(out / "identity_CelebA.txt", identities)
    _write_lines(out / "list_eval_partition.txt", partitions)
    _write_lines(out / "list_landmarks_align_celeba.txt", [str(len(landmarks)), columns, *landmarks])
    return out


def _labels(photo: DrawnPhoto) -> dict[str, str | int]:
    distance, (x, y) = photo.shot.eye_distance_px, photo.shot.middle
    box = (x - 0.95 * distance, y - 0.9 * distance, 1.9 * distance, 2.6 * distance)
    values = {
        **{key: f"{value:.1f}" for key, value in zip(CSV_COLUMNS[7:11], box, strict=True)},
        **{
            key: f"{value:.2f}"
            for key, value in zip(CSV_COLUMNS[11:17], (*photo.right, *photo.left, *photo.nose), strict=True)
        },
    }
    return values | {
        "source": "drawn-light" if sum(photo.person.skin) > 450 else "drawn-dark",
        "licence": "open",
        "person": photo.person.name,
        "width": photo.shot.width,
        "height": photo.shot.height,
        "score": "1.000",
        "roll_deg": f"{photo.shot.roll_deg:.1f}",
        "yaw": "0.000",
        "monochrome": 0,
        "label_spread": "",
    }


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _canvas_to_photo(shot: Shot) -> NDArray[np.float64]:
    scale = shot.eye_distance_px / UNIT
    cos, sin = math.cos(math.radians(shot.roll_deg)) * scale, math.sin(math.radians(shot.roll_deg)) * scale
    x, y = MIDDLE[0] * UNIT, MIDDLE[1] * UNIT
    return np.array(
        [[cos, -sin, shot.middle[0] - cos * x + sin * y], [sin, cos, shot.middle[1] - sin * x - cos * y]]
    )


def _moved(to_photo: NDArray[np.float64], point: Point) -> Point:
    x, y = to_photo @ [(MIDDLE[0] + point[0]) * UNIT, (MIDDLE[1] + point[1]) * UNIT, 1.0]
    return float(x), float(y)


def _lit(pixels: Canvas, shot: Shot) -> Image:
    """The photo under its light, with the noise of a sensor."""
    across = 1 + shot.side_light * np.linspace(-1, 1, shot.width)[None, :, None]
    tint = np.array([1 + shot.warmth, 1.0, 1 - shot.warmth])
    noise = np.random.default_rng([shot.seed, 3]).normal(0, shot.noise, pixels.shape)
    lit: Image = np.clip(pixels * across * tint * shot.light + noise, 0, 255).round().astype(np.uint8)
    return lit


def _draw_body_and_hair(canvas: Canvas, person: Person) -> None:
    shirt = shade((90 + 120 * person.age, 90.0, 200 - 140 * person.age), 0.9)
    _ellipse(canvas, (0, 3.35), (1.9, 1.15), shirt)
    if person.hair_style == "long":
        _ellipse(canvas, (0, 0.75), (1.42 * person.width, 2.05), person.hair)
    elif person.hair_style == "short":
        _ellipse(canvas, (0, -0.2), (1.16 * person.width, 1.3), person.hair)
    _ellipse(canvas, (0, 2.2), (0.55, 0.8), shade(person.skin, 0.78))


def _draw_skin(canvas: Canvas, person: Person) -> None:
    skin = person.skin
    for side in (-1, 1):
        _ellipse(canvas, (side * 1.02 * person.width, 0.35), (0.14, 0.3), shade(skin, 0.88))
    _ellipse(canvas, (0, 0.42), (1.0 * person.width, 1.42), skin)
    if person.hair_style != "bald":
        _ellipse(canvas, (0, -0.98), (0.86 * person.width, 0.36), person.hair)
    if person.beard:
        shadow = between(skin, person.hair, person.beard)
        _ellipse(canvas, (0, 1.38), (0.72 * person.width, 0.5), shadow)
        _ellipse(canvas, (0, 0.86), (0.5 * person.width, 0.16), skin)
    for side in (-1, 1):
        _ellipse(canvas, (side * 0.52, 0.72), (0.26, 0.2), between(skin, (225.0, 120.0, 110.0), 0.12))
        _ellipse(canvas, (side * 0.5, -0.02), (0.34, 0.22), shade(skin, 0.93))
    if person.age > 0.55:
        wrinkle = shade(skin, 1 - 0.35 * (person.age - 0.4))
        for height in (-0.62, -0.74):
            _line(canvas, [(-0.4, height), (0, height - 0.03), (0.4, height)], 0.02, wrinkle)
        for side in (-1, 1):
            _line(canvas, [(side * 0.33, 0.2), (side * 0.5, 0.24), (side * 0.66, 0.18)], 0.022, wrinkle)
            _line(canvas, [(side * 0.26, 0.72), (side * 0.42, 0.98)], 0.025, wrinkle)


def _draw_eye(canvas: Canvas, person: Person, side: int) -> None:
    x, wide, high = side * 0.5, person.eye_width, person.eye_open
    opening = _almond((x, 0.0), wide, high, tilt=side * -person.eye_tilt)
    white = np.zeros_like(canvas)
    _polygon(white, opening, (238, 234, 230))
    _ellipse(white, (x, 0), (0.1, 0.1), shade(person.iris, 0.6))
    _ellipse(white, (x, 0), (0.085, 0.085), person.iris)
    _ellipse(white, (x, 0), (0.04, 0.04), (14, 12, 12))
    _ellipse(white, (x + 0.03, -0.03), (0.016, 0.016), (255, 255, 255))
    mask = np.zeros(canvas.shape[:2], np.uint8)
    cv2.fillPoly(mask, [_pixels(opening)], 1, cv2.LINE_8)
    np.copyto(canvas, white, where=mask[..., None] > 0)
    lash = between(shade(person.skin, 0.45), (20.0, 15.0, 15.0), 0.6)
    _line(canvas, opening[: len(opening) // 2 + 1], 0.026, lash)
    _line(canvas, opening[len(opening) // 2 :], 0.012, shade(person.skin, 0.7))
    fold = [(px, py - 0.05) for px, py in opening[: len(opening) // 2 + 1]]
    _line(canvas, fold, 0.012, shade(person.skin, 0.75))
    arch = [
        (x - side * 0.24, -0.27),
        (x - side * 0.02, -0.34),
        (x + side * 0.16, -0.33),
        (x + side * 0.3, -0.24),
    ]
    _line(canvas, arch, person.brow, shade(person.hair, 0.85))


def _draw_nose_and_mouth(canvas: Canvas, person: Person, shot: Shot) -> None:
    dark = shade(person.skin, 0.8)
    _line(canvas, [(-0.1, 0.05), (-0.09, 0.4), (-person.nose, 0.64)], 0.02, shade(person.skin, 0.88))
    _ellipse(canvas, (0, 0.6), (person.nose, 0.11), shade(person.skin, 0.95))
    for side in (-1, 1):
        _ellipse(canvas, (side * 0.55 * person.nose, 0.69), (0.05, 0.03), shade(person.skin, 0.5))
    corner = 1.13 - 0.1 * shot.smile
    half = person.mouth * (1 + 0.15 * shot.smile)
    outline = [(-half, corner), (-0.1, 1.06), (0, 1.08), (0.1, 1.06), (half, corner), (0.0, 1.24)]
    _polygon(canvas, outline, person.lip)
    if shot.smile > 0.6:
        _polygon(canvas, [(-0.7 * half, 1.11), (0.7 * half, 1.11), (0.0, 1.19)], (245, 242, 236))
    _line(canvas, [(-half, corner), (0, 1.14), (half, corner)], 0.015, shade(person.lip, 0.55))
    _line(canvas, [(-0.18, 1.4), (0, 1.42), (0.18, 1.4)], 0.015, dark)


def _draw_glasses(canvas: Canvas, *, dark: bool) -> None:
    for side in (-1, 1):
        if dark:
            _ellipse(canvas, (side * 0.5, 0.03), (0.44, 0.37), (22, 20, 24))
        _ellipse(canvas, (side * 0.5, 0.03), (0.4, 0.3), (35, 30, 30), thickness=0.045)
        _line(canvas, [(side * 0.9, -0.02), (side * 1.05, 0.0)], 0.04, (35, 30, 30))
    _line(canvas, [(-0.11, -0.02), (0.11, -0.02)], 0.04, (35, 30, 30))


def _almond(center: Point, wide: float, high: float, *, tilt: float) -> list[Point]:
    """The opening of an eye: over the top from left to right, then back below."""
    across = [-1 + 2 * step / 12 for step in range(13)]
    upper = [(center[0] + wide * t, center[1] - high * (1 - t * t) + tilt * t) for t in across]
    lower = [(center[0] + wide * t, center[1] + 0.8 * high * (1 - t * t) + tilt * t) for t in across]
    return [*upper, *lower[::-1]]


def _ellipse(
    canvas: Canvas, center: Point, axes: tuple[float, float], color: Color, *, thickness: float = 0.0
) -> None:
    place = _pixels([center])[0]
    size = (round(axes[0] * UNIT), round(axes[1] * UNIT))
    line = round(thickness * UNIT) or -1
    cv2.ellipse(canvas, (int(place[0]), int(place[1])), size, 0, 0, 360, (*color, 1.0), line, cv2.LINE_8)


def _polygon(canvas: Canvas, points: list[Point], color: Color) -> None:
    cv2.fillPoly(canvas, [_pixels(points)], (*color, 1.0), cv2.LINE_8)


def _line(canvas: Canvas, points: list[Point], thickness: float, color: Color) -> None:
    cv2.polylines(
        canvas, [_pixels(points)], False, (*color, 1.0), max(1, round(thickness * UNIT)), cv2.LINE_8
    )


def _pixels(points: list[Point]) -> NDArray[np.int32]:
    return np.round((np.array(points) + MIDDLE) * UNIT).astype(np.int32)


def main() -> None:
    """Writes drawn faces from the command line."""
    parser = argparse.ArgumentParser(description="Draws faces and writes them with their labels.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--num", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--celeba", action="store_true", help="write CelebA's layout instead of a CSV")
    chosen = parser.parse_args()
    if chosen.celeba:
        print(write_celeba(chosen.out, num_persons=math.ceil(chosen.num / 2), seed=chosen.seed))
    else:
        print(write_csv(chosen.out, list(draw_photos(chosen.num, chosen.seed))))


if __name__ == "__main__":
    main()
