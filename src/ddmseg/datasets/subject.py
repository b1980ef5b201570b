"""A whole scan with its truth: on its own grid, or on that of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddmseg.datasets.case import Case
from ddmseg.errors import ScanError
from ddmseg.imaging.labels import count_voxels, remap
from ddmseg.imaging.preprocess import Prepared, prepare, within
from ddmseg.imaging.preprocess_variants import prepare_intensities
from ddmseg.imaging.volume import LabelMap, Volume
from ddmseg.models.settings import DataSettings

Example = tuple[Tensor, Tensor]
"""Normalised image ``c *grid`` and class indices ``*grid``."""

MARGIN_VOXELS = 4
"""Kept around the brain where slices are cut to it, in training as in prediction."""
SAME_PLACE_MM = 0.1
"""How far entries of two affines may differ: headers are rounded."""


@dataclass(frozen=True, eq=False)
class FileGrid:
    """Where the truth was drawn (class indices, ``i j k``), and the way there from a network."""

    prepared: Prepared
    labels: Tensor
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Subject:
    """One labelled scan on its own grid, or on that of a network.

    Attributes:
        image: normalised, ``c i j k``.
        labels: class indices, ``i j k``.
        slice_axis: spatial axis that 2-D networks cut across.
        file: the grid of the scan's files, where this is another.
    """

    identifier: str
    image: Tensor
    labels: Tensor
    spacing_mm: tuple[float, float, float]
    slice_axis: int = 1
    channel_seconds: float = 0.0
    file: FileGrid | None = None

    @property
    def truth(self) -> tuple[Tensor, tuple[float, float, float]]:
        """Class indices that an answer is compared with, and the spacing of their grid."""
        if self.file is None:
            return self.labels, self.spacing_mm
        return self.file.labels, self.file.spacing_mm

    def answer(self, probabilities: Tensor) -> Tensor:
        """Return class indices on the grid of the truth; ``k i j k`` lie on the image's."""
        if self.file is None:
            return probabilities.argmax(0)
        every = range(len(probabilities))
        return _indices(self.file.prepared.labels_to_input(probabilities, every))


def box_around(inside: Tensor) -> tuple[slice, ...]:
    """Return the box of a mask's voxels (``i j k``) with a margin, or of all where it is empty."""
    places = inside.nonzero()
    if not len(places):
        return tuple(slice(0, n) for n in inside.shape)
    low = (places.min(0).values - MARGIN_VOXELS).clamp_min(0).tolist()
    high = (places.max(0).values + 1 + MARGIN_VOXELS).tolist()
    return tuple(slice(a, min(b, n)) for a, b, n in zip(low, high, inside.shape, strict=True))


def read_labelled(case: Case, settings: DataSettings) -> Subject:
    """Read one labelled scan, its intensities prepared as the settings say.

    Raises:
        ScanError: when it has no label map or a file is not usable.
        MissingExtraError: for ``data.bias_field`` without SimpleITK.
    """
    from ddmseg.imaging.nifti import read_label_map, read_volume

    if case.labels is None:
        raise ScanError(f"{case.identifier}: has no label map; training needs one")
    volume = read_volume(case.images[0])
    prepared = prepare_intensities(
        volume.data,
        volume.spacing_mm,
        normalisation=settings.normalisation,
        bias_field=settings.bias_field,
        resample_mm=settings.resample_mm,
    )
    image, labels = torch.from_numpy(prepared)[None], _indices(read_label_map(case.labels).data)
    return Subject(case.identifier, image, labels, volume.spacing_mm)


def on_model_grid(
    identifier: str,
    channels: Sequence[Volume],
    labels: LabelMap,
    classes: Mapping[int, int],
    *,
    spacing_mm: float,
) -> Subject:
    """Bring the scans of a subject and their labels to cubes of ``spacing_mm``, nearest to RAS.

    One scan is cut to the head before its intensities are normalised, as when it is
    segmented. Several (``channels``, on the grid of the labels) are normalised each by itself
    and then cut to one box around what any of them shows. ``classes`` has the class index of
    each id but 0.

    Raises:
        ScanError: when grids differ, a label is not among the classes or a scan has no
            contrast.
    """
    check_one_grid(identifier, [*channels, labels])
    truth = _class_indices(identifier, labels.data, classes)
    alone = len(channels) == 1
    prepared = [prepare(one, spacing_mm=spacing_mm, crop_to_head=alone) for one in channels]
    image = torch.from_numpy(np.stack([one.image for one in prepared]))
    first = prepared[0]
    if not alone:
        box = box_around((image > 0).any(0))
        first = within(first, box)
        image = image[(slice(None), *box)].contiguous()
    on_grid = _indices(first.labels_from_input(truth))
    file = FileGrid(first, _indices(truth), labels.spacing_mm)
    return Subject(identifier, image, on_grid, first.grid.spacing_mm, file=file)


def _indices(ids: NDArray[Any]) -> Tensor:
    return torch.from_numpy(ids.astype("int64"))


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


def check_one_grid(identifier: str, volumes: Sequence[Volume | LabelMap]) -> None:
    """Raise a ScanError where scans and labels of a subject lie on different grids."""
    first = volumes[0]
    for other in volumes[1:]:
        if first.shape != other.shape or not np.allclose(
            first.affine, other.affine, atol=SAME_PLACE_MM
        ):
            raise ScanError(
                f"{identifier}: {first.name} {first.shape} and {other.name} {other.shape} lie on "
                "different grids; bring them to one grid first, or move the case away"
            )
