"""How much samples differ, and whether doubt points at error.

Letters: ``p`` class probabilities, K classes, S samples, H entropy.  Samples lie along the
first axis: probabilities ``s b k *grid``, label maps ``s b *grid``.

Sources: Gal 2016, thesis, section 3.3 (entropy, mutual information); Kohl et al. 2018,
arXiv 1806.05034 (energy distance); Guo et al. 2017, arXiv 1706.04599 (ECE); Geifman and
El-Yaniv 2017, arXiv 1705.08500 (risk and coverage).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.types import ClassMap, PerItem, VoxelMap

Samples = Float[Tensor, "s b k *grid"]
"""Class probabilities of each sample."""

LabelSamples = Int64[Tensor, "s b *grid"]
"""Class indices of each sample."""

References = Int64[Tensor, "r b *grid"]
"""Class indices of each reference, such as one a rater."""


@dataclass(frozen=True)
class RiskCoverage:
    """Mean loss of the most certain share of the cases, for each share.

    ``coverage`` rises from 1/n to 1; ``risk`` is the mean loss of that share; ``area`` the
    mean risk (AURC): lower is better, the mean loss is what chance gives.
    """

    coverage: Tensor
    risk: Tensor
    area: float


def entropy(probabilities: ClassMap) -> VoxelMap:
    """Return the entropy at each voxel in units of log K: 0 is certain, 1 is no idea.

    Raises:
        SettingsError: for fewer than two classes.
    """
    classes = probabilities.shape[1]
    if classes < 2:
        raise SettingsError(f"probabilities: got {classes} class; entropy needs at least 2")
    H: Tensor = torch.special.entr(probabilities).sum(dim=1, keepdim=True)
    return (H / math.log(classes)).clamp(0, 1)


def sample_entropy(samples: Samples) -> VoxelMap:
    """Return the entropy of the samples' mean, in [0, 1]: all the doubt there is."""
    return entropy(samples.mean(dim=0))


def mutual_information(samples: Samples) -> VoxelMap:
    """Return the part of the entropy that is disagreement between samples, in [0, 1].

    H of the mean minus the mean of H, in units of log K; 0 when all samples agree.
    """
    within = torch.stack([entropy(p) for p in samples]).mean(dim=0)
    return (sample_entropy(samples) - within).clamp(0, 1)


def pairwise_disagreement(samples: LabelSamples, *, classes: int) -> PerItem:
    """Return the mean of 1 - IoU over all pairs of different samples, in [0, 1].

    Raises:
        SettingsError: for fewer than two samples.
    """
    count = samples.shape[0]
    if count < 2:
        raise SettingsError(f"samples: got {count}; disagreement needs at least 2")
    # The diagonal is zero, so the mean over all pairs only lacks its weight.
    return _mean_distance(samples, samples, classes) * count / (count - 1)


def generalised_energy_distance(
    samples: LabelSamples, references: References, *, classes: int
) -> PerItem:
    """Return the squared energy distance of two sets of label maps, at least 0.

    2 E d(S, Y) - E d(S, S') - E d(Y, Y') with d = 1 - IoU, the pairs of a sample with
    itself included; 0 when both sets are equal.

    Source: Kohl et al. 2018, eq. 6; Szekely and Rizzo 2013.
    """
    across = _mean_distance(samples, references, classes)
    within = _mean_distance(samples, samples, classes)
    within = within + _mean_distance(references, references, classes)
    return (2 * across - within).clamp_min(0)


def auroc(score: Tensor, positive: Tensor) -> float:
    """Return the probability that a positive scores above a negative, ties counting half.

    NaN when either kind is missing.  Every element counts; none is drawn.

    Args:
        score: any shape, such as a discrepancy map.
        positive: True where it should be high, such as wrong voxels; the same shape.

    Raises:
        SettingsError: when the shapes differ or a score is NaN.

    Source: Mann and Whitney 1947, by mid-ranks.
    """
    score, positive = _flat_pair(score, positive)
    _, group, counts = torch.unique(score, return_inverse=True, return_counts=True)
    hits = torch.zeros_like(counts).index_add_(0, group, positive.long())
    misses = counts - hits
    total_hits, total_misses = int(hits.sum()), int(misses.sum())
    if total_hits == 0 or total_misses == 0:
        return math.nan
    below = misses.cumsum(0) - misses  # negatives with a lower score
    won = hits.double() @ (below.double() + misses.double() / 2)
    return float(won) / total_hits / total_misses


def expected_calibration_error(confidence: Tensor, correct: Tensor, *, bins: int = 15) -> float:
    """Return the mean gap of confidence and accuracy over bins of confidence, in [0, 1].

    The bins are equally wide and weighed by what they hold; NaN for no element.

    Args:
        confidence: in [0, 1], any shape.
        correct: whether each was right, of the same shape.
        bins: at least 1.

    Raises:
        SettingsError: when an argument is out of its range.

    Source: Guo et al. 2017, eq. 3.
    """
    if bins < 1:
        raise SettingsError(f"bins: got {bins}; it must be at least 1")
    confidence, correct = _flat_pair(confidence, correct)
    if confidence.numel() == 0:
        return math.nan
    if confidence.min() < 0 or confidence.max() > 1:
        raise SettingsError(
            f"confidence: got {float(confidence.min()):g} to {float(confidence.max()):g}; "
            "it must lie in [0, 1]"
        )
    # Bins are open below and closed above, as in the paper; 0 joins the first.
    index = (confidence.double() * bins).ceil().long().sub(1).clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64, device=confidence.device)
    gap.index_add_(0, index, confidence.double() - correct.double())
    return float(gap.abs().sum() / confidence.numel())


def risk_coverage(uncertainty: Tensor, loss: Tensor) -> RiskCoverage:
    """Return the risk that is left when only the most certain cases are kept.

    Cases of equal uncertainty count with their mean loss, so that their order does not.

    Raises:
        SettingsError: when there is no case, the shapes differ or a value is NaN.
    """
    uncertainty, loss = _flat_pair(uncertainty, loss)
    n = loss.numel()
    if n == 0 or bool(loss.isnan().any()):
        raise SettingsError(f"loss: got {n} values; give at least one, and none NaN")
    _, group, counts = torch.unique(uncertainty, return_inverse=True, return_counts=True)
    shared = torch.zeros(len(counts), dtype=torch.float64, device=loss.device)
    shared.index_add_(0, group, loss.double())
    ordered = torch.repeat_interleave(shared / counts, counts)  # groups come sorted
    kept = torch.arange(1, n + 1, dtype=torch.float64, device=loss.device)
    risk = ordered.cumsum(0) / kept
    return RiskCoverage(kept / n, risk, float(risk.mean()))


def _mean_distance(A: LabelSamples, B: References, classes: int) -> PerItem:
    """Mean of 1 - IoU over all pairs of one label map of A and one of B, for each item."""
    items = [
        torch.stack([_distance(a, b, classes) for a in A[:, i] for b in B[:, i]]).mean()
        for i in range(A.shape[1])
    ]
    return torch.stack(items)


def _distance(a: Tensor, b: Tensor, classes: int) -> Tensor:
    """1 - IoU, the mean over foreground classes that either label map holds; else 0."""
    joint = torch.bincount((a * classes + b).flatten(), minlength=classes**2)
    table = joint.reshape(classes, classes).double()
    both = table.diagonal()[1:]
    either = (table.sum(0) + table.sum(1))[1:] - both
    present = either > 0
    if not present.any():
        return torch.zeros((), dtype=torch.float64, device=a.device)
    return 1 - (both[present] / either[present]).mean()


def _flat_pair(values: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    if values.shape != others.shape:
        raise SettingsError(
            f"scores: got shapes {tuple(values.shape)} and {tuple(others.shape)}; "
            "both must be the same"
        )
    if bool(values.isnan().any()):
        raise SettingsError("scores: got NaN, which has no rank; leave those elements out first")
    return values.detach().flatten(), others.detach().flatten()
