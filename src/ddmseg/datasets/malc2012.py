"""MALC 2012: skull-stripped OASIS T1 scans with the Neuromorphometrics labels.

Never trained on. Its protocol is brought to FreeSurfer ids with
``freesurfer_ids`` and compared on ``EVALUATION_LABELS``.

Source: Landman and Warfield 2012, MICCAI Multi-Atlas Labeling Challenge;
CC BY-NC, OASIS and Neuromorphometrics.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddmseg.datasets.case import Case, data_folder, require_cases, volume_files, volume_stem
from ddmseg.imaging.labels import ANATOMY_LABELS, protocol_map, remap

NAME = "malc2012"
IMAGE_ENDING, LABELS_ENDING = "_SS", "_glm"
VERMIS = (71, 72, 73)
CEREBELLUM_EXTERIOR = (38, 39)
"""Cerebellar cortex, right and left."""

SAME_PERSON = {"1023": "1003", "1024": "1004", "1025": "1005"}
"""Second scans, and the first scan of the same person."""

EVALUATION_LABELS: tuple[int, ...] = tuple(i for i in ANATOMY_LABELS if i not in (0, 24))
"""FreeSurfer ids that both protocols define: all of ``anatomy`` but CSF, which is
drawn in few places here."""


def list_cases(root: str | os.PathLike[str] | None = None) -> list[Case]:
    """Return the scans; the group is the number of the person's first scan."""
    folder = data_folder(NAME, root)
    files = {volume_stem(path): path for path in volume_files(folder)}
    cases = []
    for stem, path in files.items():
        if stem.endswith(IMAGE_ENDING):
            name = stem.removesuffix(IMAGE_ENDING)
            labels = files.get(name + LABELS_ENDING)
            cases.append(Case(name, (path,), labels, SAME_PERSON.get(name, name)))
    return require_cases(cases, folder, "1000_SS.nii.gz and 1000_glm.nii.gz")


def freesurfer_ids(labels: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return FreeSurfer ids for a label map of this protocol.

    The vermis, which FreeSurfer divides, goes to the side whose cerebellar
    cortex is nearer in voxels. What FreeSurfer does not draw becomes 0.
    """
    ids = remap(labels, protocol_map(NAME))
    vermis = np.isin(labels, VERMIS)
    cortex = np.isin(labels, CEREBELLUM_EXTERIOR)
    if not vermis.any() or not cortex.any():
        return ids
    box = ndimage.find_objects((vermis | cortex).astype(np.int8))[0]
    nearest = ndimage.distance_transform_edt(
        ~cortex[box], return_distances=False, return_indices=True
    )
    sided = ids[box][tuple(nearest)]
    ids[box] = np.where(vermis[box], sided, ids[box])
    return ids
