"""Mode auto: what it tries, in which order, and what it tells of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ddmseg.imaging.volume import Volume
from ddmseg.inference.budget import Deadline, Draw
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.sampling_policy import SamplingPolicy
from ddmseg.inference.segmenter import Segmenter
from ddmseg.models.settings import DataSettings
from tiny_weights import save_tiny

OWN_STEPS = 2
"""Of the toy's card."""


@pytest.fixture
def scan() -> Volume:
    data = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    return Volume(data, np.eye(4), "scan")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    data = DataSettings(kind="label_maps", patch=(16, 16, 16), spacing_mm=1.0)
    return str(save_tiny(tmp_path_factory.mktemp("tiny"), data, (0, 17, 53)))


@pytest.fixture
def segmenter(weights) -> Segmenter:
    return Segmenter.load(weights, device="cpu")


def knows(segmenter: Segmenter, usual: float) -> None:
    """Let the model know how wide intervals usually are."""
    names = ("Left-Hippocampus", "Right-Hippocampus")
    told = {"volume_bounds": {name: [-1.0, 1.0] for name in names}, "usual_width": usual}
    policy = segmenter.model_stages.answering
    policy.card = replace(policy.card, calibration={**policy.card.calibration, **told})


def test_nothing_is_drawn_where_intervals_are_as_wide_as_usual(segmenter, scan) -> None:
    knows(segmenter, usual=1e9)
    result = segmenter(scan)
    assert result.quality.samples == 0
    choice = result.receipt["choice"]
    assert choice["drawn"] == ()
    assert 0 < choice["coarse_width"] < choice["usual_width"]
    assert (choice["sampled_width"], choice["stopped_because"]) == (
        None,
        "intervals as wide as usual",
    )


def test_samples_of_the_card_are_drawn_where_they_are_wider(segmenter, scan) -> None:
    knows(segmenter, usual=0.0)
    result = segmenter(scan)
    choice = result.receipt["choice"]
    own = segmenter.model_stages.answering.own_draw
    assert [(row["steps"], row["samples"]) for row in choice["drawn"]] == [(own.steps, own.samples)]
    assert choice["stopped_because"] == "all was run"
    assert choice["sampled_width"] > 0
    assert choice["sampled_width"] != choice["coarse_width"]
    assert result.quality.samples == own.samples


def test_intervals_are_read_off_samples_where_the_card_has_bounds_for_them(segmenter, scan) -> None:
    knows(segmenter, usual=0.0)
    policy = segmenter.model_stages.answering
    bounds = {name: [1e-4, -1.0, 1.0] for name in ("Left-Hippocampus", "Right-Hippocampus")}
    before = segmenter(scan).receipt["choice"]
    card = replace(policy.card, calibration={**policy.card.calibration, "sample_bounds": bounds})
    policy.card = segmenter.model_stages.card = card
    choice = segmenter(scan).receipt["choice"]
    assert choice["coarse_width"] == before["coarse_width"]
    assert choice["sampled_width"] < before["sampled_width"]  # the toy's samples hardly differ
    drawn, fast = segmenter(scan), segmenter(scan, mode="fast")
    widths = [
        [row.interval_high_ml - row.interval_low_ml for row in result.volumes]
        for result in (drawn, fast)
    ]
    assert sum(widths[0]) < sum(widths[1])


def test_a_model_that_knows_nothing_usual_draws_none(segmenter, scan) -> None:
    result = segmenter(scan)
    choice = result.receipt["choice"]
    assert result.quality.samples == 0
    assert (choice["usual_width"], choice["drawn"]) == (None, ())
    assert choice["stopped_because"] == "the model does not know what is usual"


@pytest.mark.parametrize("how", [{"mode": "fast"}, {"mode": "diffusion"}, {"steps": 3}])
def test_nothing_is_told_where_nothing_was_to_choose(segmenter, scan, how) -> None:
    assert "choice" not in segmenter(scan, **how).receipt


# Under a budget


@pytest.mark.parametrize(
    ("seconds", "how", "steps", "why"),
    [
        (1e9, {}, [OWN_STEPS], "all was run"),
        (3.6, {}, [OWN_STEPS], "all was run"),
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
    knows(segmenter, usual=0.0)
    now = [5.0]

    drawn = SamplingPolicy.draw

    def draw(self, encoded, draw, *rest, **how):
        now[0] += draw == Draw(1, 1)  # the step that is tried
        return drawn(self, encoded, draw, *rest, **how)

    monkeypatch.setattr(SamplingPolicy, "draw", draw)
    monkeypatch.setattr(Deadline, "between_samples", lambda self, steps: lambda done: True)
    deadline = Deadline(seconds, clock=lambda: now[0])
    options = SegmentOptions(**how)
    begun = segmenter.prepare(scan, options, lambda stage, done: None, deadline)
    result = segmenter.restore(segmenter.solve(begun))
    record = result.receipt["budget"]
    assert [row["steps"] for row in record["drawn"]] == steps
    assert record["stopped_because"] == why
