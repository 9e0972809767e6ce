"""Crops of the mouth or the nose, added to a folder of pairs, for models that see these instead of an eye.

The labels name no mouth, so both are cut where an aligned face usually has them: they turn and scale with
the eyes, but do not follow a head that is turned aside.
"""

import json
from dataclasses import dataclass, replace

from tqdm import tqdm

from service.vision.eyes import CROP_PER_EYE_DISTANCE, Eye, EyeFinder, crop_eye
from service.vision.haar import HaarEyeFinder
from service.vision.images import Image
from training.data.face_alignment import EYE_DISTANCE, RIGHT_EYE_AT
from training.data.files import AppendableArray, write_atomically
from training.data.photos import Photo
from training.data.prepare import PrepareSettings, eyes_of, photos_of, prepare, read_pixels, say
from training.data.store import PART_VERSION, Part, PartManifest, has_part, open_pairs


@dataclass(frozen=True, slots=True)
class PartPosition:
    """Center of a part in the aligned face, in parts of its side; its crop's side is in eye distances."""

    x: float
    y: float
    side: float


PART_POSITIONS: dict[Part, PartPosition] = {
    "mouth": PartPosition(0.5, 0.75, 1.1),
    "nose": PartPosition(0.5, 0.579, 0.8),
}
"""Medians of labels. The mouth's middle lies 1.00 eye distances below the point between the eyes and is
0.86 wide (1,538 frontal faces of photos of several people); the tip of the nose 0.57 (7,374 training faces),
9 in 10 of them within 0.13 to either side."""


def add_part(
    settings: PrepareSettings, part: Part, *, finder: EyeFinder | None = None, progress: bool = True
) -> None:
    """Makes or completes the folder `settings.out` as `prepare`, and adds the crops of `part` to it.

    Killed, it goes on after the last chunk; a part that is there stays.

    Raises:
        DataError: as `prepare`.
    """
    manifest = prepare(settings, finder=finder, progress=progress)
    out, size, wide = settings.out, settings.eye_size, settings.wide_size
    if has_part(out, part):
        open_pairs(out)  # says what is wrong with it, if anything is
        return say(f"{out} holds the crops of the {part}: nothing to do", progress)
    by_file = {photo.file: photo for photo in photos_of(settings)}
    photos = [by_file[str(file)] for file in open_pairs(out).rows["file"]]
    if any(photo.eyes is None for photo in photos):
        finder = finder or HaarEyeFinder()
    arrays = (
        AppendableArray(out / f"{part}.npy", (size, size, 3)),
        AppendableArray(out / f"{part}_wide.npy", (wide, wide, 3)),
    )
    done = min(array.num_rows for array in arrays)
    for array in arrays:
        array.cut_to(done)
    with tqdm(total=len(photos), initial=done, unit="photo", desc=part, disable=not progress) as bar:
        for start in range(done, len(photos), settings.chunk):
            chunk = photos[start : start + settings.chunk]
            crops = [_crop(photo, part, settings, finder) for photo in chunk]
            for array, rows in zip(arrays, zip(*crops, strict=True), strict=True):
                array.append(list(rows))
            bar.update(len(chunk))
    for array in arrays:
        array.finish(len(photos))
    written = PartManifest(part=part, part_version=PART_VERSION, rows_sha256=manifest["rows_sha256"])
    write_atomically(out / f"{part}.json", json.dumps(written, indent=2) + "\n")


def locate_part(right: Eye, left: Eye, part: Part) -> Eye:
    """The part of a face with these eyes, as if it were a right eye: centre and side in pixels, roll.

    Raises:
        KeyError: the part is the eye itself.
    """
    place = PART_POSITIONS[part]
    # In the frame of an aligned face x runs from eye to eye and y at a right angle to that.
    dx, dy = left.x - right.x, left.y - right.y
    distance = EYE_DISTANCE
    along, down = (place.x - RIGHT_EYE_AT[0]) / distance, (place.y - RIGHT_EYE_AT[1]) / distance
    x, y = right.x + along * dx - down * dy, right.y + along * dy + down * dx
    return replace(right, x=x, y=y, size_px=right.size_px * place.side / CROP_PER_EYE_DISTANCE, side="right")


def _crop(
    photo: Photo, part: Part, settings: PrepareSettings, finder: EyeFinder | None
) -> tuple[Image, Image]:
    pixels = read_pixels(photo)
    eyes = eyes_of(photo, pixels, finder)
    assert isinstance(eyes, tuple), "a row's eyes were found before"
    at, size, wide = locate_part(*eyes, part), settings.eye_size, settings.wide_size
    return crop_eye(pixels, at, size), crop_eye(pixels, at, wide, context=wide / size)
