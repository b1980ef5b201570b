"""Volumes in millilitres with their intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddmseg.imaging.labels import count_voxels, structure
from ddmseg.maths.expected_dice import Expectation
from ddmseg.pipeline.checkpoint import Card
from ddmseg.pipeline.segmentation import StructureVolume


def structure_volumes(
    card: Card,
    labels: NDArray[np.integer],
    voxel_ml: float,
    expected: Expectation,
    *,
    expected_voxel_ml: float,
) -> list[StructureVolume]:
    """Count voxels and bound the true volume by the voxels in doubt.

    All voxels given to a structure that are expected to be wrong might be too much,
    all expected elsewhere too little; the interval spans both, times the factor that
    made it cover 95% of the validation subjects (1 where none was measured). A structure
    that the model grid has nowhere may still be as large as what is expected missed.

    Args:
        card: of the weights, with the factor in ``calibration``.
        labels: FreeSurfer ids on the scan's grid.
        voxel_ml: volume of a voxel there.
        expected: of each class, in voxels of the model grid.
        expected_voxel_ml: volume of a voxel of the model grid.
    """
    voxels = count_voxels(labels)
    factor = float(card.calibration.get("volume_interval_factor", 1.0))
    rows = []
    for place, index in enumerate(card.labels):
        if index == 0:
            continue
        volume = voxels.get(index, 0) * voxel_ml
        size = float(expected.size[place])
        stray = (size - float(expected.hits[place])) / size if size else 0.0
        missed = float(expected.missed[place])
        more = volume * missed / size if size else missed * expected_voxel_ml
        rows.append(
            StructureVolume(
                index=index,
                name=structure(index).name,
                volume_ml=volume,
                interval_low_ml=max(0.0, volume * (1 - factor * stray)),
                interval_high_ml=volume + factor * more,
            )
        )
    return rows
