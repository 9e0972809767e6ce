"""Small real eye finders for the tests: ONNX files of the finder's contract that always answer the same."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Row = tuple[float, float, float, float, float, float, float, float, float]
"""Logit, x, y, distance, probability of the left eye, cosine and sine of the roll, partner x and y."""


def seen_right(x: float, y: float, distance: float, logit: float = 3.0) -> Row:
    """An upright head's right eye: its partner is to the right of it in the picture."""
    return (logit, x, y, distance, 0.05, 1.0, 0.0, 1.0, 0.0)


def seen_left(x: float, y: float, distance: float, logit: float = 3.0) -> Row:
    """An upright head's left eye."""
    return (logit, x, y, distance, 0.95, 1.0, 0.0, -1.0, 0.0)


def tiny_finder(path: Path, rows: Sequence[Row], **metadata_overrides: str | None) -> Path:
    """Writes a finder that sees `rows` in every picture; `metadata_overrides` as in `tests.fakes`."""
    answer = numpy_helper.from_array(np.array(rows, np.float32).reshape(-1, 9), "rows")
    # The picture is used, if only for nothing: a graph must not have an input that leads nowhere.
    nodes = [
        helper.make_node("ReduceMax", ["picture"], ["brightest"], keepdims=0),
        helper.make_node("Cast", ["brightest"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["as_float", "zero"], ["nothing"]),
        helper.make_node("Add", ["rows", "nothing"], ["candidates"]),
    ]
    zero = numpy_helper.from_array(np.array(0.0, np.float32), "zero")
    graph = helper.make_graph(
        nodes,
        "tiny_finder",
        [helper.make_tensor_value_info("picture", TensorProto.UINT8, [1, "height", "width", 3])],
        [helper.make_tensor_value_info("candidates", TensorProto.FLOAT, [len(rows), 9])],
        [answer, zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    metadata: dict[str, str | None] = {
        "contract_version": "3", "part": "eye_finder", "name": "tiny_finder", "version": "0",
        "training_data": "none", "licence_class": "open", "commit": "none", "date": "2026-01-01",
        "threshold": "0.5", "score_weights": "[1, 0, 0, 0, 0, 0, 0, 0]", "metrics": "{}",
    }  # fmt: skip
    written = {f"eye2face.{k}": v for k, v in (metadata | metadata_overrides).items() if v is not None}
    helper.set_model_props(model, written)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
