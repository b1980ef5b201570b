"""What ``ddmseg bench`` makes of its rows: medians, ratios, exponents; and scans made of others."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.volume import Volume
from ddmseg.inference.options import SegmentOptions
from ddmseg_lab.comparison.peers.tools import Peer
from ddmseg_lab.speed import bench
from ddmseg_lab.speed.bench import ENCODING, NO_SCAN, PLAIN_PASS, SAMPLE_STEPS, STAGE, START, TIER
from ddmseg_lab.speed.bench_page import medians, power_law, share
from ddmseg_lab.speed.runs import Runner, option_words
from ddmseg_lab.speed.scans import DEMO, demo_head, find_scans, padded, refined, written
from ddmseg_lab.statistics_text import median_range
from ddmseg_lab.studies.tiers import TIERS, TITLES
from ddmseg_lab.table import RawTable

SIZES = [1, 2, 5, 10, 50]
SAMSEG = Peer("samseg", "SAMSEG", "0.5", lambda *_: {})


@given(st.floats(-3, 3), st.floats(1e-3, 1e3))
def test_the_exponent_of_a_power_law_is_found_exactly(exponent, factor):
    fit = power_law({size: factor * size**exponent for size in SIZES})
    assert fit["mean"] == pytest.approx(exponent, abs=1e-9)
    assert fit["low"] <= fit["mean"] <= fit["high"]
    assert fit["high"] - fit["low"] < 1e-4


def test_the_interval_is_students():
    # log cost = 0, 1, 3 at log size = 0, 1, 2: slope 3/2, residual variance 1/6,
    # standard error sqrt(1/6 / 2), and t of one degree of freedom is 12.7062
    fit = power_law({1: 1, math.e: math.e, math.e**2: math.e**3})
    assert fit["mean"] == pytest.approx(1.5)
    assert fit["high"] - 1.5 == pytest.approx(12.7062 * math.sqrt(1 / 12), rel=1e-4)
    assert 1.5 - fit["low"] == pytest.approx(fit["high"] - 1.5)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        fit = power_law({n: n**0.8 * math.exp(generator.normal(0, 0.2)) for n in SIZES})
        hits += fit["low"] <= 0.8 <= fit["high"]
    assert 0.91 <= hits / 400 <= 0.985


def test_equal_costs_do_not_grow_and_few_sizes_say_nothing():
    assert power_law(dict.fromkeys(SIZES, 2.0)) == {"mean": 0, "low": 0, "high": 0}
    assert power_law({1: 1.0, 2: 2.0}) is None


def test_what_has_no_logarithm_is_left_out():
    points = [{"at": n, "seconds": {"median": n - 1}} for n in (1, 2, 3)] + [{"at": 4}]
    assert medians(points, "seconds") == {2: 1, 3: 2}


def row(scan: str, series: str, at: object, repeat: int = 0, **figures) -> dict[str, object]:
    key = {"weights": "w", "scan": scan, "series": series, "at": at, "repeat": repeat}
    return {**key, **dict.fromkeys(bench.FIGURES, math.nan), **figures}


def times(seconds: float) -> dict[str, float]:
    return {"seconds": seconds, "processor_seconds": 2 * seconds}


@pytest.fixture
def found(tiny_model, tmp_path):
    table = RawTable(tmp_path / "bench.tsv", bench.COLUMNS, ["w"])
    table.add(row(DEMO, TIER, "fast", n, **times(s)) for n, s in enumerate((1.0, 3.0, 2.0)))
    table.add([row(DEMO, TIER, "fast", 3, peak_memory_gb=1.25)])
    table.add([row("scan of another run", TIER, "auto", **times(1000.0))])
    stages = {PLAIN_PASS: 0.5, ENCODING: 0.6, SAMPLE_STEPS: 0.8}
    table.add(row(DEMO, STAGE, name, **times(s)) for name, s in stages.items())
    table.add(
        row(DEMO, "samseg", version, **times(s)) for version, s in (("0.5", 600.0), ("4", 9.0))
    )
    table.add([row(NO_SCAN, START, "ddmseg --help", seconds=0.2)])
    table.add(row(DEMO, "steps", n, r, seconds=2.0 * n) for n in (1, 2, 4) for r in (0, 1))
    return bench.summarise(table, {DEMO: demo_head()}, [SAMSEG], Runner(str(tiny_model)))


def test_medians_of_each_tier_stand_with_their_range_and_peak(found):
    scan = found["scans"][DEMO]
    assert scan["shape"] == [181, 217, 181]
    assert list(scan["methods"]) == ["fast", "samseg"]  # a tier without rows is left out
    fast = scan["methods"]["fast"]
    assert fast["seconds"] == {"median": 2.0, "low": 1.0, "high": 3.0, "n": 3}
    assert fast["peak_memory_gb"]["median"] == 1.25
    assert fast["title"] == "fast"


def test_other_tools_stand_in_the_same_table_with_the_version_at_hand(found):
    samseg = found["scans"][DEMO]["methods"]["samseg"]
    assert (samseg["title"], samseg["version"]) == ("SAMSEG", "0.5")
    assert samseg["seconds"]["median"] == 600


def test_start_up_has_no_scan_and_growth_is_by_size(found):
    assert found["start"]["ddmseg --help"]["seconds"]["median"] == 0.2
    assert list(found["scaling"]) == ["steps"]
    points = found["scaling"]["steps"]["points"]
    assert [(point["at"], point["seconds"]["n"]) for point in points] == [(1, 2), (2, 2), (4, 2)]
    assert power_law(medians(points, "seconds"))["mean"] == pytest.approx(1)


def test_shares_are_of_medians_and_nothing_is_divided_by_zero(found):
    stages = found["scans"][DEMO]["stages"]
    both = [stages[ENCODING], stages[SAMPLE_STEPS]]
    assert share(both, stages[PLAIN_PASS], "seconds") == pytest.approx((0.6 + 0.8) / 0.5)
    some, none = {"seconds": median_range([1.0])}, {"seconds": median_range([0.0])}
    assert share([some], none, "seconds") is share([some], {}, "seconds") is None
    assert share([{}], some, "seconds") is None
    assert share([none], some, "seconds") == 0


@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_is_one_that_can_be_asked_for(tier):
    options = SegmentOptions().changed(TIERS[tier])
    assert all(getattr(options, name) == value for name, value in TIERS[tier].items())
    assert len(option_words(TIERS[tier])) == len(TIERS[tier])
    assert tier in TITLES


def test_a_larger_model_is_the_same_each_time(tiny_model, tmp_path):
    card = Runner(str(tiny_model)).segmenter.card
    one, other = (bench.untrained(card, 3, tmp_path).read_bytes() for _ in range(2))
    assert one == other


@pytest.fixture
def ramp() -> Volume:
    affine = np.array([[-2.0, 0, 0, 90], [0, 0, 1, -120], [0, 1, 0, -70], [0, 0, 0, 1]])
    places = np.indices((8, 12, 10)).astype(np.float32)
    return Volume(places[0] + 10 * places[1] + 100 * places[2], affine, "ramp")


@pytest.mark.parametrize("factor", [0.125, 1.0, 2.0, 8.0])
def test_a_refined_scan_fills_the_same_place(ramp, factor):
    found = refined(ramp, factor)
    assert found.data.size == pytest.approx(factor * ramp.data.size, rel=0.15)
    for corner in (0, 1):  # outer faces
        ours = found.affine @ [*(corner * np.array(found.shape) - 0.5), 1]
        theirs = ramp.affine @ [*(corner * np.array(ramp.shape) - 0.5), 1]
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    # linear in space: the same value in the same place, away from the edges
    middle = (np.array(found.shape) // 2).tolist()
    there = np.linalg.inv(ramp.affine) @ found.affine @ [*middle, 1]
    assert found.data[tuple(middle)] == pytest.approx(there[:3] @ [1, 10, 100], rel=0.02)


def test_a_scan_not_refined_is_itself(ramp):
    same = refined(ramp, 1.0)
    np.testing.assert_array_equal(same.data, ramp.data)
    np.testing.assert_array_equal(same.affine, ramp.affine)


def test_padding_keeps_every_voxel_in_its_place(ramp, tmp_path):
    wide = read_volume(written(padded(ramp, 16), tmp_path))
    assert wide.shape == (16, 16, 16)
    np.testing.assert_array_equal(wide.data[4:12, 2:14, 3:13], ramp.data)
    assert wide.data.sum() == pytest.approx(ramp.data.sum(), rel=1e-5)
    np.testing.assert_allclose(wide.affine @ [4, 2, 3, 1], ramp.affine @ [0, 0, 0, 1])


def test_without_a_scan_the_demo_head_is_measured_and_others_are_called_by_a_hash(ramp, tmp_path):
    assert find_scans([]) == {DEMO: demo_head()}
    path: Path = written(ramp, tmp_path)
    ((name, found),) = find_scans([path, path]).items()
    assert name.startswith("scan ")
    assert "ramp" not in name
    assert found == path
