"""What a correction changed, in numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.imaging.volume import LabelMap
from ddmseg.maths.metrics import evaluate_labels


@dataclass(frozen=True)
class StructureEdit:
    """One changed structure: the corrected mask against the original one.

    ``dice`` is in [0, 1]; the two distances in mm are None where one of the masks is
    empty, for then there is no surface to measure to.
    """

    index: int
    name: str
    added_voxels: int
    removed_voxels: int
    before_ml: float
    after_ml: float
    dice: float
    mean_surface_distance_mm: float | None
    hd95_mm: float | None


@dataclass(frozen=True)
class EditMetrics:
    """All that a correction changed; ``structures`` has the largest change first."""

    voxels_changed: int
    ml_changed: float
    structures: list[StructureEdit]

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


def edit_metrics(
    original: LabelMap, corrected: NDArray[np.integer], *, name_of: Callable[[int], str]
) -> EditMetrics:
    """Measure a correction.

    Args:
        original: labels before it.
        corrected: ids after it, on the same grid.
        name_of: gives the name of an id.
    """
    changed = original.data != corrected
    before, after = original.data[changed], corrected[changed]
    ids = sorted({*np.unique(before).tolist(), *np.unique(after).tolist()} - {0})
    scores = evaluate_labels(corrected, original.data, ids, spacing_mm=original.spacing_mm)
    structures = [
        StructureEdit(
            index=score.label,
            name=name_of(score.label),
            added_voxels=int(np.count_nonzero(after == score.label)),
            removed_voxels=int(np.count_nonzero(before == score.label)),
            before_ml=round(score.truth_ml, 4),
            after_ml=round(score.prediction_ml, 4),
            dice=round(score.dice, 6),
            mean_surface_distance_mm=_finite(score.mean_surface_distance_mm),
            hd95_mm=_finite(score.hd95_mm),
        )
        for score in scores
    ]
    structures.sort(key=lambda one: (-(one.added_voxels + one.removed_voxels), one.index))
    voxels = int(np.count_nonzero(changed))
    return EditMetrics(voxels, round(voxels * original.voxel_ml, 4), structures)


def shown_edit(entry: dict[str, Any]) -> dict[str, Any] | None:
    """Return the metrics that an entry of the log holds, None where they are not whole."""
    told: Any = entry.get("edit")
    try:
        found = EditMetrics(
            int(told["voxels_changed"]),
            float(told["ml_changed"]),
            [StructureEdit(**one) for one in told["structures"]],
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    kinds = {
        "int": (int,),
        "float": (int, float),
        "str": (str,),
        "float | None": (int, float, None),
    }
    whole = all(
        _is_one_of(getattr(one, field.name), kinds[str(field.type)])
        for one in found.structures
        for field in fields(StructureEdit)
    )
    return found.as_dict() if whole else None


def _is_one_of(value: Any, kinds: tuple[type | None, ...]) -> bool:
    return value is None if None in kinds and value is None else type(value) in kinds


def _finite(value_mm: float) -> float | None:
    return round(value_mm, 3) if math.isfinite(value_mm) else None
