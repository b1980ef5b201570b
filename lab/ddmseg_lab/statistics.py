"""What samples and tables of scores allow one to say: disagreement, calibration, paired tests.

Samples lie along the first axis: probabilities ``s b k *grid``, label maps ``s b *grid``. Of
scores one number per patient goes in; NaN is left out, see ``ddmseg.maths.statistics``.

Sources: Gal 2016, thesis, section 3.3 (mutual information); Kohl et al. 2018, arXiv 1806.05034
(energy distance); Guo et al. 2017, arXiv 1706.04599 (calibration error); Geifman and El-Yaniv
2017, arXiv 1705.08500 (risk and coverage); Wilcoxon 1945, Pratt 1959; Holm 1979.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.maths.statistics import Values, checked_sample
from ddmseg.maths.uncertainty import entropy, flat_pair
from ddmseg.types import PerItem, VoxelMap

# Class probabilities of each sample, class indices of each sample and of each reference
Samples = Float[Tensor, "s b k *grid"]
LabelSamples = Int64[Tensor, "s b *grid"]
References = Int64[Tensor, "r b *grid"]


def mutual_information(samples: Samples) -> VoxelMap:
    """Return the part of the entropy that is disagreement between samples, in [0, 1].

    H of the mean minus the mean of H, in units of log K; 0 when all samples agree.
    """
    within = torch.stack([entropy(p) for p in samples]).mean(dim=0)
    return (entropy(samples.mean(dim=0)) - within).clamp(0, 1)


def pairwise_disagreement(samples: LabelSamples, *, classes: int) -> PerItem:
    """Return the mean of 1 - IoU over all pairs of different samples, in [0, 1]."""
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


def expected_calibration_error(confidence: Tensor, correct: Tensor, *, bins: int = 15) -> float:
    """Return the mean gap of confidence and accuracy over bins of confidence, in [0, 1].

    The bins are equally wide and weighed by what they hold; NaN for no element.

    Source: Guo et al. 2017, eq. 3.
    """
    confidence, correct = flat_pair(confidence, correct)
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


def risk_coverage_area(uncertainty: Tensor, loss: Tensor) -> float:
    """Return the mean risk (AURC); the risk is the mean loss of the most certain 1, 2, ... cases.

    Lower is better; the mean loss is what chance gives. Cases of equal uncertainty count with
    their mean loss, so that their order does not.
    """
    uncertainty, loss = flat_pair(uncertainty, loss)
    n = loss.numel()
    if n == 0 or bool(loss.isnan().any()):
        raise SettingsError(f"loss: got {n} values; give at least one, and none NaN")
    _, group, counts = torch.unique(uncertainty, return_inverse=True, return_counts=True)
    shared = torch.zeros(len(counts), dtype=torch.float64, device=loss.device)
    shared.index_add_(0, group, loss.double())
    ordered = torch.repeat_interleave(shared / counts, counts)  # groups come sorted
    kept = torch.arange(1, n + 1, dtype=torch.float64, device=loss.device)
    return float((ordered.cumsum(0) / kept).mean())


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


def wilcoxon(values: Values, reference: Values) -> float:
    """Return the two-sided p-value of a paired signed-rank test.

    A patient with NaN in either is left out. Equal values throughout give 1.

    Source: Wilcoxon 1945; ties with zero difference kept as in Pratt 1959.
    """
    a, b = _pairs(values, reference, "paired test")
    if np.array_equal(a, b):
        return 1.0
    # Rounding would break ties: 0.9 - 0.8 and 0.3 - 0.2 differ in the last bit.
    difference = np.round(a - b, 12)
    return float(stats.wilcoxon(difference, zero_method="pratt").pvalue)


def holm(p_values: Values) -> list[float]:
    """Return p-values corrected for their number, in the order given.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65-70.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise SettingsError(f"p_values: got {p.tolist()}; each must lie in [0, 1]")
    order = np.argsort(p, kind="stable")
    stepped = p[order] * np.arange(len(p), 0, -1)
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(stepped).clip(max=1.0)
    return [float(value) for value in corrected]


def equivalence(
    reference: Values, methods: Mapping[str, Values], margin: float
) -> dict[str, float]:
    """Return for each method how likely its data are if it differs by the margin or more.

    The larger p-value of two one-sided Wilcoxon signed-rank tests, of differences above -margin
    and below margin; Holm-corrected over the methods.

    Source: Schuirmann 1987; with signed ranks Wellek 2010, Testing Statistical Hypotheses of
    Equivalence and Noninferiority, section 5.2.
    """
    found = {}
    for name, values in methods.items():
        a, b = _pairs(values, reference, "equivalence")
        low, high = np.round(a - b + margin, 12), np.round(a - b - margin, 12)
        above = stats.wilcoxon(low, zero_method="pratt", alternative="greater").pvalue
        below = stats.wilcoxon(high, zero_method="pratt", alternative="less").pvalue
        found[name] = float(max(above, below))
    return dict(zip(found, holm(list(found.values())), strict=True))


def pearson(x: Values, y: Values) -> float:
    """Return the correlation coefficient r in [-1, 1]; NaN when either never varies.

    A patient with NaN in either is left out.
    """
    a, b = (v - v.mean() for v in _pairs(x, y, "correlation"))
    size = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    return max(-1.0, min(1.0, float(a @ b) / size)) if size > 0 else math.nan


def _pairs(x: Values, y: Values, purpose: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise SettingsError(
            f"{purpose}: got shapes {a.shape} and {b.shape}; "
            "give one number a patient, the same patients in both"
        )
    known = ~(np.isnan(a) | np.isnan(b))
    return checked_sample(a[known], purpose), checked_sample(b[known], purpose)
