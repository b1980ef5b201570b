"""Losses against the unoptimised path, gains a second over the cheapest, and what is run."""

from __future__ import annotations

import pytest

from ddmseg.datasets.case import Case
from ddmseg_lab.scans import HEADS
from ddmseg_lab.studies import tiers as bench
from ddmseg_lab.table import RawTable

pytestmark = pytest.mark.usefixtures("quick_intervals")


def row(tier: str, person: str, dice: float, seconds: float, samples: int = 4) -> dict[str, str]:
    values = {
        **{"weights": "w", "set": "heads", "case": person, "person": person},
        **{"condition": "intact 0", "tier": tier, "dice": dice, "expected_dice": 0.7},
        **{"steps": 10, "samples": samples, "seconds": seconds},
    }
    return {name: str(value) for name, value in values.items()}


ROWS = [
    *(row("fast", "a", 0.70, 1.0, 0), row("fast", "b", 0.60, 1.0, 0)),
    *(row("diffusion", "b", 0.64, 3.0), row("diffusion", "a", 0.72, 3.0)),
    *(row("onnx", "a", 0.69, 2.0, 0), row("onnx", "b", 0.59, 2.0, 0)),
    *(row("full", "a", 0.72, 11.0), row("full", "b", 0.65, 11.0)),
    *(row("unoptimised", "a", 0.72, 6.0), row("unoptimised", "b", 0.66, 6.0)),
]


def test_losses_and_gains_are_scan_by_scan_whatever_their_order():
    found = bench.summarise(ROWS)
    assert found["diffusion"]["lost"]["mean"] == pytest.approx(0.01)
    assert found["fast"]["lost"]["mean"] == pytest.approx(0.04)
    assert found["full"]["lost"]["mean"] == pytest.approx(0.005)
    assert found["unoptimised"]["lost"]["mean"] == 0
    assert found["diffusion"]["gained_per_second"]["mean"] == pytest.approx(0.06 / 4)
    assert found["full"]["gained_per_second"]["mean"] == pytest.approx(0.07 / 20)
    assert [found[tier]["sampled"] for tier in ("fast", "diffusion")] == [0, 2]


def test_where_no_samples_are_drawn_nothing_is_bought():
    found = bench.summarise(ROWS)
    assert found["fast"]["gained_per_second"] is found["onnx"]["gained_per_second"] is None


def test_the_unoptimised_path_takes_no_shortcut():
    usual = bench.segmenter("anatomy")
    plain = bench.segmenter("anatomy", shortcuts=False)
    assert not plain.model_stages.model.denoiser.trusts_coarse_head
    assert plain.model_stages.model.denoiser.estimate_tolerance == 0
    assert usual.model_stages.model.denoiser.estimate_tolerance > 0


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    asked = []

    def measure(trial, tier, number, artefact, level):
        asked.append((number, artefact))
        if len(asked) == 3:
            raise KeyboardInterrupt
        case = trial.cases[number].identifier
        return row(tier, case, 0.5, 1.0) | {"condition": f"{artefact} {level}"}

    monkeypatch.setattr(bench, "measure", measure)
    cases = [Case(name, (), None, name) for name in ("a", "b")]
    trial = bench.Trial("heads", "m", HEADS, cases, [("gamma", 5), ("noise", 5)])
    table = RawTable(tmp_path / "tiers.tsv", bench.COLUMNS, ["w"])
    with pytest.raises(KeyboardInterrupt):
        bench.fill(table, trial, bench.UNOPTIMISED)
    bench.fill(RawTable(table.path, bench.COLUMNS, ["w"]), trial, bench.UNOPTIMISED)
    assert asked == [(0, "gamma"), (0, "noise"), (1, "gamma"), (1, "gamma"), (1, "noise")]


def tiers_summary() -> dict[str, object]:
    return {
        "models": {"m": {"name": "m", "weights": "w", "trained_steps": 1, "batch": 2}},
        "tiers": {row["tier"]: row["tier"].title() for row in ROWS},
        "degraded": ["gamma 5"],
        "sets": {"heads": bench.summarise(ROWS)},
    }


def test_the_chapter_claims_the_worst_tier_of_each_set():
    section = bench.CHAPTER.section(tiers_summary())
    assert [claim.value for claim in section.claims] == [pytest.approx(0.05)]
    text = "\n".join(section.body)
    assert "**Heads**" in text
    assert "| Diffusion | 0.680 " in text
    assert "*Sampled* counts runs" in text
    assert bench.CHAPTER.section(None).claims[0].measured is None
