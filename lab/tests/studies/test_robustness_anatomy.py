"""Losses against the same scan intact, verdicts by loss, and the ranking of bad scans."""

from __future__ import annotations

import pytest

from ddmseg_lab.studies import robustness_anatomy as bench
from ddmseg_lab.studies.artefacts import ARTEFACTS

pytestmark = pytest.mark.usefixtures("quick_intervals")


def row(case: str, artefact: str, level: int, dice: float, expected: float, verdict: str):
    values = {
        **{"weights": "w", "case": case, "person": case, "artefact": artefact, "level": level},
        **{"dice": dice, "expected_dice": expected, "verdict": verdict},
        **{"reasons": "", "seconds": 1},
    }
    return {name: str(value) for name, value in values.items()}


ROWS = [
    row("1", bench.INTACT, 0, 0.8, 0.80, "pass"),
    row("1", "noise", 1, 0.79, 0.79, "pass"),
    row("1", "noise", 5, 0.5, 0.6, "fail"),
    row("2", bench.INTACT, 0, 0.6, 0.7, "warn"),
    row("2", "noise", 1, 0.59, 0.71, "pass"),
    row("2", "noise", 5, 0.4, 0.75, "pass"),
]


def test_each_artefact_comes_at_each_level_after_the_intact_scan():
    found = list(bench.conditions())
    assert found[0] == (bench.INTACT, 0)
    assert found[1:] == [(name, level) for name in ARTEFACTS for level in bench.LEVELS]


def test_a_loss_is_against_the_same_scan_intact():
    assert bench.losses(ROWS) == pytest.approx([0, 0.01, 0.3, 0, 0.01, 0.2])
    found = bench.summarise(ROWS)
    assert found["bad"] == 2
    assert found["lost"]["noise"]["5"]["mean"] == pytest.approx(0.25)
    assert set(found["lost"]) == {"noise"}


def test_verdicts_are_counted_by_what_was_lost():
    found = bench.summarise(ROWS)["verdicts"]
    assert found["intact"] == {"pass": 1, "warn": 1, "fail": 0}
    assert found["at most"] == {"pass": 2, "warn": 0, "fail": 0}
    assert found["more"] == {"pass": 1, "warn": 0, "fail": 1}


def test_ranks_are_by_hand():
    found = bench.summarise(ROWS)
    # Bad ones expect 0.6 and 0.75; of four others 0.80, 0.79, 0.7 and 0.71.
    assert found["auroc_expected_dice"]["mean"] == pytest.approx((4 + 2) / 8)
    assert found["auroc_verdict"]["mean"] == pytest.approx((1 * 3 + 0.5 * 1 + 0.5 * 3) / 8)


def test_the_chapter_shows_them():
    summary = bench.summarise(ROWS) | {
        "models": {"ddm": {"name": "m", "weights": "w", "trained_steps": 1, "batch": 2}}
    }
    section = bench.CHAPTER.section(summary)
    text = "\n".join(section.body)
    assert "2 MALC2012 test scans" in text
    assert "| lost more | 50.0% (1) | 0.0% (0) | 50.0% (1) |" in text
    assert section.claims[0].measured == summary["auroc_expected_dice"]
    assert bench.CHAPTER.section(None).claims[0].measured is None
