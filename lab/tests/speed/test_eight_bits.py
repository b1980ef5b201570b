"""Eight bits: ranges by hand, rounding by hand, and what stays in 32 bits."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from ddmseg.errors import UsageError
from ddmseg.models.checkpoint import Card
from ddmseg.models.export.agreement import check_image, compare
from ddmseg.models.export.graph import export_graph
from ddmseg.models.export.runtimes import load_encoder
from ddmseg.models.settings import DataSettings, Settings
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg.networks.engine_form import EngineForm
from ddmseg_lab.speed.eight_bits import (
    KEPT_IN_FLOAT,
    _bounds,
    calibrate,
    calibration_images,
    layer_group,
    quantise,
)
from installed import need
from toys import tiny_model

onnx = pytest.importorskip("onnx", reason="the extra onnx or openvino is not installed")


@pytest.fixture(scope="module")
def model():
    return tiny_model(dims=3, classes=4)


@pytest.fixture(scope="module")
def graph(model) -> bytes:
    need("onnx", "onnxscript")
    return export_graph(model)


@pytest.fixture(scope="module")
def ranges(model):
    return calibrate(model, [check_image(model)])


def operators(data: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(data).graph.node)


def card_of(data: DataSettings) -> Card:
    return Card("toy", (0, 17), settings_to_dict(Settings(name="toy", data=data)))


def test_a_range_leaves_out_the_tails() -> None:
    values = torch.arange(1000.0)
    assert _bounds(values, 0.0) == (0.0, 999.0)
    assert _bounds(values, 0.01) == (10.0, 989.0)


def test_every_layer_has_a_range_that_holds_what_it_saw(model, ranges) -> None:
    assert set(ranges) == set(EngineForm(model.image_encoder, 3).layers())
    image = check_image(model)
    low, high = ranges["encoder.stem.convolution"]
    assert float(image.min()) <= low < high <= float(image.max())
    assert all(low < high for low, high in ranges.values())


def test_ranges_of_several_images_hold_all_of_them(model) -> None:
    small, large = torch.zeros(1, 1, 8, 8, 8), torch.zeros(1, 1, 8, 8, 8)
    small[..., 0], large[..., 0] = -1.0, 5.0
    ranges = calibrate(model, [small, large], tail=0.0)
    assert ranges["encoder.stem.convolution"] == (-1.0, 5.0)


def test_layers_belong_to_parts_of_the_network(ranges) -> None:
    groups = set(map(layer_group, ranges))
    assert groups == {
        *("stem", "down.0", "down.1", "levels.0", "levels.1", "up.0", "joined.0"),
        *("embed", "head"),
    }
    assert set(KEPT_IN_FLOAT) <= {group.partition(".")[0] for group in groups}
    with pytest.raises(ValueError, match="no layer of the encoder"):
        layer_group("denoiser.enter")


def test_what_is_kept_stays_in_32_bits(graph, ranges) -> None:
    assert quantise(graph, {}) == onnx.load_from_string(graph).SerializeToString()
    groups = [layer_group(name) for name in ranges]
    for keep in (KEPT_IN_FLOAT, (), ("levels.0",)):
        count = sum(not {group, group.partition(".")[0]} & set(keep) for group in groups)
        made = operators(quantise(graph, ranges, keep=keep))
        assert made["QuantizeLinear"] == count
        assert made["DequantizeLinear"] == 2 * count
    onnx.checker.check_model(onnx.load_from_string(quantise(graph, ranges, keep=())))


def test_weights_are_rounded_to_their_channels_steps(model, graph, ranges) -> None:
    from onnx import numpy_helper

    made = onnx.load_from_string(quantise(graph, ranges, keep=()))
    stored = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    layers = EngineForm(model.image_encoder, 3).layers()
    for name, layer in layers.items():
        weight = layer.weight.detach().numpy()
        axis = 1 if isinstance(layer, torch.nn.ConvTranspose3d) else 0
        rounded, scale = (stored[f"{name}.weight_{part}"] for part in ("rounded", "scale"))
        assert rounded.dtype == np.int8
        assert scale.shape == (weight.shape[axis],)
        assert np.abs(rounded).max() == 127
        room = [-1 if i == axis else 1 for i in range(weight.ndim)]
        steps = scale.reshape(room)
        assert np.all(np.abs(rounded * steps - weight) <= steps * 0.501)
        assert f"{name}.weight" not in stored


def test_zero_is_exact_for_the_padding(graph, model) -> None:
    from onnx import numpy_helper

    layers = EngineForm(model.image_encoder, 3).layers()
    for bounds in ((-1.0, 3.0), (2.0, 5.0), (-3.0, -1.0), (0.0, 0.0)):
        made = onnx.load_from_string(quantise(graph, dict.fromkeys(layers, bounds), keep=()))
        stored = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
        scale = float(stored["encoder.embed.input_scale"])
        zero = int(stored["encoder.embed.input_zero"])
        assert (0 - zero) * scale <= min(bounds[0], 0.0) + scale
        assert (255 - zero) * scale >= max(bounds[1], 0.0) - scale


@pytest.mark.parametrize("name", ["onnx", "openvino"])
@torch.inference_mode()
def test_engines_compute_in_eight_bits_nearly_what_torch_does(name, model, graph, ranges) -> None:
    need("onnxruntime" if name == "onnx" else "openvino")
    image = check_image(model)
    ours = model.encode(image)
    found = {}
    for keep in (("stem", "down.0", "levels.0"), ()):
        made = quantise(graph, ranges, keep=keep)
        theirs = load_encoder(name, made)(image)
        found[keep] = compare(ours, theirs)
        assert found[keep].labels >= 0.8
        assert found[keep].probability > 0  # it is rounded
    assert max(f.features for f in found.values()) < 0.2
    # the stem is an output: what is kept in 32 bits is not touched
    partly = quantise(graph, ranges, keep=("stem",))
    stem = load_encoder(name, partly)(image).stem
    torch.testing.assert_close(stem, ours.stem, rtol=1e-4, atol=1e-4)


def test_calibration_images_are_tiles_of_the_head() -> None:
    model = tiny_model(dims=3, classes=2)
    images = calibration_images(model, card_of(DataSettings(spacing_mm=8.0, patch=(8, 16, 8))))
    assert {tuple(image.shape) for image in images} == {(1, 1, 8, 16, 8)}
    assert len({float(image.sum()) for image in images}) == len(images)
    assert sum(float(image.mean()) > 0.1 for image in images) >= 4


@pytest.mark.parametrize(("dims", "kind"), [(2, "label_maps"), (3, "hippocampus")])
def test_a_model_that_the_demo_head_is_no_example_of_is_refused(dims, kind) -> None:
    model = tiny_model(dims=dims, classes=2)
    with pytest.raises(UsageError, match="got toy; eight bits are calibrated on the demo head"):
        calibration_images(model, card_of(DataSettings(kind=kind)))
