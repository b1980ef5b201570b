"""What of a result stands out, beyond what is usual for each structure.

Two measures: the discrepancy D of image and labels, averaged over a few millimetres; and how
unlike its structure a place looks (``ddmseg.quality.appearance``). Cortex is always in some doubt
and the third ventricle in more, so one limit for all would tint every brain alike. Each structure
has its own, which hardly any of its voxels exceeds in intact scans.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddmseg.errors import UsageError
from ddmseg.imaging.grid import Grid
from ddmseg.imaging.labels import count_voxels, labelled_box, structure
from ddmseg.quality.appearance import average_within, unlikeness
from ddmseg.quality.doubtful_regions import (
    LEAST_DOUBT,
    DoubtfulRegion,
    error_probability,
    find_doubtful_regions,
)

Measure = Literal["discrepancy", "intensity"]

AVERAGING_MM = 2.0
"""Standard deviation of the Gaussian that D is averaged with."""
PERCENTILE = 99.9
"""Of a measure within a structure in one intact scan ..."""
DEVIATIONS = 2.0
"""... and its mean over scans, plus so many standard deviations, is the limit."""
LEAST_ML = 0.1
"""Smaller regions are not listed."""
FEWEST_VOXELS = 20
"""Of a structure in a scan that says what is usual."""


@dataclass(frozen=True)
class StandingRegion(DoubtfulRegion):
    """A region beyond the usual, and by which measure."""

    by: Measure


@dataclass(frozen=True, eq=False)
class StandingOut:
    """What lies beyond the usual in one result.

    Attributes:
        beyond: voxels of the regions and of smaller ones (``*grid``).
        regions: by size, largest first.
        unlike_ml: the largest connected piece that does not look like its structure.
        unlike_index: what most of it is labelled as; 0 without any.
    """

    beyond: NDArray[np.bool_]
    regions: list[StandingRegion]
    unlike_ml: float = 0.0
    unlike_index: int = 0


def averaged(
    discrepancy: NDArray[np.float32], labels: NDArray[np.integer], spacing_mm: Sequence[float]
) -> NDArray[np.float32]:
    """Return D averaged over what is labelled nearby, 0 outside the labels (``*grid``)."""
    found = np.zeros(labels.shape, np.float32)
    if not labels.any():
        return found
    box = labelled_box(labels)
    inside = (labels[box] != 0).astype(np.float32)
    sigma = AVERAGING_MM / np.asarray(spacing_mm)
    found[box] = np.where(inside > 0, average_within(discrepancy[box], inside, sigma, 1e-3), 0.0)
    return found


def measures(
    discrepancy: NDArray[np.float32],
    image: NDArray[np.float32] | None,
    labels: NDArray[np.integer],
    spacing_mm: Sequence[float],
) -> dict[Measure, NDArray[np.float32]]:
    """Return what is held against limits; without the image the discrepancy alone.

    One beside the other: SciPy's filters let go of Python's lock.
    """
    with ThreadPoolExecutor(2) as pool:
        found: dict[Measure, Future[NDArray[np.float32]]] = {
            "discrepancy": pool.submit(averaged, discrepancy, labels, spacing_mm)
        }
        if image is not None:
            found["intensity"] = pool.submit(unlikeness, image, labels, spacing_mm)
        return {measure: made.result() for measure, made in found.items()}


def highest(
    found: Mapping[Measure, NDArray[np.float32]], labels: NDArray[np.integer]
) -> dict[str, dict[str, float]]:
    """Return the :data:`PERCENTILE` of each measure within each structure of a scan, by name."""
    sizes = count_voxels(labels)
    known = [index for index, count in sizes.items() if index and count >= FEWEST_VOXELS]
    return {
        measure: {
            structure(index).name: float(np.percentile(values[labels == index], PERCENTILE))
            for index in known
        }
        for measure, values in found.items()
    }


def usual_limits(
    intact: Iterable[Mapping[str, Mapping[str, float]]],
) -> dict[str, dict[str, float]]:
    """Return the limit of each structure by measure and name, for ``standing_out`` of a card.

    Args:
        intact: what :func:`highest` says of each of a few scans that nothing is wrong with.
    """
    tops: dict[str, dict[str, list[float]]] = {}
    for scan in intact:
        for measure, of in scan.items():
            for name, top in of.items():
                tops.setdefault(measure, {}).setdefault(name, []).append(top)

    def limit(own: list[float]) -> float:
        return round(float(np.mean(own) + DEVIATIONS * np.std(own)), 3)

    return {
        measure: {name: limit(own) for name, own in sorted(of.items())}
        for measure, of in tops.items()
    }


def beyond_usual(
    values: NDArray[np.float32], labels: NDArray[np.integer], limits: Mapping[str, float]
) -> NDArray[np.float32]:
    """Return a measure on a scale where the limit of the structure is one half (0 to 1).

    Structures without a limit, and what has no label, are 0.
    """
    found = list(count_voxels(labels))
    scale = np.zeros(1 + max(found, default=0), np.float32)
    for index in found:
        with contextlib.suppress(UsageError):  # an id of nobody's table has no limit
            limit = limits.get(structure(index).name, 0.0)
            scale[index] = 0.5 / limit if index and limit > 0 else 0.0
    return np.asarray(np.minimum(values * scale[labels], 1.0), dtype=np.float32)


def standing_out(
    discrepancy: NDArray[np.float32],
    image: NDArray[np.float32] | None,
    labels: NDArray[np.integer],
    usual: Mapping[str, Mapping[str, float]],
    grid: Grid,
    *,
    temperature: float = 1.0,
) -> StandingOut:
    """Return where a measure is beyond its limits, as voxels and as regions by size.

    Args:
        image: intensities, or None where they are not at hand.
        labels: FreeSurfer ids on the same grid.
        usual: limits, as :func:`usual_limits` gives them.
        temperature: sigma_D of the weights, for the expected error of the regions.
    """
    whole, box = np.zeros(labels.shape, bool), labelled_box(labels)
    discrepancy, labels, beyond = discrepancy[box], labels[box], whole[box]
    image = None if image is None else image[box]
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    grid = Grid(labels.shape, affine)
    error = error_probability(discrepancy, temperature=temperature)
    regions: list[StandingRegion] = []
    unlike = (0.0, 0)

    def found(
        measure: Measure, values: NDArray[np.float32]
    ) -> tuple[NDArray[np.bool_], list[DoubtfulRegion]]:
        doubt = beyond_usual(values, labels, usual.get(measure, {}))
        return doubt >= LEAST_DOUBT, find_doubtful_regions(doubt, labels, grid, error=error)

    held = measures(discrepancy, image, labels, grid.spacing_mm)
    with ThreadPoolExecutor(2) as pool:
        for measure, (own, of) in zip(held, pool.map(found, held, held.values()), strict=True):
            kept = [asdict(one) for one in of if one.volume_ml >= LEAST_ML]
            regions += [StandingRegion(**one, by=measure) for one in kept]
            beyond |= own
            if measure == "intensity":
                unlike = _largest(own, labels, grid.voxel_ml)
    return StandingOut(whole, sorted(regions, key=lambda one: -one.volume_ml), *unlike)


def _largest(
    beyond: NDArray[np.bool_], labels: NDArray[np.integer], voxel_ml: float
) -> tuple[float, int]:
    """Return volume and most frequent label of the largest connected piece."""
    pieces, count = ndimage.label(beyond)
    if not count:
        return 0.0, 0
    sizes = np.bincount(pieces.ravel())[1:]
    piece = int(sizes.argmax())
    index = int(np.bincount(labels[pieces == piece + 1]).argmax())
    return float(sizes[piece]) * voxel_ml, index
