"""A budget is spent against a clock that only moves when work is done."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import SettingsError
from ddmseg.imaging.nifti import volume_from_array
from ddmseg.inference import budget
from ddmseg.inference.budget import MARGIN, Deadline, Pace, told
from ddmseg.inference.cache import CACHE_VARIABLE
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.roi import RegionalSegmenter
from ddmseg.inference.segmenter import Segmenter, small_head
from tiny_weights import CROPS, save_tiny
from toy_head import head_affine, head_voxels

ENCODE, STEP, AFTER = 1.0, 0.1, 0.8
KNOWN = Pace(1e-7, 2e-7, 3e-7, 4e-7, 5e-7, probe=1.0)


class Machine:
    """Does the work in the seconds expected, times how slow it is just then."""

    def __init__(self, *, slow: float = 1.0) -> None:
        self.now, self.slow = 0.0, slow

    def clock(self) -> float:
        return self.now

    def work(self, seconds: float) -> float:
        self.now += seconds * self.slow
        return seconds * self.slow

    def deadline(self, seconds: float, **how) -> Deadline:
        return Deadline(seconds, clock=self.clock, **how)

    def encode(self, deadline: Deadline) -> None:
        slowdown = self.work(ENCODE) / ENCODE
        deadline.encoded(slowdown=slowdown, step=STEP, after=AFTER)

    def draw(self, deadline: Deadline, steps: int, samples: int) -> int:
        """Draw samples of a set until there is no time; return how many."""
        go_on = deadline.between_samples(steps)
        for done in range(1, samples + 1):
            self.work(steps * STEP)
            if done < samples and not go_on(done):
                break
        return done


def test_samples_are_drawn_while_another_one_fits() -> None:
    # 1 s of encoding, then n samples of 1 s, then 0.8 s: with the margin 3 of 4 fit
    machine = Machine()
    deadline = machine.deadline(5.3)
    machine.encode(deadline)
    assert deadline.allows(10)
    assert machine.draw(deadline, 10, 4) == 3
    assert deadline.no_room
    machine.work(AFTER)
    assert machine.now < deadline.seconds


def test_with_time_enough_all_are_drawn() -> None:
    machine = Machine()
    deadline = machine.deadline(60.0)
    machine.encode(deadline)
    assert machine.draw(deadline, 10, 4) == 4
    assert not deadline.no_room
    assert deadline.allows(200)
    assert not deadline.allows(1000)
    assert deadline.no_room


def test_a_machine_that_turns_slow_draws_fewer_samples() -> None:
    machine = Machine()
    deadline = machine.deadline(8.5)
    machine.encode(deadline)
    machine.slow = 3.0
    assert machine.draw(deadline, 10, 4) == 1  # the first sample told
    assert not deadline.allows(10)


def test_the_longest_sample_is_what_the_next_is_expected_to_take() -> None:
    machine = Machine()
    deadline = machine.deadline(9.0)
    go_on = deadline.between_samples(1)
    took = iter([1.0, 2.0, 1.0])
    machine.work(next(took))
    assert go_on(1)
    machine.work(next(took))
    assert go_on(2)  # 3 of 9 s are gone, 2 s times the margin are expected
    machine.work(next(took))
    assert go_on(3)
    machine.work(2.6)
    assert not go_on(4)  # 2.4 s are left


def test_what_comes_after_samples_grows_with_them() -> None:
    machine = Machine()
    deadline = machine.deadline(10.0)
    deadline.encoded(slowdown=1.0, step=0.0, after=2.0)
    go_on = deadline.between_samples(1)
    machine.work(0.5)
    assert go_on(1)
    machine.work(1.5)
    assert not go_on(2)  # 8 s are left, and 1.5 + 3 * 2 s times the margin would not fit


@given(st.floats(0.1, 60), st.floats(1, 4), st.integers(1, 50), st.integers(1, 8))
def test_a_machine_as_slow_as_it_seemed_keeps_the_budget(seconds, slow, steps, samples) -> None:
    machine = Machine(slow=slow)
    deadline = machine.deadline(seconds)
    machine.encode(deadline)
    if deadline.allows(steps):
        machine.draw(deadline, steps, samples)
    machine.work(AFTER)
    assert machine.now <= max(seconds, slow * (ENCODE + AFTER)) + 1e-6


@given(st.floats(0.01, 60), st.floats(0, 30), st.floats(0, 10))
def test_a_refusal_names_a_budget_that_can_be_met(seconds, ahead, spent) -> None:
    machine = Machine()
    deadline = machine.deadline(seconds)
    machine.work(spent)
    try:
        deadline.require(ahead)
        assert spent + MARGIN * ahead <= seconds + 1e-9
    except SettingsError as error:
        named = float(str(error).split("--budget ")[1].split()[0])
        Machine().deadline(named).require(spent / MARGIN + ahead - 1e-9)
        assert named - 0.1001 <= spent + MARGIN * ahead


def test_a_refusal_is_one_line() -> None:
    with pytest.raises(SettingsError) as refused:
        Machine().deadline(2.0).require(3.0)
    assert str(refused.value) == (
        "budget: got 2 s; this scan needs at least 3.8 s here: give --budget 3.8 or more, "
        "or a smaller scan"
    )


def test_parts_divide_what_is_left_and_refuse_nothing() -> None:
    machine = Machine()
    deadline = machine.deadline(10.0, writes=True, slowdown=2.0)
    machine.work(2.0)
    part = deadline.part(0.5, reserve=1.0)
    assert (part.seconds, part.writes, part.slowdown) == ((8 - 2 * MARGIN) / 2, False, 2.0)
    part.require(100.0)
    machine.work(20.0)
    assert deadline.part(1.0, reserve=0.0).seconds == 0.0


def test_what_was_spent_is_told() -> None:
    machine = Machine(slow=1.5)
    deadline = machine.deadline(3.0, writes=True)
    machine.encode(deadline)
    drawn = [{"steps": 10, "samples": 2, "expected_dice": 0.7}]
    record = deadline.record(drawn, "all was run")
    assert json.loads(json.dumps(record)) == {
        **{"seconds": 3.0, "margin": MARGIN, "covers": "reading to writing", "slowdown": 1.5},
        **{"drawn": drawn, "stopped_because": "all was run", "spent_seconds": 1.5},
    }
    assert told(record) == "budget 3 s: 10 steps x 2 samples"
    assert not deadline.allows(100)
    assert told(deadline.record([], "?")) == "budget 3 s: no samples; no time for more"


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan])
def test_a_budget_of_nothing_is_refused(wrong) -> None:
    with pytest.raises(SettingsError, match=r"budget: got .*; it must be above 0 seconds"):
        SegmentOptions(budget=wrong)


# The pace of a machine


@pytest.fixture
def segmenter(tmp_path, monkeypatch) -> RegionalSegmenter:
    """A tiny model of crops, whose typical scan is a toy head."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    toy = volume_from_array(head_voxels((40, 48, 40)), head_affine(2.0))
    monkeypatch.setattr(Segmenter, "calibration_scan", lambda self: toy)
    loaded = Segmenter.load(str(save_tiny(tmp_path, CROPS, (0, 17, 53))), device="cpu")
    assert isinstance(loaded, RegionalSegmenter)
    return loaded


@pytest.fixture
def measured(segmenter, monkeypatch) -> list[str]:
    """Nothing is measured, but written down."""
    scans: list[str] = []

    def measure(self, scan):
        scans.append(scan.name)
        return KNOWN

    monkeypatch.setattr(Segmenter, "measure_pace", measure)
    monkeypatch.setattr(Segmenter, "probe", lambda self: 1.0)
    monkeypatch.setattr(RegionalSegmenter, "locator", None)
    monkeypatch.setattr(RegionalSegmenter, "pace", Segmenter.pace)
    return scans


def test_each_part_is_measured(segmenter) -> None:
    pace = segmenter.measure_pace(small_head(1.0))
    assert all(np.isfinite(value) and value >= 0 for value in asdict(pace).values())
    assert pace.encode > 0
    assert pace.write > 0
    assert pace.finish(100, writes=True) == pytest.approx(100 * (pace.restore + pace.write))
    assert pace.finish(100, writes=False) == pytest.approx(100 * pace.restore)


@pytest.mark.parametrize(
    ("probe", "times", "slowdown"),
    [(1.0, 1, 1), (2.0, 1, 2), (99.0, 1, 3), (0.8, 1, 1), (0.5, 2, 1)],
)
def test_it_is_measured_once_and_a_busy_machine_is_seen(
    segmenter, measured, monkeypatch, probe, times, slowdown
) -> None:
    assert segmenter.pace() == segmenter.pace() == KNOWN
    assert len(measured) == 1
    segmenter._pace = None  # as in another process
    monkeypatch.setattr(Segmenter, "probe", lambda self: probe)
    deadline = segmenter.start_clock(SegmentOptions(budget=5.0), writes=True)
    assert (deadline.seconds, deadline.writes, deadline.slowdown) == (5.0, True, slowdown)
    assert len(measured) == times  # anew where it was busy then


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"step": "x"}'),
        json.dumps({**asdict(KNOWN), "step": -1.0}),
        json.dumps({**asdict(KNOWN), "step": math.nan}),
        json.dumps({**asdict(KNOWN), "more": 1}),
    ],
)
def test_a_file_that_makes_no_sense_is_no_pace(tmp_path, content) -> None:
    path = tmp_path / "pace.json"
    path.write_text(content)
    assert Pace.read(path) is None
    KNOWN.save(path)
    assert Pace.read(path) == KNOWN


def test_a_pace_belongs_to_weights_threads_and_processor(segmenter, measured, monkeypatch) -> None:
    def measured_anew() -> bool:
        before, segmenter._pace = len(measured), None
        segmenter.pace()
        return len(measured) == before + 1

    assert measured_anew()
    assert not measured_anew()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert measured_anew()
    monkeypatch.setattr(budget, "processor", lambda: "another")
    assert measured_anew()
    segmenter.card = replace(segmenter.card, checksum="0" * 64)
    assert measured_anew()
    assert not measured_anew()


def test_without_a_cache_nothing_is_kept(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "off")
    path = budget.pace_file("weights")
    assert path is None
    KNOWN.save(path)
    assert Pace.read(path) is None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    path = tmp_path / "cache" / "pace.json"
    KNOWN.save(path)
    assert Pace.read(path) is None


def test_a_model_of_crops_is_measured_on_a_crop(segmenter) -> None:
    scan = segmenter.calibration_scan()
    np.testing.assert_allclose(scan.spacing_mm, 2.0)
    assert scan.shape == (18, 25, 18)
    start = [(40 - 18) // 2, (48 - 25) // 2, (40 - 18) // 2, 1]
    np.testing.assert_allclose(scan.affine[:3, 3], (head_affine(2.0) @ start)[:3])


def test_a_head_needs_time_for_the_search_and_both_sides(segmenter, measured) -> None:
    class Locator:
        def seconds_ahead(self, located, writes):
            return 5.0 + writes

    segmenter.locator = Locator()
    scan = volume_from_array(head_voxels((40, 48, 40)), head_affine(2.0))
    begun = segmenter.prepare(scan, SegmentOptions(), lambda stage, done: None)
    fast = segmenter._seconds_ahead_of_head(begun, begun, True)
    assert fast > 6.0
    asked = replace(begun, options=SegmentOptions(mode="diffusion", steps=10**6))
    assert segmenter._seconds_ahead_of_head(asked, asked, True) > fast + 1.0


def test_the_head_that_comes_with_the_package_is_what_is_typical() -> None:
    assert Segmenter.calibration_scan(None).shape == (181, 217, 181)
    assert Path(budget.__file__).is_file()
