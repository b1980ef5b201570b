"""Three tissues of the MALC2012 protocol, and other tools' labels brought to them.

The classes are those of the column *Class* in the challenge's table of labels, as far as
its labels have a place among FreeSurfer's:

======  ===========================================================================
CSF     the ventricles: lateral with their inferior horns, third, fourth
grey    cortex of cerebrum and cerebellum with vermis, hippocampus, amygdala,
        caudate, putamen, pallidum, thalamus, accumbens
white   white matter of cerebrum and cerebellum, lesions in it, brain-stem, ventral
        diencephalon
======  ===========================================================================

Fluid outside the ventricles, vessels, optic chiasm and basal forebrain are in none.

Source: MICCAI 2012 Workshop on Multi-Atlas Labeling, table of labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddmseg.datasets.malc2012 import EVALUATION_LABELS
from ddmseg.imaging.labels import remap
from ddmseg.maths.metrics import dice
from ddmseg_lab.scans import Ids

TISSUES: dict[str, tuple[int, ...]] = {
    "csf": (4, 5, 14, 15, 43, 44),
    "grey": (3, 8, 10, 11, 12, 13, 17, 18, 26, 42, 47, 49, 50, 51, 52, 53, 54, 58),
    "white": (2, 7, 16, 28, 41, 46, 60),
}
"""FreeSurfer ids of each tissue, from dark to bright in a T1 scan."""
LEFT_WHITE, RIGHT_WHITE = 2, 41
WHITE_MATTER_LESION = 77
SAMSEG_IDS = {
    **{index: index for index in EVALUATION_LABELS},
    **{31: 4, 63: 43},  # choroid plexus: the lateral ventricle that it lies in
    **{30: LEFT_WHITE, 62: RIGHT_WHITE},  # perivascular spaces
    WHITE_MATTER_LESION: WHITE_MATTER_LESION,
}
"""SAMSEG's labels as structures that both protocols draw; all others are background."""


def samseg_structures(labels: Ids) -> NDArray[np.int32]:
    """Return SAMSEG's labels as this protocol would name them.

    Lesions of the white matter, for which SAMSEG has no side, go to the nearer white
    matter in voxels.
    """
    ids = remap(labels, SAMSEG_IDS)
    lesion = ids == WHITE_MATTER_LESION
    white = np.isin(ids, (LEFT_WHITE, RIGHT_WHITE))
    if not lesion.any() or not white.any():
        return np.where(lesion, 0, ids)
    box = ndimage.find_objects((lesion | white).astype(np.int8))[0]
    nearest = ndimage.distance_transform_edt(
        ~white[box], return_distances=False, return_indices=True
    )
    ids[box] = np.where(lesion[box], ids[box][tuple(nearest)], ids[box])
    return ids


def tissues_of(ids: Ids) -> NDArray[np.int32]:
    """Return 1, 2, 3 for the tissues in their order and 0 elsewhere, from FreeSurfer ids."""
    places = enumerate(TISSUES.values(), start=1)
    return remap(ids, {index: place for place, members in places for index in members})


def tissue_dice(found: Ids, truth: Ids) -> dict[str, float]:
    """Return the Dice of each tissue, and as ``NAME_drawn`` where the truth has any tissue.

    The second leaves out what the protocol does not draw, such as the fluid in the sulci.
    """
    scores = {}
    drawn = truth > 0
    for place, name in enumerate(TISSUES, start=1):
        scores[name] = dice(found == place, truth == place)
        scores[f"{name}_drawn"] = dice((found == place) & drawn, truth == place)
    return scores
