"""What BIDS wants beside each volume of a derivative: the space it lies in and what it came from.

Source: BIDS 1.10, "Imaging data types", "Common derivatives".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ddmseg.outputs.names import SIDECARS
from ddmseg.outputs.tables import LABEL_COLUMNS, data_dictionary
from ddmseg.outputs.text import write_json
from ddmseg.quality.segmentation import Segmentation

_DESCRIPTIONS = {
    "_dseg": "Label map, indices as in FreeSurfer",
    "_probseg": "Probability of each label",
    "_map": "How doubtful the labels are at each voxel",
    "_mask": "Mask",
    "_image": "The scan within the brain mask",
}


def sidecar_writers(source: str) -> dict[str, Callable[[Segmentation, Path], None]]:
    """Return what writes the sidecar of each volume, by suffix.

    Args:
        source: BIDS URI of the scan.
    """
    return {sidecar: partial(_write, _told(volume, source)) for volume, sidecar in SIDECARS.items()}


def _told(volume: str, source: str) -> Mapping[str, Any]:
    # the sidecar of the label map is the data dictionary of its table, too
    table = data_dictionary(LABEL_COLUMNS if volume == "_dseg.nii.gz" else {})
    kind = next(kind for kind in _DESCRIPTIONS if f"{kind}." in volume)
    mask = {"Type": "Brain"} if "desc-brain_mask" in volume else {}
    told = {"Description": _DESCRIPTIONS[kind], "SpatialReference": "orig", "Sources": [source]}
    return {**table, **told, **mask}


def _write(told: Mapping[str, Any], segmentation: Segmentation, path: Path) -> None:
    write_json(path, told)
