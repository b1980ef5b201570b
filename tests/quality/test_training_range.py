"""What lies outside of training: by hand, and from examples to reasons."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ddmseg.errors import SettingsError
from ddmseg.models.card import Card, thickest_mm
from ddmseg.quality.training_range import (
    CONTRAST,
    DISTANCE_MARGIN,
    Profile,
    intensity_statistics,
    outside_training,
    training_distance,
    training_range,
)

LABELS = (0, 2, 3, 41, 42, 17)


def card_of(told: dict | None, labels=LABELS) -> Card:
    return Card("toy", labels, {}, calibration={} if told is None else {"training_range": told})


def examples(count: int = 30, channels: int = 4, seed: int = 0) -> list[Profile]:
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        low, middle, high = np.sort(generator.uniform(0.2, 0.8, 3))
        intensities = {"p05": low, "p50": middle, "p95": high, CONTRAST: generator.uniform(0, 0.2)}
        features = (5.0 + np.arange(channels) * generator.normal(size=channels)).astype(np.float32)
        found.append(Profile(intensities, features))
    return found


def test_statistics_by_hand() -> None:
    image = np.array([[9.0, 1.0, 1.0], [0.5, 0.2, 0.2]], np.float32)
    classes = np.array([[0, 1, 3], [2, 5, 4]])  # air, white twice, grey, hippocampus, grey
    found = intensity_statistics(card_of(None), image, classes)
    assert found["p50"] == pytest.approx(0.5)
    assert found["p05"] == pytest.approx(0.2)
    assert found[CONTRAST] == pytest.approx(1.0 - 0.35)
    assert CONTRAST not in intensity_statistics(card_of(None), image, np.where(classes > 3, 0, 1))
    assert intensity_statistics(card_of(None), image, np.zeros_like(classes)) == {}


def test_a_range_holds_its_examples_and_is_ready_for_json() -> None:
    profiles = examples()
    told = training_range(profiles, thickest_mm=6.5)
    assert json.loads(json.dumps(told)) == told
    assert (told["examples"], thickest_mm(card_of(told))) == (30, 6.5)
    low, high = told["intensities"]["p05"]
    values = [p.intensities["p05"] for p in profiles]
    assert (low, high) == (
        pytest.approx(min(values), abs=1e-4),
        pytest.approx(max(values), abs=1e-4),
    )
    for profile in profiles:
        assert list(outside_training(card_of(told), profile)) == []


def test_the_largest_distance_is_of_examples_left_out() -> None:
    told = training_range(examples(count=4, channels=3), thickest_mm=1.0)
    features = np.array([p.features for p in examples(count=4, channels=3)], float)
    by_hand = []
    for place in range(4):
        others = np.delete(features, place, axis=0)[:, 1:]  # channel 0 never varies
        z = (features[place, 1:] - others.mean(0)) / others.std(0, ddof=1)
        by_hand.append(math.sqrt((z**2).mean()))
    assert told["features"]["largest_distance"] == pytest.approx(max(by_hand), abs=1e-3)
    # to which an example that belongs to the range is nearer
    distances = [training_distance(card_of(told), p.features) for p in examples(4, 3)]
    assert max(distances) < told["features"]["largest_distance"]


def test_a_distance_is_in_standard_deviations() -> None:
    features = {"mean": [1.0, 2.0, 7.0], "deviation": [0.5, 2.0, 0.0], "largest_distance": 2.0}
    card = card_of({"thickest_mm": 6.5, "intensities": {}, "features": features})
    at = [1.0 + 2 * 0.5, 2.0 - 2 * 2.0, 99.0]  # the channel that never varies is ignored
    assert training_distance(card, np.array(at)) == pytest.approx(2.0)
    assert training_distance(card, np.array([1.0, 2.0, 7.0])) == 0.0
    assert training_distance(card, None) is None
    assert training_distance(card, np.zeros(2)) is None  # of another model
    assert training_distance(card_of(None), np.zeros(3)) is None


@pytest.mark.parametrize(("times", "called"), [(0.99, False), (1.01, True)])
def test_features_beyond_the_limit_are_called_out(times: float, called: bool) -> None:
    features = {"mean": [0.0, 0.0], "deviation": [1.0, 1.0], "largest_distance": 2.0}
    card = card_of({"thickest_mm": 6.5, "intensities": {}, "features": features})
    reach = times * DISTANCE_MARGIN * 2.0
    found = list(outside_training(card, Profile({}, np.array([reach, -reach]))))
    assert [reason.code for reason in found] == ["features_outside"] * called
    if called:
        assert found[0].values["distance"] > found[0].values["accepted"] == pytest.approx(2.2)


def test_intensities_are_named_by_what_is_furthest_out() -> None:
    ranges = {"p05": [0.2, 0.4], "p50": [0.4, 0.6], CONTRAST: [0.0, 0.2]}
    features = {"mean": [0.0], "deviation": [1.0], "largest_distance": 1.0}
    card = card_of({"thickest_mm": 6.5, "intensities": ranges, "features": features})

    def told(**seen: float) -> list[str]:
        return list(outside_training(card, Profile(seen, None)))

    assert told(p05=0.11, p50=0.69, contrast=0.29, p95=9.0) == []  # half more at either end
    (found,) = told(p05=0.09, p50=0.8)
    assert found == (
        "the intensities are unlike those of training: their 50th percentile inside the "
        "structures is 0.8, accepted 0.3 to 0.7"
    )
    (found,) = told(contrast=-0.5)
    assert found == (
        "the contrast is unlike that of training: white less grey matter is -0.5, accepted "
        "-0.1 to 0.3"
    )


def test_a_silent_card_calls_nothing_out_and_few_examples_are_refused() -> None:
    assert list(outside_training(card_of(None), Profile({"p05": 9.0}, np.full(2, 99.0)))) == []
    assert thickest_mm(card_of(None)) is None
    with pytest.raises(SettingsError, match="2 examples; at least 3 are needed"):
        training_range(examples(2), thickest_mm=1.0)
