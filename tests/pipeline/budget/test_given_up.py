"""What a budget costs in accuracy: read off the card, and told where room was lacking."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from ddmseg.pipeline.budget.costs import Costs, Draw
from ddmseg.pipeline.budget.deadline import Deadline
from ddmseg.pipeline.budget.given_up import KEY, NOTHING, given_up
from ddmseg.pipeline.budget.plan import wish_of
from ddmseg.pipeline.budget.spending import Spending, told
from ddmseg.pipeline.checkpoint import load_weights
from ddmseg.pipeline.config import DataSettings
from ddmseg.pipeline.options import SegmentOptions
from ddmseg.pipeline.quality.calibrate_weights import calibrate_weights, dice_by_draw
from ddmseg.pipeline.zoo import model_path
from tiny_weights import save_tiny

OWN = Draw(10, 4)
WISH = wish_of(SegmentOptions(), own=OWN)
KNOWN = {NOTHING: 0.70, "2 steps x 1 sample": 0.71, "10 steps x 4 samples": 0.74}
COSTS = Costs(prepare=0.0, encode=1.0, finish=1.0, answer=0.3, sample=0.2, step=0.1)


@pytest.mark.parametrize(
    ("drawn", "less"), [([], 0.04), ([Draw(2, 1)], 0.03), ([Draw(2, 1), Draw(10, 4)], None)]
)
def test_it_is_the_difference_on_validation_subjects(drawn, less) -> None:
    found = given_up(KNOWN, WISH, drawn)
    assert (found and found["validation_dice_less"]) == less


@pytest.mark.parametrize("drawn", [[Draw(2, 2)], [Draw(25, 4)]])
def test_nothing_is_said_of_what_was_not_measured(drawn) -> None:
    assert given_up(KNOWN, WISH, drawn) is None
    assert given_up({}, WISH, []) is None
    assert given_up(KNOWN, wish_of(SegmentOptions(mode="fast"), own=OWN), []) is None


@pytest.mark.parametrize(("seconds", "words"), [(2.6, "costs 0.0400 of Dice"), (99.0, "")])
def test_it_is_told_where_there_was_no_room(seconds, words) -> None:
    clock = SimpleNamespace(now=0.0)
    deadline = Deadline(seconds, clock=lambda: clock.now)
    spending = Spending(deadline, COSTS, WISH, KNOWN)
    clock.now += COSTS.encode
    spending.encoded(COSTS.encode, COSTS, cached=False)
    spending.climb(lambda draw, go_on: ("r", 0.9, draw.samples), coarse=("c", 0.1), quality=0.8)
    record = spending.record()
    json.dumps(record)
    assert words in told(record)
    assert (record["given_up"] is None) == (not words)


def test_every_set_that_a_budget_may_choose_is_measured(tmp_path) -> None:
    data = DataSettings(kind="label_maps", patch=(16, 16, 16), spacing_mm=1.0)
    path = save_tiny(tmp_path, data, (0, 17, 53))
    generator = torch.Generator().manual_seed(0)
    examples = [
        (
            torch.randn(1, 16, 16, 16, generator=generator),
            torch.randint(0, 3, (16, 16, 16), generator=generator),
        )
        for _ in range(2)
    ]
    source = SimpleNamespace(validation_examples=lambda n: examples[:n], always_present=(17,))
    calibrate_weights(path, source)
    model, card = load_weights(path)
    known = card.calibration[KEY]
    own = card.settings["sampling"]
    wish = wish_of(SegmentOptions(), own=Draw(own["steps"], own["samples"]))
    assert set(known) == {NOTHING, *map(str, wish.first)}
    assert known == dice_by_draw(model, card, examples)


@pytest.mark.parametrize("name", ["anatomy", "hippocampus"])
def test_shipped_models_know_what_a_budget_costs(name) -> None:
    calibration = json.loads(model_path(name).with_suffix(".json").read_text())["calibration"]
    assert all(0.3 < dice < 1 for dice in calibration[KEY].values())
    assert NOTHING in calibration[KEY]
    assert all(0 < f < 10 for f in calibration["volume_interval_factors"].values())
