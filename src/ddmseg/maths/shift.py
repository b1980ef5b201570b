"""Whether a window of scans differs from a reference: one answer for many statistics.

Letters: N scans, of which n in the window and m in the reference; J statistics; B
permutations. Numbers are compared by the Kolmogorov-Smirnov distance and by the population
stability index, categories by chi-square.

Statistics of one scan hang together, so that J tests at 5% each raise a false alarm nearly
always, and a correction for their number (Bonferroni) is far too strict. The alarm of the
*whole* comparison is therefore held at its level by permuting scans: the smallest of all J
p-values is compared with the smallest found when the same scans are dealt out at random to
window and reference. Whole scans move, so their statistics keep their correlations,
whatever these are. Without shift all deals are equally likely, which makes the rate exact
for any sample size if the *scans* are independent.

Once there is an alarm, the false discovery rate among the statistics named is controlled by
Benjamini-Hochberg. That is proven for statistics that hang together positively; for others
it is measured (``ddmseg_lab.studies.monitor_alarms``).

Sources: Kolmogorov 1933, Smirnov 1948; Yurdakul 2018 (distribution of the population
stability index); Westfall and Young 1993, algorithm 2.5 (smallest p-value); Benjamini and
Hochberg 1995; Hinkley 1970 (change point).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from ddmseg.errors import SettingsError

ALARM_LEVEL = 0.05
"""How often a comparison without shift may raise an alarm, and the false discovery rate."""
PERMUTATIONS = 1999
SMALLEST_WINDOW = 10
SMALLEST_REFERENCE = 20
"""Scans below which nothing is tested: the few deals of fewer scans leave no small p-value."""
MOST_BINS = 10
SCANS_PER_BIN = 5
_BLOCK = 1 << 21
"""Entries of a table of deals that is handled at once: 2 MB of booleans."""

Floats = NDArray[np.float64]
Deals = NDArray[np.bool_]
"""One row a deal of the scans, True for those in the window; the first is the real one."""


@dataclass(frozen=True)
class Shift:
    """What one statistic does from reference to window.

    Attributes:
        kind: ``number``, ``category``, or ``distance`` for the distance of features.
        ks: Kolmogorov-Smirnov distance in [0, 1]; NaN for categories.
        psi: population stability index, at least 0; NaN for distances.
        psi_limit: what the index stays below in 95% of the deals without shift.
        p: of this statistic by itself, in (0, 1].
    """

    name: str
    kind: Literal["number", "category", "distance"]
    n_reference: int
    n_window: int
    ks: float
    psi: float
    psi_limit: float
    p: float
    p_family: float
    q: float


def find_shifts(
    window: NDArray[np.bool_],
    *,
    numbers: Mapping[str, Floats],
    categories: Mapping[str, NDArray[np.int64]],
    features: Mapping[str, Floats] | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> list[Shift]:
    """Compare the scans of the window with all others; equal input and seed, equal output.

    Args:
        window: which of the N scans are in the window; the others are the reference.
        numbers: by name, one value a scan; NaN where there is none.
        categories: by name, one code a scan from 0 on; -1 where there is none.
        features: by name, a row of d numbers a scan, compared by their distance from
            those of the reference; NaN where there are none.
        permutations: B, at least 19; below 1000 p-values are coarse.

    Returns:
        One entry a statistic that can be tested, in the order given. Left out are those
        with one value only or with too few values in window or reference.

    Raises:
        SettingsError: when there are too few scans or permutations.
    """
    if permutations < 19:
        raise SettingsError(f"permutations: got {permutations}; it must be at least 19")
    n = int(window.sum())
    sizes = {"window": (n, SMALLEST_WINDOW), "reference": (len(window) - n, SMALLEST_REFERENCE)}
    for name, (count, least) in sizes.items():
        if count < least:
            told = f"{name}: {count} scan{'s' * (count != 1)}; at least {least} are needed"
            raise SettingsError(told)
    tests: list[_Test] = [
        *(_NumberTest(name, values, window) for name, values in numbers.items()),
        *(_CategoryTest(name, codes, window) for name, codes in categories.items()),
        *(_DistanceTest(name, rows, window) for name, rows in (features or {}).items()),
    ]
    tests = [test for test in tests if test.possible]
    if not tests:
        return []
    blocks = [[test.evaluate(d) for test in tests] for d in _deals(window, permutations, seed)]
    # deals by tests: how unusual each statistic is, its KS distance, its stability index
    scores, ks, psi = (
        np.concatenate([np.stack([one[k] for one in block], axis=1) for block in blocks])
        for k in range(3)
    )
    return _shifts(tests, scores, ks, psi)


def is_alarm(shifts: list[Shift], *, level: float = ALARM_LEVEL) -> bool:
    """Say whether anything shifted; without shift this is true at the rate ``level`` at most."""
    return any(shift.p_family <= level for shift in shifts)


def shifted(shifts: list[Shift]) -> list[Shift]:
    """Return the statistics to name, the least likely first; none where there is no alarm."""
    if not is_alarm(shifts):
        return []
    named = [shift for shift in shifts if min(shift.p_family, shift.q) <= ALARM_LEVEL]
    return sorted(named, key=lambda shift: (shift.p_family, shift.p))


def population_stability(reference: NDArray[Any], window: NDArray[Any]) -> Floats:
    """Return the population stability index of counts in bins, which lie along the last axis.

    sum over bins of (a - b) ln(a / b), a and b the shares. Each bin counts half a scan
    more, so that empty ones stay finite. Symmetric; 0 where the shares are equal.

    The usual reading (0.1 some, 0.2 much shift) ignores the number of scans. Without any
    shift the index is near (1/n + 1/m) times a chi-square of bins - 1 degrees of freedom:
    with 30 scans on each side and ten bins it exceeds 0.2 in 93 of 100 windows.

    >>> population_stability(np.array([50, 50]), np.array([50, 50])).item()
    0.0
    """
    a, b = ((x + 0.5) / (x.sum(-1, keepdims=True) + 0.5 * x.shape[-1]) for x in (window, reference))
    return np.asarray(((a - b) * np.log(a / b)).sum(-1))


def change_point(values: Floats) -> int:
    """Return the place of the first value after the likeliest change of level or spread.

    The split into two parts that leaves the least sum of squares within them, of the values
    or of their distances from the median; whichever of the two it explains better decides.
    The outermost twentieth on either side is drawn in, so that one spike is no change. NaN
    is passed over. 0 when the values never vary.

    >>> change_point(np.array([1.0, 2.0, 1.5, 1.2, 7.0, 9.0, 8.0]))
    4

    Source: Hinkley 1970, Biometrika 57:1-17 (change of a normal mean).
    """
    known = np.flatnonzero(~np.isnan(values))
    x = values[known]
    if not len(x) or np.ptp(x) == 0:
        return 0
    explained = np.stack([_explained(y) for y in (x, np.abs(x - np.median(x)))])
    return int(known[int(explained.max(0).argmax()) + 1])


def _explained(y: Floats) -> Floats:
    """Share of the variance that each split into the first 1, 2, ... values and the rest takes."""
    low, high = np.percentile(y, [5, 95])
    drawn_in = np.clip(y, low, high) if low < high else y
    z = drawn_in - drawn_in.mean()
    total = float(z @ z)
    first = np.arange(1, len(z))
    if total == 0:
        return np.zeros(len(first))
    return np.asarray(np.cumsum(z)[:-1] ** 2 * len(z) / (first * (len(z) - first)) / total)


class _Test:
    """One statistic: prepared once, then evaluated on deals."""

    kind: Literal["number", "category", "distance"]

    def __init__(self, name: str, known: NDArray[np.bool_], window: NDArray[np.bool_]) -> None:
        self.name = name
        self.known = np.flatnonzero(known)
        self.n_window = int(window[self.known].sum())
        self.n_reference = len(self.known) - self.n_window
        self.possible = self.n_window >= SMALLEST_WINDOW and self.n_reference >= SMALLEST_REFERENCE

    def evaluate(self, deals: Deals) -> tuple[Floats, Floats, Floats]:
        """Return score, KS distance and stability index of each deal.

        The score is an asymptotic p-value. It only ranks the deals, so that it need not be
        right; it makes statistics comparable with each other.
        """
        raise NotImplementedError


class _NumberTest(_Test):
    kind = "number"

    def __init__(self, name: str, values: Floats, window: NDArray[np.bool_]) -> None:
        super().__init__(name, ~np.isnan(values), window)
        self.known = self.known[np.argsort(values[self.known], kind="stable")]
        x = values[self.known]
        self.possible = self.possible and x[0] < x[-1]
        if self.possible:
            self.last = np.append(np.diff(x) > 0, True)  # of equal values
            self.bins = _one_hot(_quantile_bins(x, min(self.n_window, self.n_reference)))

    def evaluate(self, deals: Deals) -> tuple[Floats, Floats, Floats]:
        dealt = deals[:, self.known]
        ks, p = _kolmogorov_smirnov(dealt, self.last)
        inside = _counts(dealt, self.bins)
        outside = self.bins.sum(0) - inside
        psi = population_stability(outside, inside)
        n, m = inside.sum(-1), outside.sum(-1)
        scale = np.maximum(n, 1) * np.maximum(m, 1) / len(self.known)
        p_psi = special.chdtrc(self.bins.shape[1] - 1, psi * scale)
        return 2 * np.minimum(p, p_psi), ks, psi


class _CategoryTest(_Test):
    kind = "category"

    def __init__(self, name: str, codes: NDArray[np.int64], window: NDArray[np.bool_]) -> None:
        super().__init__(name, codes >= 0, window)
        found, places = np.unique(codes[self.known], return_inverse=True)
        self.possible = self.possible and len(found) > 1
        self.bins = _one_hot(places)

    def evaluate(self, deals: Deals) -> tuple[Floats, Floats, Floats]:
        inside = _counts(deals[:, self.known], self.bins)
        total = self.bins.sum(0)
        n = inside.sum(-1, keepdims=True)
        expected = n * total / total.sum()
        spread = expected * (1 - n / total.sum())
        # the other row of the table differs by the same amount; a deal may leave a side empty
        chi_square = ((inside - expected) ** 2 / np.maximum(spread, 1e-9)).sum(-1)
        p = special.chdtrc(self.bins.shape[1] - 1, chi_square)
        psi = population_stability(total - inside, inside)
        return p, np.full(len(deals), math.nan), psi


class _DistanceTest(_Test):
    """The reference is fitted anew in each deal: the real one has no advantage over them."""

    kind = "distance"

    def __init__(self, name: str, features: Floats, window: NDArray[np.bool_]) -> None:
        super().__init__(name, np.asarray(~np.isnan(features).any(1)), window)
        self.features = features[self.known]
        self.possible = self.possible and bool((np.ptp(self.features, axis=0) > 0).any())

    def evaluate(self, deals: Deals) -> tuple[Floats, Floats, Floats]:
        dealt = deals[:, self.known]
        distances = reference_distances(self.features, ~dealt)
        order = np.argsort(distances, axis=1)
        ordered = np.take_along_axis(distances, order, axis=1)
        last = np.diff(ordered, axis=1, append=math.inf) > 0
        ks, p = _kolmogorov_smirnov(np.take_along_axis(dealt, order, axis=1), last)
        return p, ks, np.full(len(deals), math.nan)


def _kolmogorov_smirnov(dealt: Deals, last: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Distance and asymptotic p-value of each deal of scans in order of their values.

    ``last`` marks the last of equal values, where alone the distribution functions count.
    """
    inside = np.cumsum(dealt, axis=1, dtype=np.int32)
    n = np.maximum(inside[:, -1:], 1)
    m = np.maximum(dealt.shape[1] - inside[:, -1:], 1)
    seen = np.arange(1, dealt.shape[1] + 1)
    gaps = np.where(last, np.abs(inside / n - (seen - inside) / m), 0.0)
    distance: Floats = gaps.max(1)
    size = (n * m / (n + m))[:, 0]
    return distance, special.kolmogorov(np.sqrt(size) * distance)


def _quantile_bins(x: Floats, smaller: int) -> NDArray[np.int64]:
    """Bin of each value: quantiles of window and reference together, which no deal changes."""
    count = min(MOST_BINS, max(2, smaller // SCANS_PER_BIN))
    edges = np.unique(np.quantile(x, np.arange(1, count) / count, method="lower"))
    edges = edges[edges < x[-1]]
    if not len(edges):  # more than half share the largest value
        edges = x[[np.searchsorted(x, x[-1]) - 1]]
    return np.searchsorted(edges, x, side="left")


def _one_hot(places: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.eye(int(places.max(initial=0)) + 1, dtype=np.float32)[places]


def _counts(dealt: Deals, bins: NDArray[np.float32]) -> Floats:
    """Scans of the window in each bin; 32 bits hold whole numbers to 16 millions."""
    return (dealt.astype(np.float32) @ bins).astype(np.float64)


def _deals(window: NDArray[np.bool_], permutations: int, seed: int) -> Iterator[Deals]:
    """Yield the real deal and then random ones, in blocks."""
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK // len(window))
    for start in range(0, permutations + 1, rows):
        count = min(rows, permutations + 1 - start)
        deals = np.tile(window, (count, 1))
        first = int(start == 0)
        deals[first:] = generator.permuted(deals[first:], axis=1)
        yield deals


def _shifts(tests: list[_Test], scores: Floats, ks: Floats, psi: Floats) -> list[Shift]:
    """Rank the real deal, row 0, among all."""
    # the same deal in another order of sums must tie
    scores = np.round(scores, 12)
    p = (scores <= scores[0]).mean(0)
    p_family = (scores.min(1)[:, None] <= scores[0]).mean(0)
    q = stats.false_discovery_control(p, method="bh")
    limits = np.quantile(psi, 1 - ALARM_LEVEL, axis=0)
    told = np.stack([ks[0], psi[0], limits, p, p_family, q], axis=1).tolist()
    return [
        Shift(test.name, test.kind, test.n_reference, test.n_window, *figures)
        for test, figures in zip(tests, told, strict=True)
    ]


RIDGE = 0.1
"""Added to the variance of each channel, in units of its spread over all vectors: a few
dozen vectors do not determine a covariance of 16 channels."""


def reference_distances(features: Floats, reference: NDArray[np.bool_]) -> Floats:
    """Return the Mahalanobis distance of each vector from several references (``r n``).

    A member of the reference is measured against the *others* of it: mean and covariance
    pull towards every vector that they were fitted to, so that new vectors would look
    strange beside old ones even if nothing had changed.

        D^2 = (x - mu)^T S^-1 (x - mu)

    Args:
        features: x, one row each (``n d``), finite; a channel that never varies is ignored.
        reference: members of each reference (``r n``), at least three.

    Source: Mahalanobis 1936; leaving one out by Sherman and Morrison 1950.
    """
    r, N = reference.shape
    spread = features.std(0)
    moving = spread > 0
    x = (features[:, moving] - features[:, moving].mean(0)) / spread[moving]
    d = x.shape[1]
    if not d:
        return np.zeros((r, N))
    products = (x[:, :, None] * x[:, None, :]).reshape(N, d * d)
    weights = reference.astype(np.float64)
    m = weights.sum(1)[:, None]
    mu = weights @ x / m
    scatter = (weights @ products).reshape(r, d, d) - m[..., None] * mu[:, :, None] * mu[:, None, :]
    inverse = np.linalg.inv(scatter + RIDGE * (m[..., None] - 1) * np.eye(d))
    pulled = np.einsum("rde,re->rd", inverse, mu)
    # (x - mu)^T A^-1 (x - mu) of all vectors and references by matrix products
    quadratic = inverse.reshape(r, d * d) @ products.T - 2 * pulled @ x.T
    quadratic = np.maximum(quadratic + (pulled * mu).sum(1)[:, None], 0.0)
    factor = m / (m - 1)
    left_out = factor**2 * (m - 2) * quadratic / np.maximum(1 - factor * quadratic, 1e-12)
    return np.asarray(np.sqrt(np.where(reference, left_out, (m - 1) * quadratic)))
