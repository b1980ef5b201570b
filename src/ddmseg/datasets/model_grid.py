"""A labelled scan on the grid of a network, as ``ddmseg segment`` brings a scan there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ddmseg.datasets.file_grid import FileGrid
from ddmseg.datasets.subject import Subject, box_around
from ddmseg.errors import ScanError
from ddmseg.imaging.labels import count_voxels, remap
from ddmseg.imaging.preprocess import prepare, within
from ddmseg.imaging.volume import LabelMap, Volume

SAME_PLACE_MM = 0.1
"""How far entries of two affines may differ: headers are rounded."""


def on_model_grid(
    identifier: str,
    contrasts: Sequence[Volume],
    labels: LabelMap,
    classes: Mapping[int, int],
    *,
    spacing_mm: float,
) -> Subject:
    """Bring the scans of a subject and their labels to cubes of ``spacing_mm``, nearest to RAS.

    One scan is cut to the head before its intensities are normalised, as when it is
    segmented. Several are normalised each by itself and then cut to one box around what
    any of them shows.

    Args:
        identifier: unique within the data set.
        contrasts: the scans, at least one, on the grid of the labels.
        labels: the truth, with the ids of the data set.
        classes: class index of each id but 0.
        spacing_mm: voxel edge of the network's grid.

    Raises:
        ScanError: when grids differ, a label is not among the classes or a scan has no
            contrast.
    """
    _check_one_grid(identifier, [*contrasts, labels])
    truth = _class_indices(identifier, labels.data, classes)
    alone = len(contrasts) == 1
    prepared = [prepare(one, spacing_mm=spacing_mm, crop_to_head=alone) for one in contrasts]
    image = torch.from_numpy(np.stack([one.image for one in prepared]))
    first = prepared[0]
    if not alone:
        box = box_around((image > 0).any(0))
        first = within(first, box)
        image = image[(slice(None), *box)].contiguous()
    on_grid = torch.from_numpy(first.labels_from_input(truth).astype("int64"))
    file = FileGrid(first, torch.from_numpy(truth.astype("int64")), labels.spacing_mm)
    return Subject(identifier, image, on_grid, first.grid.spacing_mm, file=file)


def without_file(subject: Subject) -> Subject:
    """Return a subject that is only trained on: its labels small, the way back forgotten."""
    return replace(subject, labels=subject.labels.to(torch.uint8), file=None)


def _class_indices(
    identifier: str, ids: NDArray[Any], classes: Mapping[int, int]
) -> NDArray[np.int32]:
    if ids.size and int(ids.min()) < 0:
        raise ScanError(f"{identifier}: the labels hold {int(ids.min())}; ids must be at least 0")
    strange = [index for index in count_voxels(ids) if index and index not in classes]
    if strange:
        raise ScanError(
            f"{identifier}: the labels hold the id {strange[0]}; allowed are 0 and "
            f"{', '.join(map(str, classes))}: check that the file is of this set and protocol"
        )
    return remap(ids, classes)


def _check_one_grid(identifier: str, volumes: Sequence[Volume | LabelMap]) -> None:
    first = volumes[0]
    for other in volumes[1:]:
        same = first.shape == other.shape
        if not same or not np.allclose(first.affine, other.affine, atol=SAME_PLACE_MM):
            raise ScanError(
                f"{identifier}: {first.name} {first.shape} and {other.name} {other.shape} lie on "
                "different grids; bring them to one grid first, or move the case away"
            )
