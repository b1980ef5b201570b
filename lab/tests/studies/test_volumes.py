"""What intervals of volumes cost: scores by hand, and a rule that is never fitted on its test."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from ddmseg.models.card import Card
from ddmseg.models.checkpoint import load_weights
from ddmseg.models.settings import DataSettings
from ddmseg.randomness import seeded
from ddmseg.training.volume_calibration import sample_bounds, volume_bounds
from ddmseg_lab.made_up_heads import INTACT
from ddmseg_lab.studies import volumes
from tiny_weights import save_tiny

pytestmark = pytest.mark.usefixtures("quick_intervals")


def rows(spread_of_doubt: float, *, sampled: bool = True) -> list[dict[str, str]]:
    """Heads of six subjects; the error of a volume is as large as its doubt, to a factor."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(120):
        doubt = 0.2 * math.exp(spread_of_doubt * generator.normal())
        true = 1000 * math.exp(doubt * generator.uniform(-1, 1))
        head = {"split": "train", "number": str(number), "subject": f"s{number % 6}"}
        kind = {"kind": INTACT if number % 2 else "noise"}
        for index in (0, 17):
            sizes = {
                "size": "1000",
                "soft": "1000",
                "hits": "1000",
                "missed": f"{1000 * doubt}",
                "drawn": f"{1000 * math.exp(-doubt)} {1000 * math.exp(doubt)}" if sampled else "",
                "shares": "0.5 0.5" if sampled else "",
                "true": f"{true}",
            }
            found.append({**head, **kind, "index": str(index), **sizes})
    return found


def test_scaling_wins_where_the_doubt_tells_the_error() -> None:
    summary = volumes.summarise(rows(1.0))
    assert summary["heads"] == 120
    for condition in (INTACT, "degraded"):
        assert summary[condition]["gained"]["mean"] > 0.1
        assert summary[condition]["scaled"]["coverage"] > 0.9


def test_scaling_changes_nothing_where_all_are_in_equal_doubt() -> None:
    gained = volumes.summarise(rows(0.0))[INTACT]["gained"]["mean"]
    assert gained == pytest.approx(0, abs=1e-9)


def test_a_subject_is_tested_by_bounds_of_the_others() -> None:
    made = rows(0.0)
    for row in made:
        if row["subject"] == "s0":
            row["true"] = "5000"
    found = volumes.scored(made, "scaled")
    inside = found.inside[found.subject == "s0"]
    assert len(inside) == 20
    assert not inside.any()


@torch.inference_mode()
@pytest.mark.parametrize("seed", [None, 3])
def test_a_head_is_told_in_voxels_and_read_back(tmp_path, seed) -> None:
    data = DataSettings(kind="label_maps", patch=(16, 24, 16), spacing_mm=2.0)
    model, card = load_weights(save_tiny(tmp_path, data, (0, 17, 53)))
    image = torch.rand((1, 16, 24, 16), generator=seeded(0, 0))
    truth = torch.zeros((16, 24, 16), dtype=torch.long)
    truth[:2, :2, :2] = 1
    made = list(volumes.segmented(model, card, image, truth, seed))
    assert [row["true"] for row in made] == [16 * 24 * 16 - 8, 8, 0]
    samples = 0 if seed is None else card.settings["sampling"]["samples"]
    at = {"split": "train", "number": "0"}
    (case,) = volumes.heads([{**at, **{n: str(row[n]) for n in row}} for row in made])
    assert case.size == pytest.approx([row["size"] for row in made])
    assert len(case.drawn) == len(case.shares) == samples


def test_heads_are_what_a_card_is_calibrated_with() -> None:
    cases = list(volumes.heads(rows(0.5)))
    bounds = volume_bounds(Card("toy", (0, 17), {}), cases)["volume_bounds"]["Left-Hippocampus"]
    assert -1.15 < bounds[0] < -0.8  # around the median, which is not quite 0
    assert 0.8 < bounds[1] < 1.15


def test_samples_win_where_they_differ_as_they_err_and_the_discrepancy_is_blind() -> None:
    made = [{**row, "missed": "200"} for row in rows(1.0)]
    found = volumes.summarise(made)["sampled"]
    assert found["heads"] == 120
    for condition in (INTACT, "degraded"):
        assert found[condition]["gained"]["low"] > 0
        assert found[condition]["samples"]["coverage"] > 0.9


@pytest.mark.parametrize("sampled", [True, False])
def test_a_card_reads_intervals_off_samples_where_heads_were_sampled(sampled) -> None:
    card = Card("toy", (0, 17), {}, calibration={"sample_bounds": {"old": [1.0, -1.0, 1.0]}})
    told = volumes.with_bounds(card, rows(0.5, sampled=sampled))
    wanted = {"Left-Hippocampus"} if sampled else set()
    assert set(told.calibration.get("sample_bounds", {})) == wanted
    assert ("sampled" in volumes.summarise(rows(0.5, sampled=sampled))) == sampled


@pytest.mark.parametrize(
    ("winner", "weights", "won"),
    [("samples", "ab" * 6, True), ("shipped", "ab" * 6, False), ("samples", "cd" * 6, False)],
)
def test_heads_are_sampled_where_samples_won_the_contest(tmp_path, winner, weights, won) -> None:
    card = Card("toy", (0, 17), {}, checksum="ab" * 32)
    options = volumes.Arguments(output=tmp_path)
    assert not volumes.samples_won(options, card)
    found = {"models": {"ddm": {"weights": weights}}, "winner": winner}
    (tmp_path / "volume_contest.json").write_text(json.dumps(found))
    assert volumes.samples_won(options, card) == won


def test_the_usual_width_is_that_of_three_in_four_intact_heads() -> None:
    made = rows(1.0)
    card = volumes.with_bounds(Card("toy", (0, 17), {}), made)
    intact = volumes.heads([row for row in made if row["kind"] == INTACT])
    widths = sorted(case.measured(card).width() or 0.0 for case in intact)
    assert widths[44] <= card.calibration["usual_width"] <= widths[45]


def test_bounds_by_samples_are_in_units_of_their_spread() -> None:
    cases = list(volumes.heads(rows(0.5)))
    usual, low, high = sample_bounds(Card("toy", (0, 17), {}), cases)["Left-Hippocampus"]
    spreads = sorted(case.sizes((17,), (0, 17))[0].spread for case in cases)
    assert spreads[59] <= usual <= spreads[60]
    # an error of at most the doubt d; samples at -d and d; so at most d / (sqrt(2) d + usual)
    assert -0.8 < low < -0.3 < 0.3 < high < 0.8


def test_what_was_not_sampled_is_in_the_first_comparison_alone() -> None:
    made = rows(0.5) + [{**r, "split": "validation"} for r in rows(0.7, sampled=False)]
    found = volumes.summarise(made)
    assert (found["heads"], found["sampled"]["heads"]) == (240, 120)
