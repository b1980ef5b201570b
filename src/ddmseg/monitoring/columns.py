"""What a line of the monitor's store holds, in the order of the page.

Columns of other names (of a later version, say) are kept and exported but not compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ddmseg.outputs.tables import NO_UNIT, ColumnMeaning

VOLUME = "volume_ml."
"""Before the name of a structure."""
FEATURE = "feature."
"""Before the number of a channel of z_I."""

Value = float | str | datetime | None
Line = dict[str, Value]
"""One run: statistics by name; None where a run has none."""

GROUPS = {
    "scanner": "Scanner and settings",
    "image": "Images",
    "result": "Results",
    "volumes": "Volumes",
}


@dataclass(frozen=True)
class Column:
    """How a statistic is called on the page, its unit ("" for none) and where it stands."""

    title: str
    group: str
    unit: str = ""


CATEGORIES: dict[str, Column] = {
    "input": Column("Kind of input", "scanner"),
    "modality": Column("Modality", "scanner"),
    "vendor": Column("Vendor", "scanner"),
    "scanner_model": Column("Scanner", "scanner"),
    "field_strength": Column("Field strength", "scanner"),
    "acquisition": Column("Acquisition", "scanner"),
    "sequence": Column("Sequence", "scanner"),
    "software": Column("Version of ddmseg", "scanner"),
    "weights": Column("Weights", "scanner"),
    "mode": Column("Mode", "scanner"),
    "verdict": Column("Verdict", "result"),
    "review": Column("Review", "result"),
}
NUMBERS: dict[str, Column] = {
    "repetition_time_ms": Column("Repetition time", "scanner", "ms"),
    "echo_time_ms": Column("Echo time", "scanner", "ms"),
    "inversion_time_ms": Column("Inversion time", "scanner", "ms"),
    "flip_angle_degrees": Column("Flip angle", "scanner", "°"),
    "spacing_min_mm": Column("Voxel edge, smallest", "image", "mm"),
    "spacing_middle_mm": Column("Voxel edge, middle", "image", "mm"),
    "spacing_max_mm": Column("Voxel edge, largest", "image", "mm"),
    "voxels_min": Column("Voxels along an axis, fewest", "image"),
    "voxels_middle": Column("Voxels along an axis, middle", "image"),
    "voxels_max": Column("Voxels along an axis, most", "image"),
    "intensity_p05": Column("Intensity in the brain, 5th percentile", "image"),
    "intensity_p50": Column("Intensity in the brain, median", "image"),
    "intensity_p95": Column("Intensity in the brain, 95th percentile", "image"),
    "noise": Column("Noise in white matter", "image"),
    "signal_to_noise": Column("Signal to noise in white matter", "image"),
    "contrast_to_noise": Column("Contrast of white and grey matter to noise", "image"),
    "training_distance": Column("Distance of features from training", "image"),
    "expected_dice": Column("Expected Dice", "result"),
    "discrepancy_mean": Column("Discrepancy, mean", "result"),
    "discrepancy_p95": Column("Discrepancy, 95th percentile", "result"),
    "uncertainty_mean": Column("Uncertainty, mean", "result"),
    "sample_agreement": Column("Agreement of the samples", "result"),
    "samples": Column("Samples drawn", "result"),
    "cleaned_voxels": Column("Voxels changed by cleaning", "result"),
    "seconds": Column("Time", "result", "s"),
    "edited_ml": Column("Volume edited in review", "result", "ml"),
    "brain_ml": Column("Brain", "volumes", "ml"),
}
IDENTIFIERS = {
    "run": "Random name of the run",
    "time": "When it ran, in UTC",
    "scan_key": "Hash of the scan, keyed with the store's salt",
    "labels_key": "Hash of the labels file, keyed with the store's salt",
    "model": "Name of the weights",
}
"""What tells runs apart, which is never compared."""
_SPELLINGS = {"ml": "mL", "°": "deg"}
"""Units of the page as BIDS spells them."""
DISTANCE = "embedding_distance"
DISTANCE_COLUMN = Column("Distance of features from the reference", "image")


def column(name: str) -> Column | None:
    """Return what is known of a statistic; None for an identifier or an unknown column."""
    if name == DISTANCE:
        return DISTANCE_COLUMN
    if name.startswith(VOLUME):
        return Column(name.removeprefix(VOLUME), "volumes", "ml")
    return NUMBERS.get(name) or CATEGORIES.get(name)


def meaning(name: str) -> ColumnMeaning:
    """Return what a column of the exported table holds, whatever version wrote it.

    >>> meaning("echo_time_ms")
    ColumnMeaning(description='Echo time', unit='ms')
    >>> meaning("volume_ml.CSF")
    ColumnMeaning(description='Volume of CSF', unit='mL')
    """
    if name in IDENTIFIERS:
        return ColumnMeaning(IDENTIFIERS[name])
    if name.startswith(FEATURE):
        channel = name.removeprefix(FEATURE)
        return ColumnMeaning(f"Mean of channel {channel} of z_I over the foreground")
    known = column(name)
    if known is None:
        return ColumnMeaning("Not known to the ddmseg that wrote this table")
    title = f"Volume of {known.title}" if name.startswith(VOLUME) else known.title
    return ColumnMeaning(title, _SPELLINGS.get(known.unit, known.unit) or NO_UNIT)
