"""The contest on crops: fitted on validation crops, won there, scored on test crops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ddmseg.models.card import Card
from ddmseg_lab.made_up_heads import INTACT
from ddmseg_lab.studies.crop_intervals import CHAPTER, TEST, VALIDATION, summarise, with_bounds

pytestmark = pytest.mark.usefixtures("quick_intervals")

Rows = list[dict[str, str]]


def contest(*, samples_know: bool | None) -> Rows:
    """Answers of two rivals; one of them, or with None neither, knows how far off it is."""
    generator = np.random.default_rng(0)
    rows: Rows = []
    for split, crops in ((VALIDATION, 20), (TEST, 30)):
        for number in range(2 * crops):
            for index in ("231", "232"):
                error = 0.02 * math.exp(1.2 * generator.normal())
                centre = 1000 * math.exp(error * generator.normal())
                at = {"set": split, "number": str(number), "name": f"{split}{number // 2}"}
                at |= {"subject": f"{split}{number // 2}", "index": index, "true": "1000"}
                at |= {"kind": INTACT if number % 2 else "noise", "seconds": "1"}
                for rival, knows in (("shipped", samples_know is False), ("samples", samples_know)):
                    blind = 0.0 if samples_know is None else 1.5
                    spread = error if knows else 0.02 * math.exp(blind * generator.normal())
                    said = {"rival": rival, "centre": str(centre), "spread": str(spread)}
                    rows.append({**at, **said, "effective": "8"})
                rows.append({**rows[-1], "rival": "constant", "spread": "1"})
    return rows


@pytest.mark.parametrize("samples_know", [True, False])
def test_who_knows_how_far_off_he_is_wins(samples_know):
    found = summarise(contest(samples_know=samples_know))
    assert found["winner"] == ("samples" if samples_know else "shipped")
    assert found["crops"] == {VALIDATION: 20, TEST: 30}
    for condition in found["conditions"].values():
        best = condition[found["winner"]]
        assert best["gained"]["mean"] > 0.15
        assert 0.85 < best["coverage"]["mean"] <= 1
    assert found["spread"][INTACT]["error"] > 0


def test_the_winner_is_chosen_without_the_test_crops():
    rows = contest(samples_know=True)
    for row in rows:
        if row["set"] == TEST and row["rival"] == "samples":
            row["centre"] = "10"  # hopeless there
    assert summarise(rows)["winner"] == "samples"


def test_who_is_not_clearly_better_than_what_ships_does_not_win():
    found = summarise(contest(samples_know=None))
    assert found["winner"] == "shipped"
    assert set(found["validation"]) == {"constant", "soft", "shipped", "samples"}


def test_the_page_names_winner_and_targets():
    found = summarise(contest(samples_know=True))
    model = {"name": "hippocampus", "weights": "abc", "trained_steps": 1, "batch": 1}
    page = CHAPTER.section({**found, "models": {"ddm": model}}).markdown()
    assert "The winner: 8 samples of the diffusion." in page
    assert "**Degraded**" in page
    assert "interval score saved by the winner, degraded | at least 0.150" in page


@pytest.mark.parametrize("winner", ["samples", "shipped"])
def test_a_card_has_bounds_by_samples_where_these_win(winner):
    rows = contest(samples_know=True)
    card = Card("toy", (0, 232, 231), {}, calibration={"sample_bounds": {"old": [1.0, -1.0, 1.0]}})
    told = with_bounds(card, rows, winner).calibration
    if winner == "shipped":
        assert "sample_bounds" not in told
        return
    assert set(told["sample_bounds"]) == {"HP_head", "HP_body"}
    spreads = [
        float(row["spread"])
        for row in rows
        if (row["set"], row["rival"], row["index"]) == (VALIDATION, "samples", "232")
    ]
    usual, low, high = told["sample_bounds"]["HP_head"]
    assert usual == pytest.approx(np.median(spreads), rel=1e-3)
    assert low < 0 < high
