"""What the table of engines and eight bits is made of; nothing here asserts a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from ddmseg.imaging.preprocess import prepare
from ddmseg.imaging.volume import Volume
from ddmseg.models.checkpoint import Card
from ddmseg.models.export.agreement import check_image, compare
from ddmseg.models.export.graph import export_graph
from ddmseg.models.export.runtimes import load_encoder
from ddmseg.models.settings import DataSettings, Settings
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg_lab.speed import quantisation
from ddmseg_lab.speed.quantisation import (
    KEPT_IN_FLOAT,
    MeasuredScan,
    development_scan,
    differences,
    in_eight_bits,
    layer_group,
    with_own_inputs,
)
from ddmseg_lab.statistics import expected_calibration_error
from ddmseg_lab.table import read_rows, read_summary
from installed import need
from toys import tiny_model

LABELS = (0, 2, 41, 53)


@pytest.fixture(scope="module")
def model():
    return tiny_model(dims=3, classes=4)


@pytest.fixture(scope="module")
def card() -> Card:
    settings = Settings(name="toy", data=DataSettings(spacing_mm=8.0, patch=(16, 16, 16)))
    return Card("toy", LABELS, settings_to_dict(settings), checksum="0123456789abcdef")


@pytest.fixture(scope="module")
def prepared():
    """A scan that is on the model's grid already."""
    voxels = np.random.default_rng(0).uniform(0.1, 1, (16, 16, 16)).astype(np.float32)
    scan = Volume(voxels, np.diag([8.0, 8, 8, 1]), "toy head")
    return prepare(scan, spacing_mm=8.0, multiple=8, crop_to_head=False)


@pytest.fixture(scope="module")
def encoding(model):
    with torch.inference_mode():
        return model.encode(check_image(model))


@pytest.fixture(scope="module")
def graph(model) -> bytes:
    need("onnx", "onnxscript", "onnxruntime")
    return export_graph(model)


def operators(data: bytes) -> Counter[str]:
    import onnx

    return Counter(node.op_type for node in onnx.load_from_string(data).graph.node)


@torch.inference_mode()
def test_an_encoding_does_not_differ_from_itself(model, encoding) -> None:
    assert differences(model, encoding, encoding) == {
        "labels_as_torch": 1.0,
        "dice": 1.0,
        "lowest_dice": 1.0,
        "probability_change": 0.0,
        "discrepancy_change": 0.0,
    }


@torch.inference_mode()
def test_differences_are_those_counted_by_hand(model, encoding) -> None:
    logits = torch.full_like(encoding.coarse_logits, -20.0)
    logits[:, 1] = 20.0
    logits[:, 1, :4], logits[:, 2, :4] = -20.0, 20.0  # a quarter is class 2
    other = logits.clone()
    other[:, :, 4] = logits[:, :, 0]  # one more of sixteen slabs
    found = differences(model, replace(encoding, coarse=logits), replace(encoding, coarse=other))
    assert found["labels_as_torch"] == pytest.approx(15 / 16)
    first, second = 2 * 11 / (12 + 11), 2 * 4 / (4 + 5)
    assert found["dice"] == pytest.approx((first + second) / 2)
    assert found["lowest_dice"] == pytest.approx(min(first, second))
    assert found["probability_change"] == pytest.approx(1 / 16)
    assert found["discrepancy_change"] == 0


@torch.inference_mode()
def test_scores_against_the_truth_are_those_counted_by_hand(encoding, prepared) -> None:
    logits = torch.zeros_like(encoding.coarse_logits)
    logits[:, 0], logits[:, 1, :8] = 1.0, 2.0  # the model says structure 2 in one half
    truth = np.zeros((16, 16, 16), np.int32)
    truth[:4] = 2  # it fills a quarter
    scan = MeasuredScan("labelled", prepared, truth, [2])
    scores = scan.scores(replace(encoding, coarse=logits), LABELS)
    assert scores["true_dice"] == pytest.approx(2 * 4 / (4 + 8))
    p = float(torch.softmax(logits, 1)[0, :, 0, 0, 0].max())
    assert scores["ece"] == pytest.approx(abs(p - 0.5), abs=1e-6)  # right in half of eight slabs
    right = torch.arange(100) < 50
    assert scores["ece"] == pytest.approx(
        expected_calibration_error(torch.full((100,), p), right), abs=1e-6
    )


def test_a_development_scan_has_the_structures_in_common(card, data_folder) -> None:
    found = development_scan(card, str(data_folder), 8)
    assert found.name.startswith("malc2012 ")
    assert found.structures == [2, 41, 53]
    assert found.ids.shape == found.prepared.input_grid.shape


def test_layers_belong_to_parts_of_the_network(graph) -> None:
    groups = set(with_own_inputs(graph)[1].values())
    assert groups == {
        *("stem", "down.0", "down.1", "levels.0", "levels.1", "up.0", "joined.0"),
        *("embed", "head"),
    }
    assert set(KEPT_IN_FLOAT) <= {group.partition(".")[0] for group in groups}
    assert layer_group("encoder.embed.weight") == "embed"


def test_what_is_kept_stays_in_32_bits(model, graph) -> None:
    import onnx

    groups = with_own_inputs(graph)[1].values()
    before = operators(graph)
    for keep in (KEPT_IN_FLOAT, (), ("levels.0",)):
        count = sum(not {group, group.partition(".")[0]} & set(keep) for group in groups)
        data = in_eight_bits(graph, check_image(model), keep)
        made = operators(data)
        assert made["QuantizeLinear"] == count
        assert made["DequantizeLinear"] == 2 * count  # of input and weight
        assert all(made[name] == before[name] for name in quantisation.CONVOLUTIONS)
        onnx.checker.check_model(onnx.load_from_string(data))


def test_what_is_rounded_enters_convolutions_alone(model, graph) -> None:
    import onnx

    nodes = onnx.load_from_string(in_eight_bits(graph, check_image(model), ())).graph.node
    rounded = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    readers = [node.op_type for node in nodes for name in node.input if name in rounded]
    assert len(readers) == len(rounded)
    assert set(readers) <= set(quantisation.CONVOLUTIONS)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
@torch.inference_mode()
def test_engines_compute_in_eight_bits_nearly_what_torch_does(name, model, graph, encoding) -> None:
    need("onnxruntime" if name == "onnx" else "openvino")
    image = check_image(model)
    found = {}
    for keep in (("stem", "down.0", "levels.0"), ()):
        found[keep] = compare(
            encoding, load_encoder(name, in_eight_bits(graph, image, keep))(image)
        )
        assert found[keep].labels >= 0.8
        assert found[keep].probability > 0  # it is rounded
    assert max(f.features for f in found.values()) < 0.2
    # the stem is an output: what is kept in 32 bits is not touched
    stem = load_encoder(name, in_eight_bits(graph, image, ("stem",)))(image).stem
    torch.testing.assert_close(stem, encoding.stem, rtol=1e-4, atol=1e-4)


def test_engines_come_first_then_groups_then_all_together(model, card, graph, monkeypatch) -> None:
    monkeypatch.setattr(quantisation, "export_graph", lambda model: graph)
    seen = [(engine, told) for engine, told, _ in quantisation.variants(model, card)]
    assert seen[:3] == [("torch", "none"), ("onnx", "none"), ("openvino", "none")]
    groups = [told for _, told in seen[3:-2]]
    assert {"stem", "head", "down.0", "levels.1"} <= set(groups)
    assert [told for _, told in seen[-2:]] == [quantisation.SHIPPED, quantisation.ALL]


def test_a_stopped_run_goes_on(model, card, prepared, tmp_path, monkeypatch) -> None:
    need("onnx", "onnxscript", "onnxruntime", "openvino")
    asked = []

    def variants(model, card):
        for told in ("none", "stem"):
            yield "torch", told, lambda told=told: asked.append(told) or model.encode

    monkeypatch.setattr(quantisation, "load_weights", lambda path: (model, card))
    scan = MeasuredScan("toy", prepared, np.full((16, 16, 16), 2, np.int32), [2])
    monkeypatch.setattr(quantisation, "development_scan", lambda *_: scan)
    monkeypatch.setattr(quantisation, "variants", variants)
    monkeypatch.setattr(quantisation, "describe_model", lambda card: {"name": card.name})
    arguments = quantisation.Arguments(output=tmp_path, repeats=1)
    quantisation.run(arguments)
    rows = read_rows(tmp_path / "quantisation.tsv")
    quantisation.run(arguments)
    assert asked == ["none", "stem"]
    assert read_summary(tmp_path / "quantisation.json")["rows"] == rows
    assert [row["labels_as_torch"] for row in rows] == ["1", "1"]
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in ("ece", "true_dice"))
