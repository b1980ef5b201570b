"""The two tables of a result, each with its data dictionary, and what BIDS wants beside volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ddmseg.imaging.labels import count_voxels, dseg_table
from ddmseg.messages import NOTICE
from ddmseg.outputs.names import SIDECARS
from ddmseg.outputs.text import write_json, write_tsv
from ddmseg.quality.segmentation import INTRACRANIAL, Segmentation, VolumeDistribution

NOT_THERE = NO_UNIT = "n/a"
"""What BIDS writes where there is nothing to write."""


@dataclass(frozen=True)
class ColumnMeaning:
    """What a column holds, and its unit in the spelling of BIDS, such as ``mL``."""

    description: str
    unit: str = NO_UNIT


def data_dictionary(columns: Mapping[str, ColumnMeaning]) -> dict[str, Any]:
    """Return the dictionary of a table, ready for JSON.

    Source: BIDS 1.9, Common principles, "Tabular files".

    >>> data_dictionary({"index": ColumnMeaning("id")})["index"]
    {'Description': 'id', 'Units': 'n/a'}
    """
    told = {name: {"Description": c.description, "Units": c.unit} for name, c in columns.items()}
    return {"notice": NOTICE, **told}


_INDEX = ColumnMeaning(
    "Id of the structure in the label map, as FreeSurfer numbers it; 0 for what several ids make"
)
_NAME = ColumnMeaning("Name of the structure, as FreeSurfer spells it, or of a total")
LABEL_COLUMNS = {
    "index": _INDEX,
    "name": _NAME,
    "color": ColumnMeaning("Colour in which to show it: red, green and blue as #rrggbb"),
}
VOLUME_COLUMNS = {
    "index": _INDEX,
    "name": _NAME,
    "volume_ml": ColumnMeaning("Volume of the structure in the label map", "mL"),
    "interval_low_ml": ColumnMeaning(
        "Lower end of an interval meant to hold the true volume in 95% of scans", "mL"
    ),
    "interval_high_ml": ColumnMeaning("Upper end of that interval", "mL"),
    "share_of_intracranial": ColumnMeaning(
        "Volume over the intracranial volume; n/a where the scan does not show it"
    ),
    "asymmetry_percent": ColumnMeaning("200 (left - right) / (left + right) of a pair", "%"),
    "asymmetry_low": ColumnMeaning("Lower end of its 95% interval", "%"),
    "asymmetry_high": ColumnMeaning("Upper end of that interval", "%"),
    "mean_ml": ColumnMeaning(
        "Mean of the true volume, predicted by the log-normal distribution with that 95% interval; "
        "n/a where the interval begins at 0",
        "mL",
    ),
    "sd_ml": ColumnMeaning("Its standard deviation", "mL"),
    "lower_quartile_ml": ColumnMeaning("What it exceeds in three of four scans", "mL"),
    "median_ml": ColumnMeaning("What it exceeds in half of them", "mL"),
    "upper_quartile_ml": ColumnMeaning("What it exceeds in one of four", "mL"),
}
PREDICTED = tuple(field.name for field in fields(VolumeDistribution))
"""Columns of the predicted distribution, the last ones."""


def write_label_table(segmentation: Segmentation, path: Path) -> None:
    """Write id, name and colour of each label that is there or was looked for."""
    measured = {row.index for row in segmentation.volumes}
    rows = dseg_table(sorted(measured.union(count_voxels(segmentation.labels.data))))
    write_tsv(path, tuple(LABEL_COLUMNS), [[row[name] for name in LABEL_COLUMNS] for row in rows])


def write_volume_table(segmentation: Segmentation, path: Path) -> None:
    """Write the volume of each structure, pair and total with its interval."""
    head = segmentation.total(INTRACRANIAL)
    sides = {one.name: one for one in segmentation.asymmetries}
    rows = [
        [
            str(row.index),
            row.name,
            *(f"{ml:.4f}" for ml in (row.volume_ml, row.interval_low_ml, row.interval_high_ml)),
            f"{row.volume_ml / head.volume_ml:.6f}" if head and head.volume_ml else NOT_THERE,
            *_cells(sides.get(row.name), ("percent", "interval_low", "interval_high"), 2),
            *_cells(row.distribution, PREDICTED, 4),
        ]
        for row in (*segmentation.volumes, *segmentation.totals)
    ]
    write_tsv(path, tuple(VOLUME_COLUMNS), rows)


def _cells(found: object | None, names: Sequence[str], digits: int) -> list[str]:
    if found is None:
        return [NOT_THERE] * len(names)
    return [f"{getattr(found, name):.{digits}f}" for name in names]


_DESCRIPTIONS = {
    "_dseg": "Label map, indices as in FreeSurfer",
    "_probseg": "Probability of each label",
    "_map": "How doubtful the labels are at each voxel",
    "_mask": "Mask",
    "_image": "The scan within the brain mask",
}


def sidecar_writers(source: str) -> dict[str, Callable[[Segmentation, Path], None]]:
    """Return what writes the sidecar of each volume, by suffix, for the BIDS URI of the scan.

    Source: BIDS 1.10, "Imaging data types", "Common derivatives".
    """

    def writer(volume: str) -> Callable[[Segmentation, Path], None]:
        return lambda _, path: write_json(path, _sidecar(volume, source))

    return {name: writer(volume) for volume, name in SIDECARS.items()}


def _sidecar(volume: str, source: str) -> Mapping[str, Any]:
    # the sidecar of the label map is the data dictionary of its table, too
    table = data_dictionary(LABEL_COLUMNS if volume == "_dseg.nii.gz" else {})
    kind = next(kind for kind in _DESCRIPTIONS if f"{kind}." in volume)
    mask = {"Type": "Brain"} if "desc-brain_mask" in volume else {}
    told = {"Description": _DESCRIPTIONS[kind], "SpatialReference": "orig", "Sources": [source]}
    return {**table, **told, **mask}
