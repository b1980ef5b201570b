"""What the table of engines and eight bits is made of; nothing here asserts a time."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from benchmarks.speed import quantisation

from ddmseg.pipeline.checkpoint import Card
from ddmseg.pipeline.config import DataSettings, Settings
from ddmseg.pipeline.engines.agreement import check_image
from ddmseg.pipeline.engines.engine import TorchEngine
from ddmseg.pipeline.evidence.records import RawTable
from ddmseg.pipeline.settings_reader import settings_to_dict
from toys import tiny_model


@pytest.fixture(scope="module")
def bench() -> quantisation.Bench:
    model = tiny_model(dims=3, classes=4)
    settings = Settings(name="toy", data=DataSettings(spacing_mm=8.0, patch=(16, 16, 16)))
    card = Card("toy", (0, 2, 41, 53), settings_to_dict(settings), checksum="0123456789abcdef")
    return quantisation.Bench(model, card, check_image(model), "toy head", 1)


@torch.inference_mode()
def test_an_encoding_does_not_differ_from_itself(bench) -> None:
    encoding = bench.model.encode(bench.image)
    assert quantisation.differences(bench.model, encoding, encoding) == {
        "labels_as_torch": 1.0,
        "dice": 1.0,
        "lowest_dice": 1.0,
        "probability_change": 0.0,
        "discrepancy_change": 0.0,
    }


@torch.inference_mode()
def test_differences_are_those_counted_by_hand(bench) -> None:
    encoding = bench.model.encode(bench.image)
    logits = torch.full_like(encoding.coarse_logits, -20.0)
    logits[:, 1] = 20.0
    logits[:, 1, :4], logits[:, 2, :4] = -20.0, 20.0  # a quarter is class 2
    other = logits.clone()
    other[:, :, 4] = logits[:, :, 0]  # one more of sixteen slabs
    found = quantisation.differences(
        bench.model,
        replace(encoding, coarse_logits=logits),
        replace(encoding, coarse_logits=other),
    )
    assert found["labels_as_torch"] == pytest.approx(15 / 16)
    first, second = 2 * 11 / (12 + 11), 2 * 4 / (4 + 5)
    assert found["dice"] == pytest.approx((first + second) / 2)
    assert found["lowest_dice"] == pytest.approx(min(first, second))
    assert found["probability_change"] == pytest.approx(1 / 16)
    assert found["discrepancy_change"] == 0


def test_a_row_has_every_column(bench) -> None:
    row = bench.row(TorchEngine(bench.model), quantisation.NOTHING, 0.0)
    assert tuple(row) == quantisation.COLUMNS
    assert row["dice"] == 1
    assert row["weights"] == "0123456789ab"


def test_every_group_of_layers_is_measured(bench, monkeypatch, tmp_path) -> None:
    """The order of the table: engines, then one group after the other, then all together."""
    for module in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(module)
    monkeypatch.setattr(quantisation, "calibration_images", lambda model, card: [bench.image])
    monkeypatch.setattr(quantisation, "make_graph", lambda *_, **__: b"")
    monkeypatch.setattr(quantisation, "quantise", lambda graph, ranges, keep: bytes([len(keep)]))
    seen = []

    def measured(bench, name: str, graph: bytes, eight_bit: str) -> dict:
        seen.append((name, eight_bit, len(graph) and graph[0]))
        return {}

    monkeypatch.setattr(quantisation, "measured", measured)
    table = RawTable(tmp_path / "table.tsv", quantisation.COLUMNS, ["0123456789ab"])
    assert len(list(quantisation.rows(bench, table))) == len(seen) + 1
    assert seen[:2] == [("onnx", "none", 0), ("openvino", "none", 0)]
    groups = [told for _, told, _ in seen[2:-2]]
    assert {"stem", "head", "down.0", "levels.1"} <= set(groups)
    assert all(kept == len(groups) - 1 for _, _, kept in seen[2:-2])
    assert [told for _, told, _ in seen[-2:]] == [quantisation.SHIPPED, quantisation.ALL]
    assert seen[-1][2] == 0


def test_rows_that_are_there_are_not_measured_again(bench, monkeypatch, tmp_path) -> None:
    for module in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(module)
    monkeypatch.setattr(quantisation, "calibration_images", lambda model, card: [bench.image])
    monkeypatch.setattr(quantisation, "make_graph", lambda *_, **__: b"")
    monkeypatch.setattr(quantisation, "quantise", lambda graph, ranges, keep: b"")
    blank = dict.fromkeys(quantisation.COLUMNS, 0.5)

    def measured(bench, name: str, graph: bytes, eight_bit: str) -> dict:
        told = {"engine": name, "eight_bit": eight_bit, "scan": bench.scan}
        return {**blank, **told, "weights": "0123456789ab"}

    monkeypatch.setattr(quantisation, "measured", measured)
    path = tmp_path / "table.tsv"
    table = RawTable(path, quantisation.COLUMNS, ["0123456789ab"])
    for row in itertools.islice(quantisation.rows(bench, table), 5):
        table.add([row])
    again = RawTable(path, quantisation.COLUMNS, ["0123456789ab"])
    rest = list(quantisation.rows(bench, again))
    assert len(again.rows) == 5
    assert not {row["eight_bit"] for row in rest} & {"none", "stem"}
    assert {quantisation.SHIPPED, quantisation.ALL} <= {row["eight_bit"] for row in rest}
