"""What a segmentation is: the result that the API returns and the writers store."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import printable
from ddmseg.imaging.volume import LabelMap, Volume, grid_text
from ddmseg.quality.reasons import SUBJECTS, Subject, subject
from ddmseg.quality.standing_out import StandingOut

WHOLE_BRAIN = 20
"""Structures that a model of the whole brain knows at least."""
INTRACRANIAL = "Intracranial-Volume"
"""Name of the total of all that lies within the skull."""

MOST_REASONS = 3
"""Reasons of a verdict that the short form tells."""
MOST_VOLUMES = 5
"""Volumes that the short form tells."""

NORMAL_95, QUARTILE = NormalDist().inv_cdf(0.975), NormalDist().inv_cdf(0.75)
"""Standard deviations that a normal variable keeps within in 95% and in half of all cases."""

Verdict = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class StructureVolume:
    """Volume in millilitres with its 95% interval; the index is 0 for what several ids make."""

    index: int
    name: str
    volume_ml: float
    interval_low_ml: float
    interval_high_ml: float

    @property
    def distribution(self) -> VolumeDistribution | None:
        """The log-normal distribution of the true volume; None where the interval begins at 0."""
        if self.interval_low_ml <= 0:
            return None
        low, high = math.log(self.interval_low_ml), math.log(self.interval_high_ml)
        middle, s = (low + high) / 2, (high - low) / (2 * NORMAL_95)
        mean = math.exp(middle + s**2 / 2)
        lower, median, upper = (math.exp(middle + z * s) for z in (-QUARTILE, 0.0, QUARTILE))
        return VolumeDistribution(mean, mean * math.sqrt(math.expm1(s**2)), lower, median, upper)


@dataclass(frozen=True)
class VolumeDistribution:
    """What is predicted of a true volume, in millilitres: its moments and quartiles.

    It is log-normal and has the 95% interval of the volume for its own, by which intervals are
    scored, too. Source: Johnson, Kotz and Balakrishnan 1994, Continuous Univariate
    Distributions, chapter 14.
    """

    mean_ml: float
    sd_ml: float
    lower_quartile_ml: float
    median_ml: float
    upper_quartile_ml: float


@dataclass(frozen=True)
class Asymmetry:
    """``200 (left - right) / (left + right)`` of a pair in percent, with its 95% interval."""

    name: str
    percent: float
    interval_low: float
    interval_high: float


@dataclass(frozen=True)
class Quality:
    """Verdict on one result.

    ``expected_dice`` is in [0, 1]; ``reasons`` are sentences a person understands; ``steps`` and
    ``samples`` are what was spent (0 when only the coarse head ran); ``sample_agreement`` is the
    mean Dice of the samples with the answer, None without samples; ``postprocessing`` says what
    cleaning changed and left; ``training_distance`` how far the features lie from those of
    training, None where the model's card does not know.
    """

    verdict: Verdict
    expected_dice: float
    expected_dice_by_structure: dict[str, float] = field(repr=False)
    reasons: list[str]
    steps: int
    samples: int
    sample_agreement: float | None = None
    postprocessing: dict[str, Any] = field(default_factory=dict, repr=False)
    training_distance: float | None = None

    @property
    def verdicts(self) -> dict[Subject, Verdict]:
        """The verdict on scan, anatomy and result apart: only of a result it can be ``fail``."""
        apart: dict[Subject, Verdict] = dict.fromkeys(SUBJECTS, "pass")
        apart |= {subject(reason): "warn" for reason in self.reasons}
        return {**apart, "result": "fail"} if self.verdict == "fail" else apart

    @property
    def dice_text(self) -> str:
        """The expected Dice with two digits, or that it is not known."""
        return f"{self.expected_dice:.2f}" if math.isfinite(self.expected_dice) else "not known"


def format_ml(volume_ml: float) -> str:
    """Return a volume with about three significant digits.

    >>> format_ml(231.4), format_ml(18.26), format_ml(0.613)
    ('231', '18.3', '0.61')
    """
    digits = 0 if volume_ml >= 100 else 1 if volume_ml >= 10 else 2
    return f"{volume_ml:.{digits}f}"


@dataclass(frozen=True)
class Segmentation:
    """Labels of one scan on the scan's own grid, with what says how good they are.

    Attributes:
        scan: the scan as it was read.
        labels: FreeSurfer ids on the scan's grid.
        uncertainty: voxel entropy over samples in [0, 1], on the scan's grid.
        discrepancy: disagreement of image and final mask, at least 0, on the scan's grid.
        volumes: one row a structure, background left out.
        quality: the verdict.
        receipt: versions, hashes, settings, seed and seconds, ready for JSON.
        totals: both sides together, and what structures add up to.
        asymmetries: of the pairs that are there.
        not_measured: totals that this scan does not allow, with the reason.
        probabilities: of the classes on the scan's grid (``i j k class``); None unless asked for.
        probability_labels: FreeSurfer ids of the last axis of ``probabilities``.
        sample_labels: FreeSurfer ids of each sample (``i j k sample``); None without a trace.
        step_labels: the same of the first sample after each of its steps.
        standing_out: what is beyond the usual; None where the card does not say what that is.
        features: mean of z_I over the coarse head's foreground; None where nothing was found.
    """

    scan: Volume
    labels: LabelMap
    uncertainty: NDArray[np.float32]
    discrepancy: NDArray[np.float32]
    volumes: list[StructureVolume]
    quality: Quality
    receipt: dict[str, Any]
    totals: list[StructureVolume] = field(default_factory=list)
    asymmetries: list[Asymmetry] = field(default_factory=list)
    not_measured: dict[str, str] = field(default_factory=dict)
    probabilities: NDArray[np.float32] | None = None
    probability_labels: tuple[int, ...] = field(default_factory=tuple)
    sample_labels: NDArray[np.int32] | None = None
    step_labels: NDArray[np.int32] | None = None
    standing_out: StandingOut | None = None
    features: NDArray[np.float32] | None = None

    def __repr__(self) -> str:
        scan, quality = self.scan, self.quality
        name, dice = printable(scan.name), quality.dice_text
        lines = [
            f"{type(self).__name__} of {name}: {quality.verdict}, expected Dice {dice}",
            f"{grid_text(scan.shape, scan.spacing_mm)}, {len(self.volumes)} structures",
            *map(printable, quality.reasons[:MOST_REASONS]),
        ]
        if left := quality.reasons[MOST_REASONS:]:
            lines.append(f"{len(left)} more in quality.reasons")
        rows = (self.sums or self.volumes)[:MOST_VOLUMES]
        shown = [f"{row.name} {format_ml(row.volume_ml)} ml" for row in rows]
        return "\n  ".join([*lines, ", ".join(shown) or "no volumes"])

    @property
    def sums(self) -> list[StructureVolume]:
        """What structures add up to, such as ``Brain``, both sides of one structure left out."""
        sides = {row.name.removeprefix("Left-") for row in self.volumes}
        return [row for row in self.totals if row.name not in sides]

    @property
    def of_whole_brain(self) -> bool:
        """Whether the model knows the structures of a whole brain."""
        return len(self.volumes) >= WHOLE_BRAIN

    def total(self, name: str) -> StructureVolume | None:
        """Return one of the totals; None where the scan or the model does not have it."""
        return next((row for row in self.totals if row.name == name), None)
