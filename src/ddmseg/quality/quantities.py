"""What has a volume: structures, both sides together, totals, and what a scan does not allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddmseg.imaging.labels import mirror_index, structure
from ddmseg.imaging.volume import Volume
from ddmseg.quality.segmentation import INTRACRANIAL, WHOLE_BRAIN

_VENTRICLES = (4, 5, 14, 15, 43, 44)
_FLUID = (*_VENTRICLES, 24)
_WHITE = (2, 7, 41, 46, 77)
_STEM = (16,)
"""Neither grey nor white alone."""
SHELL_MM = (4.0, 12.0)
"""Distance from the labels at which a scan that shows a head has skull, fat and skin."""
GRID_MM = 4.0
"""Of the voxels looked at for that: distances on a finer grid take half a second."""
BRIGHT = 0.1
"""Share of the labels' usual intensity from which a voxel is more than air."""
HEAD_SHARE = 0.2
"""Of bright voxels in the shell, from which a scan shows a head: a stripped one has hardly any."""


@dataclass(frozen=True)
class Quantity:
    """A structure, a pair of sides or a total: its name and the ids that make it."""

    name: str
    ids: tuple[int, ...]


def structures(labels: Sequence[int]) -> list[Quantity]:
    """Return each structure of a model by itself, background left out."""
    return [Quantity(structure(index).name, (index,)) for index in labels if index]


def pairs(labels: Sequence[int]) -> list[Quantity]:
    """Return left and right together, of structures that a model knows on both sides."""
    found = []
    for index in labels:
        name, other = structure(index).name, mirror_index(index)
        if name.startswith("Left-") and other in labels:
            found.append(Quantity(name.removeprefix("Left-"), (index, other)))
    return found


def totals(labels: Sequence[int]) -> list[Quantity]:
    """Return what structures add up to, of a model that knows the whole brain.

    The brain is what is neither ventricle nor CSF. Grey matter is cortex, deep nuclei,
    hippocampus and amygdala of cerebrum and cerebellum; the brain stem counts as neither.
    """
    known = [index for index in labels if index]
    if len(known) < WHOLE_BRAIN:
        return []
    brain = [index for index in known if index not in _FLUID]
    rows = {
        "Brain": brain,
        "Grey-Matter": [index for index in brain if index not in (*_WHITE, *_STEM)],
        "White-Matter": [index for index in brain if index in _WHITE],
        "Ventricles": [index for index in known if index in _VENTRICLES],
        INTRACRANIAL: known if 24 in known else [],
    }
    return [Quantity(name, tuple(ids)) for name, ids in rows.items() if ids]


def shows_head(scan: Volume, labels: NDArray[np.integer]) -> bool:
    """Return whether there is a head around the labels, rather than a brain cut out of it."""
    from scipy.ndimage import distance_transform_edt

    steps = [max(1, round(GRID_MM / s)) for s in scan.spacing_mm]
    thin = tuple(slice(None, None, step) for step in steps)
    inside, data = labels[thin] > 0, scan.data[thin]
    if not inside.any():
        return False
    spacing = [s * step for s, step in zip(scan.spacing_mm, steps, strict=True)]
    away = distance_transform_edt(~inside, sampling=spacing)
    shell = data[(away > SHELL_MM[0]) & (away < SHELL_MM[1])]
    floor = float(scan.data.min())
    bright = floor + BRIGHT * (float(np.median(data[inside])) - floor)
    return bool(shell.size and (shell > bright).mean() > HEAD_SHARE)


def not_measured(
    scan: Volume, labels: NDArray[np.integer], known: Sequence[int], *, cut: bool
) -> dict[str, str]:
    """Return the totals that a scan does not allow, with the reason.

    Args:
        known: ids of the model.
        cut: whether part of the brain lies outside the scan.
    """
    rows = totals(known)
    if cut:
        return {row.name: "part of the brain lies outside the image" for row in rows}
    if any(row.name == INTRACRANIAL for row in rows) and not shows_head(scan, labels):
        return {INTRACRANIAL: "the scan shows no head around the brain"}
    return {}
