"""Volumes in millilitres with their intervals."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddmseg.imaging.labels import count_voxels, structure
from ddmseg.maths.expected_dice import Expectation
from ddmseg.models.checkpoint import Card
from ddmseg.quality.segmentation import StructureVolume


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
    all expected elsewhere too little; the interval spans both, times the structure's factor
    that made it cover 95% of the validation subjects (1 where none was measured). A structure
    that the model grid has nowhere may still be as large as what is expected missed.

    Args:
        card: of the weights, with the factors in ``calibration``.
        labels: FreeSurfer ids on the scan's grid.
        voxel_ml: volume of a voxel there.
        expected: of each class, in voxels of the model grid.
        expected_voxel_ml: volume of a voxel of the model grid.
    """
    voxels = count_voxels(labels)
    low, high = interval_in_voxels(card, expected)
    rows = []
    for place, index in enumerate(card.labels):
        if index == 0:
            continue
        volume, size = voxels.get(index, 0) * voxel_ml, float(expected.size[place])
        ml = volume / size if size else expected_voxel_ml
        rows.append(
            StructureVolume(
                index=index,
                name=structure(index).name,
                volume_ml=volume,
                interval_low_ml=float(low[place]) * ml,
                interval_high_ml=max(volume, float(high[place]) * ml),
            )
        )
    return rows


def interval_in_voxels(card: Card, expected: Expectation) -> tuple[Tensor, Tensor]:
    """Return the bounds of each class's volume, in voxels of the model grid.

    Args:
        card: of the weights, with the factors in ``calibration``.
        expected: of each class.
    """
    together = card.calibration.get("volume_interval_factor", 1.0)
    single = card.calibration.get("volume_interval_factors", {})
    names = (structure(index).name if index else "" for index in card.labels)
    factors = torch.tensor([float(single.get(name, together)) for name in names])
    factors = factors.to(expected.size)
    low = expected.size - factors * (expected.size - expected.hits)
    return low.clamp_min(0), expected.size + factors * expected.missed
