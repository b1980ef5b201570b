"""What the table of engines and eight bits is made of; nothing here asserts a time."""

from __future__ import annotations

import itertools
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from ddmseg.errors import UsageError
from ddmseg.imaging.preprocess import prepare
from ddmseg.imaging.volume import Volume
from ddmseg.models.checkpoint import Card
from ddmseg.models.export.agreement import check_image
from ddmseg.models.settings import DataSettings, Settings
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg_lab.speed import quantisation
from ddmseg_lab.speed.quantisation import MeasuredScan, Truth, differences, find_scan, truth_of
from ddmseg_lab.statistics import expected_calibration_error
from ddmseg_lab.table import RawTable
from installed import need
from toys import tiny_model


@pytest.fixture(scope="module")
def bench() -> quantisation.Bench:
    model = tiny_model(dims=3, classes=4)
    settings = Settings(name="toy", data=DataSettings(spacing_mm=8.0, patch=(16, 16, 16)))
    card = Card("toy", (0, 2, 41, 53), settings_to_dict(settings), checksum="0123456789abcdef")
    scan = MeasuredScan("toy head", check_image(model))
    return quantisation.Bench(model, card, scan, 1)


@torch.inference_mode()
def test_an_encoding_does_not_differ_from_itself(bench) -> None:
    encoding = bench.model.encode(bench.scan.image)
    assert differences(bench.model, encoding, encoding) == {
        "labels_as_torch": 1.0,
        "dice": 1.0,
        "lowest_dice": 1.0,
        "probability_change": 0.0,
        "discrepancy_change": 0.0,
    }


@torch.inference_mode()
def test_differences_are_those_counted_by_hand(bench) -> None:
    encoding = bench.model.encode(bench.scan.image)
    logits = torch.full_like(encoding.coarse_logits, -20.0)
    logits[:, 1] = 20.0
    logits[:, 1, :4], logits[:, 2, :4] = -20.0, 20.0  # a quarter is class 2
    other = logits.clone()
    other[:, :, 4] = logits[:, :, 0]  # one more of sixteen slabs
    found = differences(
        bench.model, replace(encoding, coarse=logits), replace(encoding, coarse=other)
    )
    assert found["labels_as_torch"] == pytest.approx(15 / 16)
    first, second = 2 * 11 / (12 + 11), 2 * 4 / (4 + 5)
    assert found["dice"] == pytest.approx((first + second) / 2)
    assert found["lowest_dice"] == pytest.approx(min(first, second))
    assert found["probability_change"] == pytest.approx(1 / 16)
    assert found["discrepancy_change"] == 0


def test_a_row_has_every_column(bench) -> None:
    row = bench.row("torch", bench.model.encode, quantisation.NOTHING, 0.0)
    assert tuple(row) == quantisation.COLUMNS
    assert row["dice"] == 1
    assert np.isnan(row["ece"])
    assert np.isnan(row["true_dice"])
    assert row["weights"] == "0123456789ab"


@pytest.fixture(scope="module")
def prepared():
    """A scan that is on the model's grid already."""
    voxels = np.random.default_rng(0).uniform(0.1, 1, (16, 16, 16)).astype(np.float32)
    scan = Volume(voxels, np.diag([8.0, 8, 8, 1]), "toy head")
    return prepare(scan, spacing_mm=8.0, multiple=8, crop_to_head=False)


@torch.inference_mode()
def test_scores_against_the_truth_are_those_counted_by_hand(bench, prepared) -> None:
    encoding = bench.model.encode(bench.scan.image)
    logits = torch.zeros_like(encoding.coarse_logits)
    logits[:, 0], logits[:, 1, :8] = 1.0, 2.0  # the model says structure 2 in one half
    truth = np.zeros((16, 16, 16), np.int32)
    truth[:4] = 2  # it fills a quarter
    scores = Truth(truth, (2,), prepared).scores(
        replace(encoding, coarse=logits), bench.card.labels
    )
    assert scores["true_dice"] == pytest.approx(2 * 4 / (4 + 8))
    p = float(torch.softmax(logits, 1)[0, :, 0, 0, 0].max())
    assert scores["ece"] == pytest.approx(abs(p - 0.5), abs=1e-6)  # right in half of eight slabs
    right = torch.arange(100) < 50
    assert scores["ece"] == pytest.approx(
        expected_calibration_error(torch.full((100,), p), right), abs=1e-6
    )


@torch.inference_mode()
def test_a_row_has_the_scores_of_a_scan_with_labels(bench, prepared) -> None:
    truth = truth_of(bench.card, prepared, np.full((16, 16, 16), 2, np.int32))
    assert truth.structures == (2,)
    scan = MeasuredScan("labelled", bench.scan.image, truth)
    row = replace(bench, scan=scan).row("torch", bench.model.encode, quantisation.NOTHING, 0.0)
    assert 0 <= row["ece"] <= 1
    assert 0 <= row["true_dice"] <= 1


def test_scored_is_what_both_draw(bench, prepared) -> None:
    ids = np.zeros((16, 16, 16), np.int32)
    ids[0], ids[1], ids[2] = 2, 53, 999
    assert truth_of(bench.card, prepared, ids).structures == (2, 53)


def test_labels_of_another_grid_are_refused(bench, prepared) -> None:
    with pytest.raises(UsageError, match=r"shape \(4, 4, 4\); the scan has \(16, 16, 16\)"):
        truth_of(bench.card, prepared, np.zeros((4, 4, 4), np.int32))


def test_labels_belong_to_a_scan_that_is_named(bench, tmp_path) -> None:
    with pytest.raises(UsageError, match="name the scan with --scan"):
        find_scan(bench.card, None, tmp_path / "labels.nii.gz", None, multiple=8)


def test_a_scan_of_ones_own_comes_with_or_without_labels(bench, tmp_path) -> None:
    voxels = np.random.default_rng(0).uniform(0.1, 1, (16, 16, 16)).astype(np.float32)
    ids = np.full((16, 16, 16), 41, np.int16)
    for name, data in (("scan", voxels), ("labels", ids)):
        image = nib.Nifti1Image(data, np.diag([8.0, 8, 8, 1]))
        nib.save(image, tmp_path / f"{name}.nii.gz")
    scan, labels = tmp_path / "scan.nii.gz", tmp_path / "labels.nii.gz"
    with_labels = find_scan(bench.card, scan, labels, "not looked at", multiple=8)
    assert with_labels.name == "scan"
    assert with_labels.truth.structures == (41,)
    assert find_scan(bench.card, scan, None, "not looked at", multiple=8).truth is None


def test_without_data_the_demo_scan_is_measured_and_has_no_truth(bench) -> None:
    found = find_scan(bench.card, None, None, None, multiple=8)
    assert (found.name, found.truth) == ("colin27_t1", None)


def test_a_development_scan_has_the_structures_in_common(bench, data_folder) -> None:
    found = find_scan(bench.card, None, None, str(data_folder), multiple=8)
    assert found.name.startswith("malc2012 ")
    assert found.truth.structures == (2, 41, 53)


def test_every_group_of_layers_is_measured(bench, monkeypatch, tmp_path) -> None:
    """The order of the table: engines, then one group after the other, then all together."""
    need("onnx", "onnxscript", "onnxruntime", "openvino")
    monkeypatch.setattr(quantisation, "calibration_images", lambda model, card: [bench.scan.image])
    monkeypatch.setattr(quantisation, "export_graph", lambda model: b"")
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
    need("onnx", "onnxscript", "onnxruntime", "openvino")
    monkeypatch.setattr(quantisation, "calibration_images", lambda model, card: [bench.scan.image])
    monkeypatch.setattr(quantisation, "export_graph", lambda model: b"")
    monkeypatch.setattr(quantisation, "quantise", lambda graph, ranges, keep: b"")
    blank = dict.fromkeys(quantisation.COLUMNS, 0.5)

    def measured(bench, name: str, graph: bytes, eight_bit: str) -> dict:
        told = {"engine": name, "eight_bit": eight_bit, "scan": bench.scan.name}
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
