"""Convolutions behind an upsampling work on the small picture, and give the same."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional

from training.export.polyphase import apply_polyphase, phases_of

NUM_IN, NUM_OUT, HEIGHT, WIDTH = 5, 7, 6, 4

Array = npt.NDArray[np.float32]


def draw_numbers(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def model_of(
    *,
    resize: dict[str, Any] | None = None,
    scales: tuple[float, ...] = (1, 1, 2, 2),
    conv: dict[str, Any] | None = None,
    kernel: int = 3,
    leaky: bool = True,
    looked_at: bool = False,
    size: tuple[int | None, int | None] = (HEIGHT, WIDTH),
) -> onnx.ModelProto:
    """Upsampling, convolution, leaky ReLU; `looked_at` takes the enlarged picture out, too."""
    nearest: dict[str, Any] = {
        "mode": "nearest",
        "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric",
    }
    usual: dict[str, Any] = {"kernel_shape": [kernel] * 2, "pads": [1] * 4, "strides": [1] * 2}
    nodes = [
        helper.make_node("Resize", ["small", "", "scales"], ["large"], **(nearest | (resize or {}))),
        helper.make_node(
            "Conv",
            ["large", "weights", "bias"],
            ["seen"],
            group=1,
            dilations=[1, 1],
            **(usual | (conv or {})),
        ),
        helper.make_node("LeakyRelu" if leaky else "Relu", ["seen"], ["out"]),
    ]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None] * 4)]
    if looked_at:
        outputs.append(helper.make_tensor_value_info("looked_at", TensorProto.FLOAT, [None] * 4))
        nodes.append(helper.make_node("Relu", ["large"], ["looked_at"]))
    values = [
        numpy_helper.from_array(draw_numbers(NUM_OUT, NUM_IN, kernel, kernel), "weights"),
        numpy_helper.from_array(draw_numbers(NUM_OUT), "bias"),
        numpy_helper.from_array(np.array(scales, np.float32), "scales"),
    ]
    small = helper.make_tensor_value_info("small", TensorProto.FLOAT, [None, NUM_IN, *size])
    graph = helper.make_graph(nodes, "graph", [small], outputs, values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model: onnx.ModelProto, small: Array) -> Array:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["out"], {"small": small})[0])


@pytest.mark.parametrize("leaky", [True, False])
def test_the_small_picture_gives_what_the_large_one_gave(leaky: bool) -> None:
    model, small = model_of(leaky=leaky), draw_numbers(2, NUM_IN, HEIGHT, WIDTH)
    expected = run(model, small)
    assert apply_polyphase(model) == 1
    assert [node.op_type for node in model.graph.node].count("Conv") == 4
    assert "Resize" not in [node.op_type for node in model.graph.node]
    assert {each.name for each in model.graph.initializer}.isdisjoint({"scales", "weights"})
    assert run(model, small) == pytest.approx(expected, abs=1e-5)


def test_each_picture_of_a_batch_is_woven_by_itself() -> None:
    model, small = model_of(), draw_numbers(3, NUM_IN, HEIGHT, WIDTH)
    apply_polyphase(model)
    alone = [run(model, small[i : i + 1]) for i in range(3)]
    assert run(model, small) == pytest.approx(np.concatenate(alone), abs=1e-6)


def test_the_weights_of_a_phase_are_those_that_torch_would_need() -> None:
    weights, small = (
        draw_numbers(NUM_OUT, NUM_IN, 3, 3),
        torch.from_numpy(draw_numbers(1, NUM_IN, HEIGHT, WIDTH)),
    )
    large = functional.conv2d(
        functional.interpolate(small, scale_factor=2), torch.from_numpy(weights), padding=1
    )
    last = functional.conv2d(functional.pad(small, (0, 1, 0, 1)), torch.from_numpy(phases_of(weights)[3]))
    assert torch.allclose(last, large[:, :, 1::2, 1::2], atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        {"resize": {"mode": "linear"}},
        {"resize": {"nearest_mode": "ceil"}},
        {"scales": (1, 1, 2, 1)},
        {"scales": (1, 1, 3, 3)},
        {"conv": {"strides": [2, 2]}},
        {"conv": {"pads": [0, 0, 0, 0]}},
        {"kernel": 5},
        {"looked_at": True},
        {"size": (None, WIDTH)},
        {"size": (HEIGHT, None)},
    ],
    ids=str,
)
def test_what_is_no_such_convolution_stays_as_it_is(other: dict[str, Any]) -> None:
    model = model_of(**other)
    before = model.SerializeToString()
    assert apply_polyphase(model) == 0
    assert model.SerializeToString() == before
