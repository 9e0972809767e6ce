"""An exported model whose arithmetic is float16, for devices that are faster with it; its file is as large.

The shipped files hold float16 weights that are widened when they are loaded: CPUs compute in float32 anyway.
"""

import random
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from service.inference.self_test import draw_eye
from service.inference.synthesizer import Synthesizer
from service.vision.eyes import Image
from training.export.onnx import MAX_DIFFERENCE, ExportDiffers, widen_weights

NUM_EYES = 64
"""Drawn eyes of all colours that the faces are compared on."""


def to_float16(path: Path, out: Path) -> int:
    """Writes the model in `path` in float16 to `out`; eyes and faces stay uint8. Returns the largest
    difference between their faces in levels, both drawn by ONNX Runtime on the CPU.

    Raises:
        ExportDiffers: more than one level; nothing is written.
        ModelNotFound, ModelContractUnknown: `path` is no model that the service runs.
    """
    wide = Synthesizer.load(path, device="cpu")
    model = onnx.load(path)
    widen_weights(model)
    narrow = convert_float_to_float16(model, keep_io_types=True)
    eyes_NHWC = _draw_eyes(wide.info.eye_size)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.onnx"
        onnx.save(narrow, draft)
        faces_NHWC = Synthesizer.load(draft, device="cpu")(eyes_NHWC).astype(np.int16)
        difference = int(abs(faces_NHWC - wide(eyes_NHWC)).max())
        if difference > MAX_DIFFERENCE:
            raise ExportDiffers(
                f"In float16 {path} draws faces that differ by {difference} of 255, at most {MAX_DIFFERENCE} "
                "is allowed: use it as it is."
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(draft.read_bytes())
    return difference


def _draw_eyes(size: int) -> Image:
    chance = random.Random(0)

    def colour() -> tuple[int, int, int]:
        return chance.randrange(256), chance.randrange(256), chance.randrange(256)

    return np.stack([draw_eye(size, skin=colour(), iris=colour()) for _ in range(NUM_EYES)])
