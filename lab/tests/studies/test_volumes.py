"""What intervals of volumes cost: scores by hand, and a rule that is never fitted on its test."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ddmseg.models.card import Card
from ddmseg.training.volume_calibration import volume_bounds
from ddmseg_lab.made_up_heads import INTACT
from ddmseg_lab.studies import volumes


def rows(spread_of_doubt: float) -> list[dict[str, str]]:
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
                "true": f"{true}",
            }
            found.append({**head, **kind, "index": str(index), **sizes})
    return found


def test_a_score_is_the_width_and_forty_times_what_lies_outside() -> None:
    inside = volumes._score(0.5, 1.5, 1.2)
    assert (inside["score"], inside["width"], inside["inside"]) == (1.0, 1.0, True)
    assert volumes._score(0.5, 1.5, 1.75)["score"] == pytest.approx(1.0 + 40 * 0.25)
    assert volumes._score(0.5, 1.5, 0.25)["score"] == pytest.approx(1.0 + 40 * 0.25)


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
    of_odd = [one for one in volumes.scored(made) if one["subject"] == "s0"]
    assert of_odd
    assert not any(one["inside"] for one in of_odd)


def test_heads_are_what_a_card_is_calibrated_with() -> None:
    cases = list(volumes.heads(rows(0.5)))
    bounds = volume_bounds(Card("toy", (0, 17), {}), cases)["volume_bounds"]["Left-Hippocampus"]
    assert -1.15 < bounds[0] < -0.8  # around the median, which is not quite 0
    assert 0.8 < bounds[1] < 1.15


def test_the_usual_width_is_that_of_three_in_four_intact_heads() -> None:
    made = rows(1.0)
    card = volumes.with_bounds(Card("toy", (0, 17), {}), made)
    intact = volumes.heads([row for row in made if row["kind"] == INTACT])
    widths = sorted(case.measured(card).width() or 0.0 for case in intact)
    assert widths[44] <= card.calibration["usual_width"] <= widths[45]
    assert card.calibration["volume_bounds"]
