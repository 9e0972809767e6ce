"""Polyphase form of a convolution behind an upsampling: the same numbers for half the multiplications.

Of the four pixels that nearest-neighbour upsampling makes of one, a 3 x 3 convolution meets 2 x 2 different
ones. So one convolution of the large picture is four of the small one, whose 2 x 2 weights are sums of the
3 x 3 ones; each gives one phase, the pixels of every second row and column. Source: Shi et al. 2016, "Is
the deconvolution layer the same as a convolutional layer?"

The phases are woven together with the channels last, where all channels of two pixels move as one: ONNX
Runtime does that several times as fast as its DepthToSpace, which moves number by number.

Letters of shapes: B batch, O channels out, I channels in, H and W height and width of the small picture.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

Weights = npt.NDArray[np.float32]

PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Where in each square of four their pixels lie: row and column."""

_MET = {0: ((0,), (1, 2)), 1: ((0, 1), (2,))}
"""By that row: which rows of the weights meet the first small pixel, and which the second; columns alike."""


def apply_polyphase(model: onnx.ModelProto) -> int:
    """Rewrites each 3 x 3 convolution behind an upsampling by 2, and tells how many there were.

    The weights must be float32 initializers, the sizes known. A leaky ReLU behind a convolution goes
    with it.
    """
    graph = model.graph
    shapes = _known_shapes(model)
    values = {each.name: each for each in graph.initializer}
    nodes = list(graph.node)
    given = {each.name for each in graph.output}
    number = 0
    for conv in graph.node:
        if not _keeps_size(conv, values) or given & {conv.input[0], conv.output[0]}:
            continue
        resize = _maker_of(conv.input[0], nodes)
        if resize is None or not _doubles(resize, values):
            continue
        height, width = shapes.get(resize.input[0], (0, 0))
        if not height or not width:
            continue
        after = _only_taker_of(conv.output[0], nodes)
        after = after if after is not None and after.op_type == "LeakyRelu" else None
        kernel = values.pop(conv.input[1])
        outputs, made, weights = _phases_of(conv, after, resize.input[0], kernel)
        whole = (after or conv).output[0]
        woven, sizes = _woven(outputs, whole, (height, width, kernel.dims[0]))
        made += woven
        values |= {each.name: each for each in (*weights, *sizes)}
        at = nodes.index(conv)
        nodes[at : at + 1] = made
        for gone in (resize, after):
            if gone is not None:
                nodes.remove(gone)
        number += 1
    taken = {name for node in nodes for name in node.input}
    # The shapes in between are those of nodes that are gone.
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(each for name, each in values.items() if name in taken)
    return number


def phases_of(weights_OI33: Weights) -> list[Weights]:
    """The weights O x I x 2 x 2 of each phase."""
    rows = {row: np.stack([weights_OI33[:, :, met].sum(2) for met in _MET[row]], 2) for row in _MET}
    return [np.stack([rows[row][..., met].sum(3) for met in _MET[column]], 3) for row, column in PHASES]


def _phases_of(
    conv: NodeProto, after: NodeProto | None, source: str, weights: TensorProto
) -> tuple[list[str], list[NodeProto], list[TensorProto]]:
    """The phases, the nodes that make them, and the weights of these."""
    nodes, values, outputs = [], [], []
    for (row, column), phase in zip(PHASES, phases_of(numpy_helper.to_array(weights)), strict=True):
        output, name = f"{conv.output[0]}.{row}{column}", f"{weights.name}.{row}{column}"
        values.append(numpy_helper.from_array(phase, name))
        pads = [1 - row, 1 - column, row, column]  # above and left, below and right
        nodes.append(
            helper.make_node("Conv", [source, name, *conv.input[2:]], [output], f"node_{output}", pads=pads)
        )
        if after is not None:
            output, before = f"{after.output[0]}.{row}{column}", output
            nodes.append(
                helper.make_node("LeakyRelu", [before], [output], f"node_{output}", **_attributes(after))
            )
        outputs.append(output)
    return outputs, nodes, values


def _woven(
    phases: list[str], whole: str, size: tuple[int, int, int]
) -> tuple[list[NodeProto], list[TensorProto]]:
    """The nodes that make of B x O x H x W phases the whole, B x O x 2H x 2W, and their sizes."""
    height, width, channels = size
    # B x H x W x (row, column, O), B·H x W x row x (column, O), B·H x row x W x (column, O), B x 2H x 2W x O
    names = [f"{whole}.{step}" for step in ("phases", "last", "pairs", "rows", "woven")]
    beside, last, pairs, rows, woven = names
    in_pairs = numpy_helper.from_array(np.array([-1, width, 2, 2 * channels], np.int64), f"{pairs}.size")
    picture_size = np.array([-1, 2 * height, 2 * width, channels], np.int64)
    as_picture = numpy_helper.from_array(picture_size, f"{woven}.size")
    nodes = [
        helper.make_node("Concat", phases, [beside], f"node_{beside}", axis=1),
        helper.make_node("Transpose", [beside], [last], f"node_{last}", perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", [last, in_pairs.name], [pairs], f"node_{pairs}"),
        helper.make_node("Transpose", [pairs], [rows], f"node_{rows}", perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", [rows, as_picture.name], [woven], f"node_{woven}"),
        helper.make_node("Transpose", [woven], [whole], f"node_{whole}", perm=[0, 3, 1, 2]),
    ]
    return nodes, [in_pairs, as_picture]


def _known_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Height and width of each picture of four dimensions, 0 where they are unknown."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {}
    for each in (*graph.input, *graph.value_info):
        dims = each.type.tensor_type.shape.dim
        if len(dims) == 4:
            shapes[each.name] = dims[2].dim_value, dims[3].dim_value
    return shapes


def _maker_of(name: str, nodes: list[NodeProto]) -> NodeProto | None:
    """The node whose output this is, if one node alone takes it."""
    if _only_taker_of(name, nodes) is None:
        return None
    return next((node for node in nodes if name in node.output), None)


def _only_taker_of(name: str, nodes: list[NodeProto]) -> NodeProto | None:
    takers = [node for node in nodes if name in node.input]
    return takers[0] if len(takers) == 1 else None


def _keeps_size(conv: NodeProto, values: Mapping[str, TensorProto]) -> bool:
    """Whether it is a 3 x 3 convolution with a border of 1, and nothing unusual."""
    if conv.op_type != "Conv" or conv.input[1] not in values:
        return False
    usual = {"kernel_shape": [3, 3], "pads": [1] * 4, "strides": [1, 1], "dilations": [1, 1], "group": 1}
    return {name: value for name, value in _attributes(conv).items() if name in usual} == usual


def _doubles(resize: NodeProto, values: Mapping[str, TensorProto]) -> bool:
    """Whether it makes four pixels like it of each."""
    if resize.op_type != "Resize" or len(resize.input) != 3 or resize.input[2] not in values:
        return False
    usual = {"mode": b"nearest", "nearest_mode": b"floor", "coordinate_transformation_mode": b"asymmetric"}
    scales = numpy_helper.to_array(values[resize.input[2]]).tolist()
    return scales == [1, 1, 2, 2] and _attributes(resize).items() >= usual.items()


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}
