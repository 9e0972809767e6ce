"""Small real parts for the tests: an ONNX model, a finder with known eyes, pictures of many kinds.

Nothing here pretends to be a library: the model runs in ONNX Runtime, the pictures are encoded by
Pillow, which the service does not use.
"""

import io
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import PIL.Image
import skimage.data
from onnx import TensorProto, helper, numpy_helper

from service.vision.eyes import CROP_VERSION, Eye, EyeDetections, eyes_from_points
from service.vision.images import Image

ASTRONAUT_RIGHT_EYE = (203.0, 101.0)
ASTRONAUT_LEFT_EYE = (246.5, 103.0)
"""Where the eyes are in `astronaut()`, measured by hand, within 2 px."""

NOISE_SIZE = 4
"""Of the models below."""


def tiny_model(
    path: Path, eye_size: int = 64, face_size: int = 128, **metadata_overrides: str | None
) -> Path:
    """Writes a model of the whole contract that answers the eye itself, resized; returns `path`.

    Noise makes it lighter or darker, and a light eye is a certain one.
    `metadata_overrides` replaces values of the metadata (names without `eye2face.`); None leaves one out.
    """
    factor = face_size / eye_size
    nodes = [
        *_CERTAINTY,
        helper.make_node("ReduceMean", ["noise"], ["mean"], axes=[1]),
        helper.make_node("Mul", ["mean", "levels"], ["lighter"]),
        helper.make_node("Reshape", ["lighter", "as_image"], ["lighter_BHWC"]),
        helper.make_node("Add", ["wide_eyes", "lighter_BHWC"], ["wide_guesses"]),
        helper.make_node("Clip", ["wide_guesses", "zero", "most"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["guesses"], to=TensorProto.UINT8),
        _resize("guesses"),
    ]
    constants = {
        "levels": np.array(60, np.float32),
        "as_image": np.array([-1, 1, 1, 1]),
        "zero": np.array(0, np.float32),
        "scales": np.array([1, factor, factor, 1], np.float32),
    }
    metadata = _metadata(eye_size, face_size) | metadata_overrides
    return _save_model(path, nodes, constants, eye_size, face_size, metadata)


_CERTAINTY = [
    helper.make_node("Cast", ["eyes"], ["wide_eyes"], to=TensorProto.FLOAT),
    helper.make_node("Div", ["wide_eyes", "most"], ["shares"]),
    helper.make_node("ReduceMean", ["shares"], ["certainty"], axes=[1, 2, 3], keepdims=0),
]


def _resize(eyes: str) -> onnx.NodeProto:
    return helper.make_node(
        "Resize", [eyes, "", "scales"], ["faces"], mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip


def _save_model(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    eye_size: int,
    face_size: int,
    metadata: Mapping[str, str | None],
) -> Path:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            value("eyes", TensorProto.UINT8, ["batch", eye_size, eye_size, 3]),
            value("noise", TensorProto.FLOAT, ["batch", NOISE_SIZE]),
        ],
        [
            value("faces", TensorProto.UINT8, ["batch", face_size, face_size, 3]),
            value("certainty", TensorProto.FLOAT, ["batch"]),
        ],
        [
            numpy_helper.from_array(each, name)
            for name, each in {**constants, "most": np.array(255, np.float32)}.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    _write_metadata(model, metadata)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def spoil(path: Path, how: Literal["black", "same", "crash"]) -> Path:
    """Makes a model of the same contract that draws black, one face for any eye, or fails with two."""
    model = onnx.load(path)
    info = {each.key.removeprefix("eye2face."): each.value for each in model.metadata_props}
    size = int(info["face_size"])
    model.graph.node[-1].output[0] = "resized"
    face = np.zeros((size, size, 3), np.uint8)
    if how == "same":
        face[: size // 2] = 200
    nodes = [
        helper.make_node("Mul", ["resized", "nothing"], ["black"]),
        helper.make_node("Add", ["black", "face"], ["faces"]),
    ]
    constants = {"nothing": np.array(0, np.uint8), "face": face}
    if how == "crash":  # with more than one eye, for which the array in between has no place
        nodes = [
            helper.make_node("Reshape", ["resized", "shape"], ["one"]),
            helper.make_node("Add", ["resized", "one"], ["faces"]),
        ]
        constants = {"shape": np.array([1, size, size, 3], np.int64)}
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(each, name) for name, each in constants.items())
    onnx.save(model, path)
    return path


def failing_model(path: Path) -> Path:
    """Writes a model as `tiny_model`, which ONNX Runtime cannot run on eyes with a pixel of 255."""
    nodes = [
        *_CERTAINTY,
        helper.make_node("ReduceMax", ["shares"], ["brightest"], keepdims=0),
        helper.make_node("Cast", ["brightest"], ["row"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "row"], ["scales"]),  # there is no row 1
        _resize("eyes"),
    ]
    table = np.array([[1, 2, 2, 1]], np.float32)
    return _save_model(path, nodes, {"table": table}, 64, 128, _metadata(64, 128))


def endless_model(path: Path) -> Path:
    """Writes a model as `tiny_model`, which never ends on eyes with a pixel that is not black."""
    model = onnx.load(tiny_model(path, version="endless"))
    body = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}_again"]) for name in ("on", "state")],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.UINT8, None),
        ],
        [
            helper.make_tensor_value_info("on_again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_again", TensorProto.UINT8, None),
        ],
    )
    model.graph.node.insert(0, helper.make_node("Loop", ["", "bright", "eyes"], ["same_eyes"], body=body))
    model.graph.node.insert(0, helper.make_node("Cast", ["brightest"], ["bright"], to=TensorProto.BOOL))
    model.graph.node.insert(0, helper.make_node("ReduceMax", ["wide"], ["brightest"], keepdims=0))
    model.graph.node.insert(0, helper.make_node("Cast", ["eyes"], ["wide"], to=TensorProto.INT64))
    model.graph.node[-1].input[0] = "same_eyes"
    onnx.save(model, path)
    return path


def hungry_model(path: Path, num_bytes: int, *, constant: bool) -> Path:
    """Writes a model as `tiny_model`, which needs so much memory to be run, or, if constant, to be loaded."""
    model = onnx.load(tiny_model(path, version="hungry"))
    size = numpy_helper.from_array(np.array([num_bytes], np.int64), "size")
    model.graph.initializer.append(size)
    if constant:
        made = [helper.make_node("ConstantOfShape", ["size"], ["much"], value=_ONE)]
    else:
        made = [
            helper.make_node("Cast", ["eyes"], ["wide"], to=TensorProto.INT64),
            helper.make_node("ReduceMin", ["wide"], ["least"], keepdims=0),
            helper.make_node("Add", ["size", "least"], ["shape"]),
            helper.make_node("ConstantOfShape", ["shape"], ["much"], value=_ONE),
        ]
    model.graph.node[-1].output[0] = "resized"
    model.graph.node.extend([
        *made,
        helper.make_node("Cast", ["much"], ["many"], to=TensorProto.INT32),
        helper.make_node("ReduceMin", ["many"], ["one"], keepdims=0),
        helper.make_node("Cast", ["one"], ["factor"], to=TensorProto.UINT8),
        helper.make_node("Mul", ["resized", "factor"], ["faces"]),
    ])  # fmt: skip
    onnx.save(model, path)
    return path


_ONE = numpy_helper.from_array(np.array([1], np.uint8))


def claim(path: Path, **metadata: str) -> Path:
    """Replaces metadata of the model in `path`, its sizes too, and leaves the graph as it is."""
    model = onnx.load(path)
    before = {each.key.removeprefix("eye2face."): each.value for each in model.metadata_props}
    _write_metadata(model, before | metadata)
    onnx.save(model, path)
    return path


def _write_metadata(model: onnx.ModelProto, metadata: Mapping[str, str | None]) -> None:
    helper.set_model_props(
        model, {f"eye2face.{key}": value for key, value in metadata.items() if value is not None}
    )


def _metadata(eye_size: int, face_size: int) -> dict[str, str | None]:
    return {
        "contract_version": "2",
        "crop_version": str(CROP_VERSION),
        "name": "tiny",
        "version": "0.0.1",
        "part": "eye",
        "eye_size": str(eye_size),
        "face_size": str(face_size),
        "noise_size": str(NOISE_SIZE),
        "recipe": "none",
        "objective": "none",
        "training_data": "none",
        "licence_class": "open",
        "commit": "0000000",
        "date": "2025-01-01",
        "metrics": json.dumps({"l2": 0.5}),
    }


@dataclass(frozen=True)
class KnownEyes:
    """An EyeFinder that answers the same eyes for every photo, given in parts of its width and height."""

    parts: Sequence[Eye] = ()
    below_threshold: Sequence[Eye] | None = None
    input_side_px: int = 1000

    def detect(self, photo: Image) -> EyeDetections:
        below_threshold = None if self.below_threshold is None else _in_pixels(self.below_threshold, photo)
        return EyeDetections(_in_pixels(self.parts, photo), below_threshold)


def _in_pixels(parts: Sequence[Eye], photo: Image) -> list[Eye]:
    height, width = photo.shape[:2]
    return [replace(eye, x=eye.x * width, y=eye.y * height, size_px=eye.size_px * width) for eye in parts]


@cache
def astronaut() -> Image:
    """NASA's astronaut, 512 x 512 x 3 uint8 RGB, read-only: the one real person of this repository."""
    photo: Image = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    photo.flags.writeable = False
    return photo


def astronaut_eyes() -> tuple[Eye, Eye]:
    """Her right and left eye in `astronaut()`."""
    return eyes_from_points(ASTRONAUT_RIGHT_EYE, ASTRONAUT_LEFT_EYE)


def pixels_of(file: bytes) -> bytes:
    """The decoded pixels of a file: of a face drawn again, the metadata has another time."""
    return PIL.Image.open(io.BytesIO(file)).convert("RGB").tobytes()


def encoded(photo: Image | PIL.Image.Image, format: str = "png", **options: object) -> bytes:
    """The picture as a file, written by Pillow (`options` are its own: quality, exif, progressive, ...)."""
    picture = photo if isinstance(photo, PIL.Image.Image) else PIL.Image.fromarray(photo)
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def turned(photo: Image, orientation: int, format: str = "jpeg", **options: object) -> bytes:
    """A file that stores `photo` as a camera held in one of the eight EXIF orientations would."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return encoded(np.ascontiguousarray(_STORED[orientation](photo)), format, exif=exif, **options)


# What undoes the turn that the orientation asks of the reader. Source: EXIF 2.32, tag 274.
_STORED = {
    1: lambda photo: photo,
    2: lambda photo: photo[:, ::-1],
    3: lambda photo: photo[::-1, ::-1],
    4: lambda photo: photo[::-1],
    5: lambda photo: photo.transpose(1, 0, 2),
    6: lambda photo: np.rot90(photo, 1),
    7: lambda photo: photo[::-1, ::-1].transpose(1, 0, 2),
    8: lambda photo: np.rot90(photo, -1),
}


def png_chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_header(width: int, height: int) -> bytes:
    """The start of an 8-bit gray PNG, up to its first chunk."""
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
