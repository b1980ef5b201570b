"""What a model met in training, and what of a scan lies outside of it.

A card says so under ``training_range``: the thickest slices accepted, the range of a few
statistics of the normalised image inside the foreground, and mean and standard deviation of
the mean features z_I, each over intact examples. They are few, so that a scan is called out
only where it lies clearly beyond all of them. ``ddmseg_lab.limits.training_range`` writes
it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import SettingsError
from ddmseg.models.card import Card
from ddmseg.quality.reasons import Reason

WIDENING = 0.5
"""A range of intensities is accepted with so much of its width more at either end."""
DISTANCE_MARGIN = 1.1
"""A distance is accepted up to so many times the largest of the examples: that one already
has been measured as a new scan would be."""
PERCENTILES = (5, 50, 95)
CONTRAST = "contrast"
WHITE_MATTER, GREY_MATTER = frozenset({2, 41}), frozenset({3, 42})
"""FreeSurfer ids of the cerebrum's tissues, both sides."""
FEWEST_EXAMPLES = 3
"""Without one of them there must be two left for a standard deviation."""

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Profile:
    """What is compared with training: intensities, and the mean of z_I for each channel.

    Intensities are ``p05``, ``p50`` and ``p95`` of the normalised image inside the foreground, and
    ``contrast``, the mean of white less that of grey matter, where the model knows both.
    """

    intensities: Mapping[str, float]
    features: Floats | None


def intensity_statistics(
    card: Card, image: Floats, classes: NDArray[np.integer[Any]]
) -> dict[str, float]:
    """Return percentiles and contrast of a normalised image inside the foreground.

    Args:
        card: of the weights; says which class is what.
        image: normalised intensities (``*grid``).
        classes: class indices on the same grid, 0 outside.
    """
    inside = image[classes > 0]
    if not inside.size:
        return {}
    values = np.percentile(inside, PERCENTILES)
    found = {f"p{q:02d}": float(value) for q, value in zip(PERCENTILES, values, strict=True)}
    sizes = np.bincount(classes.ravel(), minlength=len(card.labels))
    sums = np.bincount(classes.ravel(), weights=image.ravel(), minlength=len(card.labels))

    def mean(ids: frozenset[int]) -> float:
        own = [code for code, index in enumerate(card.labels) if index in ids]
        size = float(sizes[own].sum())
        return float(sums[own].sum()) / size if size else math.nan

    contrast = mean(WHITE_MATTER) - mean(GREY_MATTER)
    if not math.isnan(contrast):
        found[CONTRAST] = contrast
    return found


def training_range(profiles: Sequence[Profile], *, thickest_mm: float) -> dict[str, Any]:
    """Return what a card says of the examples, its ``training_range``.

    Args:
        profiles: of intact examples.
        thickest_mm: longest voxel edge accepted.

    Raises:
        SettingsError: when fewer than three have features.
    """
    intensities: dict[str, list[float]] = {}
    for profile in profiles:
        for name, value in profile.intensities.items():
            intensities.setdefault(name, []).append(value)
    features = np.array([p.features for p in profiles if p.features is not None], np.float64)
    if len(features) < FEWEST_EXAMPLES:
        raise SettingsError(
            f"training range: {len(features)} examples; at least {FEWEST_EXAMPLES} are needed"
        )
    alone = [
        _distance(one, *_moments(np.delete(features, place, axis=0)))
        for place, one in enumerate(features)
    ]
    mean, deviation = _moments(features)
    return {
        "examples": len(features),
        "thickest_mm": thickest_mm,
        "intensities": {
            name: [round(min(of), 4), round(max(of), 4)] for name, of in intensities.items()
        },
        "features": {
            "mean": [round(value, 6) for value in mean.tolist()],
            "deviation": [round(value, 6) for value in deviation.tolist()],
            "largest_distance": round(max(alone), 4),
        },
    }


def training_distance(card: Card, features: Floats | None) -> float | None:
    """Return how far mean features lie from those of training.

    The root mean square over the channels of the distance from the mean in standard
    deviations, at least 0; near 1 for a scan like those of training. Each channel by
    itself: a few dozen examples do not determine how sixteen hang together. None without
    features, or where the card does not know those of training.
    """
    told = card.calibration.get("training_range")
    if told is None or features is None or len(told["features"]["mean"]) != len(features):
        return None
    own = told["features"]
    return _distance(features, np.array(own["mean"]), np.array(own["deviation"]))


def outside_training(card: Card, profile: Profile) -> Iterator[Reason]:
    """Yield a reason for each way in which a scan lies outside; none for a silent card."""
    told = card.calibration.get("training_range")
    if told is None:
        return
    yield from _odd_intensities(told["intensities"], profile.intensities)
    distance = training_distance(card, profile.features)
    limit = DISTANCE_MARGIN * float(told["features"]["largest_distance"])
    if distance is not None and distance > limit:
        # up, so that the limit shown is below the distance shown
        shown, accepted = math.ceil(100 * distance) / 100, math.floor(100 * limit) / 100
        yield Reason(
            f"the scan looks to the model unlike those of training: distance {shown:g}, "
            f"accepted to {accepted:g}",
            "features_outside",
            {"distance": shown, "accepted": accepted},
        )


def _odd_intensities(
    ranges: Mapping[str, Sequence[float]], found: Mapping[str, float]
) -> Iterator[Reason]:
    """Name the percentile that lies furthest outside, and the contrast."""
    outside = {}
    for name in found.keys() & ranges.keys():
        low, high = ranges[name]
        width, value = WIDENING * (high - low), found[name]
        beyond = max(low - width - value, value - high - width)
        if beyond > 0:
            values = {"value": value, "low": low - width, "high": high + width}
            outside[name] = (beyond, {key: round(number, 2) for key, number in values.items()})
    _, contrast = outside.pop(CONTRAST, (0.0, None))
    if outside:
        name = max((name for name in found if name in outside), key=lambda name: outside[name][0])
        told = {"percentile": int(name[1:]), **outside[name][1]}
        yield Reason(
            "the intensities are unlike those of training: their {percentile}th percentile "
            "inside the structures is {value:g}, accepted {low:g} to {high:g}".format(**told),
            "intensities_outside",
            told,
        )
    if contrast is not None:
        yield Reason(
            "the contrast is unlike that of training: white less grey matter is {value:g}, "
            "accepted {low:g} to {high:g}".format(**contrast),
            "contrast_outside",
            contrast,
        )


def _moments(features: Floats) -> tuple[Floats, Floats]:
    return features.mean(0), features.std(0, ddof=1)


def _distance(x: Floats, mean: Floats, deviation: Floats) -> float:
    moving = deviation > 0
    z = (x[moving] - mean[moving]) / deviation[moving]
    return float(np.sqrt((z**2).mean())) if z.size else 0.0
