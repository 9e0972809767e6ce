"""Occlusion augmentation: masks, helmets, hands, glasses and patches drawn over the faces of photos.

Everything is drawn by code into the picture that is given. Landmarks are P x 2: right eye, left eye, nose.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from service.vision.images import Image
from training.data.augmentation import Rng

Landmarks = NDArray[np.float32]

OCCLUSION_PROBABILITY = 0.42
"""Of the people in training scenes: something covers a part of the face."""


def cover_face(picture: Image, landmarks: Landmarks, rng: Rng) -> list[bool]:
    """Draws something over the face at random, and returns whether the right and left eye are gone."""
    kind = rng.choice(["mask", "hat", "both", "hand", "glasses", "dark glasses", "patch"],
                      p=[0.44, 0.12, 0.14, 0.08, 0.12, 0.05, 0.05])  # fmt: skip
    if kind in ("mask", "both"):
        cover_with_mask(picture, landmarks, rng)
    if kind in ("hat", "both"):
        _fill(picture, landmarks, _hat_outline(rng), rng)
    if kind == "hand":
        _draw_fingers(picture, landmarks, rng)
    if kind in ("glasses", "dark glasses"):
        _draw_glasses(picture, landmarks, rng, dark=kind == "dark glasses")
    if kind == "patch":
        side = int(rng.integers(2))
        radius, color = rng.uniform(0.3, 0.5) * _distance(landmarks), tuple(_random_color(rng).tolist())
        axes = (max(1, round(radius)), max(1, round(radius * rng.uniform(0.7, 1.1))))
        turn = rng.uniform(0, 90)
        cv2.ellipse(picture, _pixel(landmarks[side]), axes, turn, 0, 360, color, -1, cv2.LINE_AA)
        return [side == 0, side == 1]
    return [kind == "dark glasses"] * 2


def cover_with_mask(picture: Image, landmarks: Landmarks, rng: Rng) -> None:
    """Draws a mask or scarf over nose and mouth, some with loops around the ears."""
    outline = _mask_outline(rng)
    if rng.random() < 0.5:
        _draw_loops(picture, landmarks, outline, rng)
    _fill(picture, landmarks, outline, rng)


def paint_over_eyes(picture: Image, landmarks: Landmarks, rng: Rng) -> None:
    """Covers both eyes softly with pixels of the cheek below or the forehead above them."""
    distance = _distance(landmarks)
    down = _face_axes(landmarks)[1]
    for eye in landmarks[:2]:
        radius = max(1.5, distance * float(rng.uniform(0.28, 0.4)))
        box = _box(picture, eye, radius * 1.6)
        away = down * distance * float(rng.choice([-1.0, 1.0]) * rng.uniform(0.45, 0.7))
        moved = np.array([[1, 0, away[0] + box[0]], [0, 1, away[1] + box[1]]], np.float64)
        width, height = box[2] - box[0], box[3] - box[1]
        if width < 2 or height < 2:
            continue
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        skin = cv2.warpAffine(picture, moved, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)
        part = picture[box[1] : box[3], box[0] : box[2]]
        v, u = np.mgrid[0:height, 0:width]
        r = np.hypot(u + box[0] - eye[0], v + box[1] - eye[1]) / radius
        alpha = np.clip(3.2 - 2.4 * r, 0, 1)[..., None]
        part[:] = (part * (1 - alpha) + skin * alpha).astype(np.uint8)


def _distance(landmarks: Landmarks) -> float:
    return float(np.hypot(*(landmarks[1] - landmarks[0])))


def _face_axes(landmarks: Landmarks) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit vectors along the eyes, from right to left, and down the face."""
    across = (landmarks[1] - landmarks[0]) / max(1e-6, _distance(landmarks))
    down = np.array([-across[1], across[0]], np.float32)
    return across, down if down @ (landmarks[2] - landmarks[0]) >= 0 else -down


def _mask_outline(rng: Rng) -> NDArray[np.float64]:
    """A mask or scarf over nose and mouth, in eye distances from the middle between the eyes."""
    top, side = rng.uniform(0.28, 0.5), rng.uniform(0.95, 1.25)
    ear, jaw = rng.uniform(0.3, 0.75), rng.uniform(1.3, 1.8)
    bottom = rng.uniform(1.75, 2.3)
    right = [(-0.25, top), (-side, ear), (-side * 0.95, jaw), (-0.45, bottom)]
    return np.array(right + [(-x, y) for x, y in reversed(right)])


def _draw_loops(picture: Image, landmarks: Landmarks, outline: NDArray[np.float64], rng: Rng) -> None:
    """Two straps on each side, from the mask's upper and lower corner to the ear."""
    across, down = _face_axes(landmarks)
    distance, middle = _distance(landmarks), landmarks[:2].mean(0)
    color = tuple(_random_color(rng).tolist())
    ear_x, ear_y = rng.uniform(1.05, 1.4), rng.uniform(-0.1, 0.5)
    for corner_x, corner_y in (*outline[1:3], *outline[-3:-1]):
        ends = ((corner_x, corner_y), (math.copysign(ear_x, corner_x), ear_y))
        line = [_pixel(middle + distance * (x * across + y * down)) for x, y in ends]
        cv2.line(picture, line[0], line[1], color, max(1, round(distance * 0.03)), cv2.LINE_AA)


def _hat_outline(rng: Rng) -> NDArray[np.float64]:
    """A hat, hood or helmet down to the brows, in eye distances from the middle between the eyes."""
    brim, side, top = -rng.uniform(0.3, 0.6), rng.uniform(0.95, 1.6), -rng.uniform(1.4, 2.6)
    low = brim + rng.uniform(-0.1, 0.5)
    right = [(-0.4, top), (-side * 0.9, top * 0.7), (-side, low), (-0.8, brim)]
    return np.array(right + [(-x, y) for x, y in reversed(right)])


def _fill(picture: Image, landmarks: Landmarks, outline: NDArray[np.float64], rng: Rng) -> None:
    across, down = _face_axes(landmarks)
    distance = _distance(landmarks)
    shaken = outline + rng.normal(0, 0.04, outline.shape)
    corners = landmarks[:2].mean(0) + distance * (shaken[:, :1] * across + shaken[:, 1:] * down)
    x0, y0 = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, (picture.shape[1], picture.shape[0]))
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    part = picture[y0:y1, x0:x1]
    inside = np.zeros(part.shape[:2], np.uint8)
    fixed = np.round((corners - (x0, y0)) * 16).astype(np.int32)
    cv2.fillPoly(inside, [fixed], 255, lineType=cv2.LINE_AA, shift=4)
    alpha = inside[..., None].astype(np.float32) / 255
    part[:] = (part * (1 - alpha) + _cloth(part.shape[:2], rng) * alpha).astype(np.uint8)


def _cloth(shape: tuple[int, int], rng: Rng) -> NDArray[np.float32]:
    height, width = shape
    coarse = rng.normal(0, rng.uniform(2, 40), (int(rng.integers(2, 9)), int(rng.integers(2, 9)), 1))
    folds = cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    if rng.random() < 0.25:
        v, u = np.ogrid[0:height, 0:width]
        period = rng.uniform(0.05, 0.4) * width + 2
        waves = np.sin((u * rng.uniform(-1, 1) + v * rng.uniform(-1, 1)) * 2 * math.pi / period)
        folds = folds + waves[..., None] * rng.uniform(-60, 60, 3)
    lit = 1 - rng.uniform(0, 0.5) * np.linspace(-1, 1, width)[:, None] ** 2  # darker towards the cheeks
    return np.clip((_random_color(rng) + folds) * lit, 0, 255).astype(np.float32)


def _random_color(rng: Rng) -> NDArray[np.float64]:
    gray = rng.uniform(5, 250)
    return np.clip(gray + (rng.normal(0, 60, 3) if rng.random() < 0.6 else 0), 0, 255) * np.ones(3)


def _draw_fingers(picture: Image, landmarks: Landmarks, rng: Rng) -> None:
    across, down = _face_axes(landmarks)
    distance = _distance(landmarks)
    skin = np.array([200, 150, 120]) * rng.uniform(0.3, 1.2)
    base = landmarks[:2].mean(0) + distance * (across * rng.uniform(-1, 1) + down * rng.uniform(0.6, 1.6))
    angle = rng.uniform(0, 2 * math.pi)
    for finger in range(int(rng.integers(2, 5))):
        start = base + distance * 0.3 * finger * across
        way = distance * rng.uniform(0.5, 1.0) * np.array([math.cos(angle), abs(math.sin(angle))])
        color = tuple(float(value) for value in np.clip(skin + rng.normal(0, 8), 0, 255))
        thick = max(1, round(distance * 0.27))
        cv2.line(picture, _pixel(start), _pixel(start + way), color, thick, cv2.LINE_AA)


def _draw_glasses(picture: Image, landmarks: Landmarks, rng: Rng, *, dark: bool) -> None:
    distance = _distance(landmarks)
    color = tuple(float(value) for value in _random_color(rng) * (0.3 if dark else 1.0))
    parts = rng.uniform(0.32, 0.42), rng.uniform(0.24, 0.36)
    axes = tuple(max(1, round(distance * part)) for part in parts)
    turn = math.degrees(math.atan2(*(landmarks[1] - landmarks[0])[::-1]))
    thick = -1 if dark else max(1, round(distance * rng.uniform(0.02, 0.07)))
    for eye in landmarks[:2]:
        cv2.ellipse(picture, _pixel(eye), axes, turn, 0, 360, color, thick, cv2.LINE_AA)
    across = (landmarks[1] - landmarks[0]) / 3
    bridge = [_pixel(landmarks[0] + across * step) for step in (1.1, 1.9)]
    cv2.line(picture, bridge[0], bridge[1], color, max(1, abs(thick)), cv2.LINE_AA)


def _pixel(point: NDArray[np.floating]) -> tuple[int, int]:
    x, y = point.tolist()
    return round(x), round(y)


def _box(picture: Image, at: Landmarks, reach: float) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the square around a point, as far as it is in the picture."""
    height, width = picture.shape[:2]
    left, right = (int(np.clip(at[0] + sign * reach, 0, width)) for sign in (-1, 1))
    top, bottom = (int(np.clip(at[1] + sign * reach, 0, height)) for sign in (-1, 1))
    return left, top, right, bottom
