"""What rivals say of a scan, what conformal prediction promises, and the rule that ships."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ddmseg.datasets.case import Case
from ddmseg.imaging.volume import LabelMap, Volume
from ddmseg.models.card import Card
from ddmseg.models.checkpoint import load_weights
from ddmseg.models.settings import DataSettings
from ddmseg.randomness import seeded
from ddmseg.training.volume_calibration import SizedCase, volume_bounds
from ddmseg_lab.made_up_heads import INTACT, KINDS, degraded
from ddmseg_lab.scans import ScanSet
from ddmseg_lab.studies import volume_rivals, volume_scans
from ddmseg_lab.studies.volume_rivals import as_shipped, by_usual_spread
from tiny_weights import save_tiny

GRID = (16, 24, 16)
LABELS = (0, 2, 41, 3, 42, 17, 53, 16)
CASE = Case("a", (Path("a.nii"),), Path("a_labels.nii"), "person")


class KnownScan(volume_scans.Scan):
    """A random image of which two structures were drawn."""

    def opened(self, card: Card, *, multiple: int) -> tuple[torch.Tensor, list[float]]:
        true = [100.0 if index in (2, 17) else math.nan for index in card.labels]
        return torch.rand((1, 1, *GRID), generator=seeded(0, 0)), true


def test_every_rival_says_something_of_every_structure_that_was_drawn(tmp_path: Path) -> None:
    data = DataSettings(kind="label_maps", patch=GRID, spacing_mm=2.0)
    model, card = load_weights(save_tiny(tmp_path, data, LABELS))
    scan = KnownScan("test", 3, CASE, INTACT, None, 3)
    rows, again = (list(volume_rivals.answers(model, card, scan)) for _ in range(2))
    assert {(row["rival"], row["index"]) for row in rows} == {
        (rival, index) for rival in ("constant", "shipped", "samples") for index in (2, 17)
    }
    for row, other in zip(rows, again, strict=True):
        assert set(row) == set(volume_rivals.COLUMNS)
        assert row["centre"] == other["centre"]  # the noise is the scan's own
        assert row["spread"] >= 0
        assert (row["true"], row["subject"]) == (100.0, "a")


def test_volumes_drawn_by_hand_are_counted_on_the_model_grid(monkeypatch) -> None:
    labels = np.zeros(GRID, np.int32)
    labels[:4, :5, :6] = 17
    drawn = LabelMap(labels, np.diag([1.0, 1.0, 1.0, 1.0]))
    scans = ScanSet("toy", lambda data: [CASE], lambda ids: ids, (17, 53))
    monkeypatch.setattr(ScanSet, "drawn", lambda scans, case: drawn)
    scan, image = (
        Volume(np.zeros(GRID), np.eye(4), "a", None),
        SimpleNamespace(image=np.zeros(GRID, np.float32)),
    )
    monkeypatch.setattr(volume_scans, "read_volume", lambda path: scan)
    monkeypatch.setattr(volume_scans, "prepare_scan", lambda card, scan, multiple: image)
    (intact, _) = volume_scans.intact_and_degraded("test", [CASE], scans)
    card = Card("toy", (0, 17, 53), {"data": {"spacing_mm": 2.0}})
    opened, true = intact.opened(card, multiple=8)
    assert opened.shape == (1, 1, *GRID)
    assert true[1:] == [120 / 8, 0]
    assert math.isnan(true[0])
    assert intact.at["subject"] == "person"


def test_each_case_comes_intact_and_degraded_in_turn() -> None:
    cases = [CASE] * 5
    found = list(volume_scans.intact_and_degraded("test", cases, turn=1, first_draw=1000))
    assert [scan.kind for scan in found[::2]] == [INTACT] * 5
    assert [scan.number for scan in found] == list(range(10, 20))
    assert found[1].draw == 1011
    assert [scan.kind for scan in found[1::2]] == [
        volume_scans.WAYS[n % 4] for n in (6, 7, 8, 9, 10)
    ]


@pytest.mark.parametrize("kind", volume_scans.WAYS)
def test_a_degraded_scan_keeps_its_grid_and_is_the_same_again(kind: str) -> None:
    image = np.zeros((48, 48, 48), np.float32)
    image[10:38, 12:36, 14:34] = 100
    scan = Volume(image, np.eye(4), "box", None)
    bad = degraded(scan, kind, seeded(0, 0))
    assert bad.shape == scan.shape
    assert (bad.data == degraded(scan, kind, seeded(0, 0)).data).all()
    assert abs(bad.data - scan.data / 100).max() > 1e-3
    assert degraded(scan, INTACT, seeded(0, 0)) is scan
    assert kind in KINDS


def test_an_interval_covers_new_cases_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    inside = []
    for _ in range(400):
        spread = generator.uniform(0.5, 2, 60)
        ratios = 0.1 + 0.05 * spread * generator.standard_t(3, 60)
        shift, reach = by_usual_spread(ratios[:59], spread[:59], spread[59:])
        inside.append(abs(ratios[59] - shift) <= reach[0])
    assert 0.93 < np.mean(inside) < 0.98


def test_a_spread_of_nothing_is_half_believed() -> None:
    ratios, spread = np.linspace(-0.1, 0.1, 21), np.ones(21)
    _, (nothing, usual, wild) = by_usual_spread(ratios, spread, np.array([0.0, 1.0, 1e9]))
    assert (nothing, wild) == pytest.approx((usual / 2, 2 * usual))
    assert by_usual_spread(ratios, np.zeros(21), np.zeros(1))[1] == pytest.approx(0.1)


@pytest.mark.parametrize("fit", [by_usual_spread, as_shipped])
def test_too_few_cases_bound_nothing(fit) -> None:
    assert np.isinf(fit(np.zeros(18), np.ones(18), np.ones(2))[1]).all()
    assert np.isfinite(fit(np.zeros(19), np.ones(19), np.ones(2))[1]).all()


@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_the_rule_that_ships_is_that_of_the_card(shift: float) -> None:
    generator = np.random.default_rng(1)
    doubts = generator.uniform(0.1, 0.5, 40)
    ratios = doubts * (generator.normal(size=40) * 0.4 + shift)
    cases = [
        SizedCase((0, 1000), (0, 1000), (0, 1000 * d), (0, 1000), (0, 1000 * math.exp(r)))
        for d, r in zip(doubts, ratios, strict=True)
    ]
    low, high = volume_bounds(Card("toy", (0, 17), {}), cases)["volume_bounds"]["Left-Hippocampus"]
    middle, reach = as_shipped(ratios, doubts, np.ones(1))
    assert (middle - reach)[0] == pytest.approx(low, abs=1e-3)
    assert (middle + reach)[0] == pytest.approx(high, abs=1e-3)
