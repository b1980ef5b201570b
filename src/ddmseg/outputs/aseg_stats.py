"""Volumes as FreeSurfer's readers expect them: ``aseg.stats``.

Source: the file that FreeSurfer 7's mri_segstats writes; asegstats2table reads the lines of
``# Measure`` by their commas and the rows by their columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ddmseg.messages import NOTICE
from ddmseg.outputs.text import write_text
from ddmseg.quality.segmentation import INTRACRANIAL, Segmentation

MEASURES = {
    "Brain": ("BrainSegNotVent", "BrainSegVolNotVent", "Brain Without Ventricles and CSF"),
    "Ventricles": ("VentricleChoroidVol", "VentricleChoroidVol", "Volume of Ventricles"),
    "Cerebral-Cortex": ("Cortex", "CortexVol", "Total Cortical Grey Matter Volume"),
    "Cerebral-White-Matter": (
        *("CerebralWhiteMatter", "CerebralWhiteMatterVol"),
        "Total Cerebral White Matter Volume",
    ),
    "Grey-Matter": ("TotalGray", "TotalGrayVol", "Total Grey Matter Volume"),
    INTRACRANIAL: ("EstimatedTotalIntraCranialVol", "eTIV", "Intracranial Volume"),
}
"""Names of our totals there."""
COLUMNS = (
    *("Index", "SegId", "NVoxels", "Volume_mm3", "StructName"),
    *("normMean", "normStdDev", "normMin", "normMax", "normRange"),
)
MM3 = 1000.0
"""Of a millilitre."""


def write_aseg_stats(segmentation: Segmentation, path: Path) -> None:
    """Write volumes in cubic millimetres and the intensities of the scan in each structure."""
    lines = [*_head(segmentation), *_rows(segmentation)]
    write_text(path, "".join(f"{line}\n" for line in lines))


def _head(segmentation: Segmentation) -> Iterator[str]:
    yield "# Title Segmentation Statistics"
    yield f"# {NOTICE}"
    yield "# generating_program ddmseg"
    yield "# anatomy_type volume"
    for row in segmentation.totals:
        if row.name in MEASURES:
            measure, name, words = MEASURES[row.name]
            yield f"# Measure {measure}, {name}, {words}, {MM3 * row.volume_ml:.6f}, mm^3"
    yield f"# NRows {len(segmentation.volumes)}"
    yield f"# NTableCols {len(COLUMNS)}"
    yield f"# ColHeaders {' '.join(COLUMNS)}"


def _rows(segmentation: Segmentation) -> Iterator[str]:
    from scipy.ndimage import find_objects

    labels, data = segmentation.labels.data, segmentation.scan.data
    boxes = find_objects(labels)  # a structure's own box is a small part of a head
    for number, row in enumerate(segmentation.volumes, start=1):
        box = boxes[row.index - 1] if row.index <= len(boxes) else None
        inside = np.zeros(0) if box is None else data[box][labels[box] == row.index]
        values = inside if inside.size else np.zeros(1)
        low, high = float(values.min()), float(values.max())
        intensities = (float(values.mean()), float(values.std()), low, high, high - low)
        yield (
            f"{number:3d} {row.index:5d} {inside.size:9d} {MM3 * row.volume_ml:12.1f}  "
            f"{row.name:<30s} " + " ".join(f"{value:10.4f}" for value in intensities)
        )
