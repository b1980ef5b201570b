"""The measuring of alarms, small: its pieces and its file."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ddmseg_lab.studies.monitor_alarms import MOVED, Arguments, draw_scans, rate, run


def test_simulated_statistics_hang_together_and_the_moved_ones_have_unit_spread() -> None:
    scans = draw_scans(4000, np.random.default_rng(0))
    volumes = np.array([scans["numbers"][f"volume {k}"] for k in (0, 1)])
    assert np.corrcoef(volumes)[0, 1] > 0.5
    for name in MOVED:
        assert scans["numbers"][name].std() == pytest.approx(1, abs=0.05)
    assert np.isnan(scans["numbers"]["agreement"]).mean() == pytest.approx(0.69, abs=0.05)
    assert set(np.unique(scans["categories"]["scanner"])) == {0, 1, 2}


def test_rates_have_exact_intervals() -> None:
    found = rate(0, 10)
    assert (found["rate"], found["low"]) == (0, 0)
    assert found["high"] == pytest.approx(1 - 0.025**0.1)


def test_a_small_run_writes_the_summary(tmp_path, capsys) -> None:
    run(Arguments(output=tmp_path, windows=6, shifts=2, permutations=39))
    found = json.loads((tmp_path / "monitor_alarms.json").read_text())
    assert found["without_shift"]["all"]["n"] == 6
    assert set(found["with_shift_sd"]) == {"0.25", "0.5", "1"}
    assert found["with_shift_sd"]["1"]["100"]["power"]["rate"] == 1.0
    assert "window 20: " in capsys.readouterr().out
