"""Eight-bit convolutions: ranges from calibration images, then a graph with them.

Only what enters a convolution, and its weights, are rounded: residual paths,
normalisations and all outputs stay in 32 bits. Input: 256 even steps over its
calibrated range; weights: 255 steps symmetric about 0 for each output channel.

Source: Jacob et al. 2018, arXiv 1712.05877; pairs of QuantizeLinear and DequantizeLinear
as in the ONNX specification, opset 13 and later.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddmseg.errors import UsageError
from ddmseg.imaging.nifti import read_volume
from ddmseg.inference.scan_encoding import prepare_scan
from ddmseg.models.checkpoint import Card
from ddmseg.networks.engine_form import EngineForm
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg_lab.bench.scans import demo_head

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

Range = tuple[float, float]

TAIL = 1e-4
"""Share of values cut off at each end of a range: a few outliers must not coarsen the rest."""
MOST_VALUES = 1_000_000
"""Of one activation that its range is taken from."""
KEPT_IN_FLOAT = ("stem", "up", "joined", "head")
"""Groups of layers that lose most, and stay in 32 bits unless asked otherwise."""
TILES = 6
"""That calibrate."""
_GROUP = re.compile(r"^encoder\.(?P<part>[a-z]+)(?:\.(?P<number>\d+))?")


def calibration_images(model: DiscrepancyDiffusionSegmenter, card: Card) -> list[Tensor]:
    """Return tiles of the demo head on the model's grid, from corner to corner (``1 1 *tile``)."""
    if model.dims != 3 or model.image_encoder.channels != 1 or card.works_on_crops:
        raise UsageError(
            f"model: got {card.name}; eight bits are calibrated on the demo head, for models of "
            "whole heads with one contrast in 3-D"
        )
    head = prepare_scan(card, read_volume(demo_head()), multiple=model.multiple).image
    size = [min(n, p) for n, p in zip(head.shape, card.settings["data"]["patch"], strict=True)]
    tiles = []
    for tile in range(TILES):
        # thirds, so that the diagonal does not miss the sides
        share = [((tile * step) % TILES) / (TILES - 1) for step in (1, 2, 3)]
        starts = [
            int(s * (n - side)) // model.multiple * model.multiple
            for s, n, side in zip(share, head.shape, size, strict=True)
        ]
        box = tuple(slice(a, a + side) for a, side in zip(starts, size, strict=True))
        tiles.append(torch.from_numpy(np.ascontiguousarray(head[box]))[None, None])
    return tiles


@torch.inference_mode()
def calibrate(
    model: DiscrepancyDiffusionSegmenter, images: Iterable[Tensor], *, tail: float = TAIL
) -> dict[str, Range]:
    """Return the range of what enters each convolution, by the layer's name.

    Args:
        images: of the kind it is for (``b c *grid``).
        tail: share of values cut off at each end, in [0, 0.5).
    """
    form = EngineForm(model.image_encoder, model.dims)
    ranges: dict[str, Range] = {}

    def watch(name: str) -> Any:
        def record(layer: object, inputs: tuple[Tensor, ...]) -> None:
            low, high = _bounds(inputs[0], tail)
            before = ranges.get(name, (low, high))
            ranges[name] = (min(low, before[0]), max(high, before[1]))

        return record

    for name, layer in form.layers().items():
        layer.register_forward_pre_hook(watch(name))
    for image in images:
        form(image)
    return ranges


def layer_group(name: str) -> str:
    """Return the part of the network that a layer belongs to.

    >>> layer_group("encoder.levels.1.0.first.convolution"), layer_group("encoder.head.logits")
    ('levels.1', 'head')
    """
    found = _GROUP.match(name)
    if found is None:
        raise ValueError(f"{name}: no layer of the encoder")
    return found["part"] if found["number"] is None else f"{found['part']}.{found['number']}"


def quantise(
    graph: bytes, ranges: Mapping[str, Range], *, keep: Sequence[str] = KEPT_IN_FLOAT
) -> bytes:
    """Return a graph whose convolutions compute in eight bits.

    Args:
        ranges: of :func:`calibrate` for the same model.
        keep: groups of layers that stay in 32 bits; ``up`` stands for ``up.0``, ``up.1`` ...
    """
    import onnx

    model: ModelProto = onnx.load_from_string(graph)
    groups = {name: layer_group(name) for name in ranges}
    kept = {n for n, group in groups.items() if {group, group.partition(".")[0]} & set(keep)}
    chosen = {name: bounds for name, bounds in ranges.items() if name not in kept}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        name = node.input[1].removesuffix(".weight") if len(node.input) > 1 else ""
        if node.op_type in ("Conv", "ConvTranspose") and name in chosen:
            nodes += _rounded_input(model.graph, node, name, chosen[name])
            nodes += _rounded_weight(model.graph, node, weights[node.input[1]])
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    data: bytes = model.SerializeToString()
    return data


def _rounded_input(graph: GraphProto, node: NodeProto, name: str, bounds: Range) -> list[NodeProto]:
    """Have a convolution see its input in 256 steps."""
    from onnx import helper, numpy_helper

    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)  # zero must be exact: it pads
    scale = max(high - low, 1e-8) / 255
    zero = round(-low / scale)
    labels = [f"{name}.input_{part}" for part in ("scale", "zero", "rounded", "value")]
    for value, label in zip((np.float32(scale), np.uint8(zero)), labels, strict=False):
        graph.initializer.append(numpy_helper.from_array(np.array(value), label))
    steps = helper.make_node("QuantizeLinear", [node.input[0], *labels[:2]], [labels[2]])
    back = helper.make_node("DequantizeLinear", [labels[2], *labels[:2]], [labels[3]])
    node.input[0] = labels[3]
    return [steps, back]


def _rounded_weight(graph: GraphProto, node: NodeProto, stored: Any) -> list[NodeProto]:
    """Store a convolution's weight in 255 steps for each output channel."""
    from onnx import helper, numpy_helper

    weight: NDArray[np.float32] = numpy_helper.to_array(stored)
    axis = 0 if node.op_type == "Conv" else 1
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=others, keepdims=True), 1e-8) / 127
    rounded = np.round(weight / scale).astype(np.int8)
    labels = [f"{stored.name}_{part}" for part in ("rounded", "scale", "zero", "value")]
    parts = (rounded, scale.ravel().astype(np.float32), np.zeros(scale.size, np.int8))
    for values, label in zip(parts, labels, strict=False):
        graph.initializer.append(numpy_helper.from_array(values, label))
    graph.initializer.remove(stored)
    node.input[1] = labels[3]
    return [helper.make_node("DequantizeLinear", labels[:3], [labels[3]], axis=axis)]


def _bounds(values: Tensor, tail: float) -> Range:
    """Return the range of a tensor without its tails."""
    flat = values.detach().flatten()
    some = flat[:: max(1, flat.numel() // MOST_VALUES)].sort().values
    cut = math.floor(tail * some.numel())
    return float(some[cut]), float(some[-1 - cut])
