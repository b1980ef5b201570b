"""Mode auto: what it tries, in which order, and what it tells of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddmseg.imaging.volume import Volume
from ddmseg.inference import sampling_policy as answering
from ddmseg.inference.budget import Deadline
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.segmenter import Segmenter
from ddmseg.maths.adaptive import BUDGETS
from ddmseg.models.settings import DataSettings
from tiny_weights import save_tiny

OWN_STEPS = 2
"""Of the toy's card."""


@pytest.fixture
def scan() -> Volume:
    data = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    return Volume(data, np.eye(4), "scan")


@pytest.fixture
def segmenter(tmp_path) -> Segmenter:
    data = DataSettings(kind="label_maps", patch=(16, 16, 16), spacing_mm=1.0)
    return Segmenter.load(str(save_tiny(tmp_path, data, (0, 17, 53))), device="cpu")


def expect(monkeypatch, segmenter: Segmenter, enough: float, *dice: float) -> None:
    """Let the answers be expected to have these Dice, one after the other."""
    coming = iter(dice)
    assess = answering.assess

    def told(*arguments):
        return replace(assess(*arguments), expected_dice=next(coming))

    monkeypatch.setattr(answering, "assess", told)
    monkeypatch.setattr(segmenter.model_stages.answering, "enough", enough)


def test_nothing_is_drawn_where_the_coarse_answer_will_do(segmenter, scan, monkeypatch) -> None:
    expect(monkeypatch, segmenter, 0.8, 0.9)
    result = segmenter(scan)
    assert result.quality.samples == 0
    choice = result.receipt["choice"]
    assert (choice["drawn"], choice["coarse_expected_dice"]) == ((), 0.9)
    assert choice["stopped_because"] == "coarse was enough"


def test_the_ladder_begins_with_the_steps_of_the_card(segmenter, scan, monkeypatch) -> None:
    """A student of few steps is not asked for the ten of its teacher."""
    expect(monkeypatch, segmenter, 0.8, 0.5, 0.6, 0.85)
    result = segmenter(scan)
    choice = result.receipt["choice"]
    assert [row["steps"] for row in choice["drawn"]] == [OWN_STEPS, BUDGETS[0]]
    assert [row["expected_dice"] for row in choice["drawn"]] == [0.6, 0.85]
    assert choice["stopped_because"] == "reached"
    assert (result.receipt["spent"]["steps"], result.quality.expected_dice) == (BUDGETS[0], 0.85)


def test_all_that_was_tried_is_told_though_the_best_was_earlier(
    segmenter, scan, monkeypatch
) -> None:
    expect(monkeypatch, segmenter, 0.8, 0.5, 0.7, 0.6)
    result = segmenter(scan)
    choice = result.receipt["choice"]
    assert len(choice["drawn"]) == 2
    assert choice["stopped_because"] == "no gain"
    assert (result.receipt["spent"]["steps"], result.quality.expected_dice) == (OWN_STEPS, 0.7)


def test_samples_that_make_it_worse_are_left(segmenter, scan, monkeypatch) -> None:
    expect(monkeypatch, segmenter, 0.8, 0.5, 0.4)
    result = segmenter(scan)
    assert (result.quality.samples, result.quality.expected_dice) == (0, 0.5)
    assert [row["expected_dice"] for row in result.receipt["choice"]["drawn"]] == [0.4]


@pytest.mark.parametrize("how", [{"mode": "fast"}, {"mode": "diffusion"}, {"steps": 3}])
def test_nothing_is_told_where_nothing_was_to_choose(segmenter, scan, how) -> None:
    assert "choice" not in segmenter(scan, **how).receipt


# Under a budget


@pytest.mark.parametrize(
    ("seconds", "how", "steps", "why"),
    [
        (1e9, {}, [OWN_STEPS, BUDGETS[0], BUDGETS[1]], "reached"),
        (20.0, {}, [OWN_STEPS, BUDGETS[0]], "no room"),
        (3.6, {}, [OWN_STEPS], "no room"),
        (3.4, {}, [], "no room"),
        (0.1, {"mode": "fast"}, [], "all was run"),
        (0.1, {"mode": "diffusion", "samples": 1}, [OWN_STEPS], "all was run"),
        (0.1, {"steps": 7, "samples": 1}, [7], "all was run"),
    ],
)
def test_a_set_is_begun_where_one_sample_of_it_fits(
    segmenter, scan, monkeypatch, seconds, how, steps, why
) -> None:
    """A step takes a second, and nothing else takes time."""
    expect(monkeypatch, segmenter, 0.8, 0.5, 0.6, 0.7, 0.85)
    now = [5.0]

    def one_step(*_) -> None:
        now[0] += 1.0

    monkeypatch.setattr(answering, "one_step", one_step)
    monkeypatch.setattr(Deadline, "between_samples", lambda self, steps: lambda done: True)
    deadline = Deadline(seconds, clock=lambda: now[0])
    options = SegmentOptions(**how)
    result = segmenter.segment_volume(scan, options, lambda stage, done: None, deadline)
    record = result.receipt["budget"]
    assert [row["steps"] for row in record["drawn"]] == steps
    assert record["stopped_because"] == why
