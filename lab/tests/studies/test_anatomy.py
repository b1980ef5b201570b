"""Groups of structures, and scans of one person counted once."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from ddmseg.datasets.malc2012 import EVALUATION_LABELS
from ddmseg.models.card import Card
from ddmseg.quality.segmentation import StructureVolume
from ddmseg_lab.scans import HEADS, structure_dice
from ddmseg_lab.studies import anatomy as bench
from ddmseg_lab.study import ModelOptions

pytestmark = pytest.mark.usefixtures("quick_intervals")


def row(case: str, person: str, index: int, dice: float, expected: float = 0.5) -> dict[str, str]:
    values = {"case": case, "person": person, "index": index, "dice": dice}
    values |= {"covered": int(index != 3)}
    return {name: str(v) for name, v in {**values, "expected_dice": expected, "seconds": 2}.items()}


def test_every_structure_is_in_one_group():
    members = [i for name, ids in bench.GROUPS.items() if name != bench.ALL for i in ids]
    assert sorted(members) == sorted(EVALUATION_LABELS)
    assert bench.GROUPS[bench.ALL] == EVALUATION_LABELS


def test_dice_of_structures_that_either_has():
    truth = np.zeros((4, 4, 4), np.int32)
    truth[:2] = 17
    labels = np.where(np.arange(4)[None, :, None] < 2, truth, 0)
    labels[3] = 24
    found = structure_dice(labels, truth, HEADS.structures)
    assert found[17] == pytest.approx(2 * 16 / 48)
    assert math.isnan(found[53])
    assert 24 not in found  # drawn in few places by the other protocol


def test_a_person_scanned_twice_counts_once():
    rows = [row("1", "1", 2, 0.8), row("2", "2", 2, 0.4), row("3", "2", 2, 0.6)]
    found = bench.summarise(rows)
    white_matter = found["structures"]["Left-Cerebral-White-Matter"]
    assert white_matter["mean"] == pytest.approx(0.65)
    assert white_matter["n"] == 2
    assert found["scans"] == 3
    assert found["groups"]["cerebral white matter"]["mean"] == pytest.approx(0.65)


def test_a_scan_is_the_mean_of_its_structures_before_persons_are_averaged():
    rows = [
        *(row("1", "1", 2, 0.8), row("1", "1", 41, math.nan)),
        *(row("2", "2", 2, 0.2), row("2", "2", 41, 0.4)),
    ]
    group = bench.summarise(rows)["groups"]["cerebral white matter"]
    assert group["mean"] == pytest.approx((0.8 + 0.3) / 2)


def test_the_promise_is_compared_with_the_mean_of_the_scan():
    rows = [
        *(row("1", "1", 2, 0.8, 0.9), row("1", "1", 3, 0.6, 0.9)),
        *(row("2", "2", 2, 0.5, 0.4), row("2", "2", 3, 0.5, 0.4)),
    ]
    assert bench.summarise(rows)["expected_dice_error"]["mean"] == pytest.approx((0.2 + 0.1) / 2)


def test_intervals_are_counted_by_scan_and_person():
    rows = [row("1", "1", 2, 0.8), row("1", "1", 3, 0.8), row("2", "2", 2, 0.8)]
    assert bench.summarise(rows)["covered"]["mean"] == pytest.approx((0.5 + 1) / 2)


def test_a_volume_drawn_by_hand_lies_in_its_interval_or_does_not():
    """Ten voxels of 0.1 ml of the left hippocampus, none of the right one."""
    truth = np.zeros((4, 4, 4), np.int32)
    truth.ravel()[:10] = 17
    volumes = [
        StructureVolume(17, "Left-Hippocampus", 0.8, 0.5, 1.0),
        StructureVolume(53, "Right-Hippocampus", 0.3, 0.1, 0.5),
        StructureVolume(24, "CSF", 1.0, 0.0, 2.0),  # not drawn by both protocols
    ]
    found = bench.covered(volumes, truth, 0.1)
    assert found == {17: True, 53: False}


@pytest.mark.parametrize("name", ["anatomy_fast", "my-own"])
def test_the_record_of_the_fast_model_is_one_of_its_own(name, tmp_path, monkeypatch):
    """So that neither model overwrites the other's."""
    segmenter = SimpleNamespace(card=Card(name, (0, 17), {"training": {"batch": 1}}))
    monkeypatch.setattr(bench, "Segmenter", SimpleNamespace(load=lambda *_, **__: segmenter))
    monkeypatch.setattr(bench, "HEADS", SimpleNamespace(cases=lambda *_: []))
    monkeypatch.setattr(bench, "summarise", lambda rows: {})
    bench.run(ModelOptions(model=name, output=tmp_path))
    record = "anatomy_fast" if name == "anatomy_fast" else "anatomy"
    assert [path.name for path in tmp_path.glob("*.json")] == [f"{record}.json"]
