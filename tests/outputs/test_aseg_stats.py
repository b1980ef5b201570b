"""``aseg.stats``, read back by the rules of FreeSurfer's asegstats2table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddmseg.outputs.aseg_stats import write_aseg_stats
from ddmseg.quality.segmentation import INTRACRANIAL, Segmentation, StructureVolume


def read(path: Path) -> tuple[dict[str, float], dict[str, dict[str, str]]]:
    """Return measures by their short names, and rows by the names of structures.

    Source: the conventions of fsutils.py of FreeSurfer: a measure is a comment of five parts
    between commas, a row is words under ``ColHeaders``.
    """
    measures, rows, columns = {}, {}, []
    for line in path.read_text().splitlines():
        words = line.split()
        if line.startswith("# Measure"):
            _, short, _, value, unit = (part.strip() for part in line.split(","))
            assert unit == "mm^3"
            measures[short] = float(value)
        elif words[:2] == ["#", "ColHeaders"]:
            columns = words[2:]
        elif not line.startswith("#"):
            row = dict(zip(columns, words, strict=True))
            rows[row["StructName"]] = row
    return measures, rows


@pytest.fixture
def segmentation(make_segmentation) -> Segmentation:
    made = make_segmentation()
    totals = [
        StructureVolume(0, INTRACRANIAL, 1500.0, 1400.0, 1600.0),
        StructureVolume(0, "Hippocampus", 7.0, 6.0, 8.0),
    ]
    return replace(made, totals=totals)


def test_rows_are_those_of_the_structures(segmentation, tmp_path) -> None:
    write_aseg_stats(segmentation, tmp_path / "aseg.stats")
    _, rows = read(tmp_path / "aseg.stats")
    assert list(rows) == [row.name for row in segmentation.volumes]
    labels, data = segmentation.labels.data, segmentation.scan.data
    for row in segmentation.volumes:
        found, inside = rows[row.name], data[labels == row.index]
        assert (int(found["SegId"]), int(found["NVoxels"])) == (row.index, inside.size)
        assert float(found["Volume_mm3"]) == pytest.approx(1000 * row.volume_ml, abs=0.06)
        if inside.size:
            assert float(found["normMean"]) == pytest.approx(inside.mean(), abs=1e-3)
            assert float(found["normRange"]) == pytest.approx(np.ptp(inside), abs=1e-3)


def test_measures_are_the_totals_that_freesurfer_knows(segmentation, tmp_path) -> None:
    write_aseg_stats(segmentation, tmp_path / "aseg.stats")
    measures, _ = read(tmp_path / "aseg.stats")
    assert measures == {"eTIV": 1.5e6}
    assert "research" in (tmp_path / "aseg.stats").read_text()


def test_a_scan_without_totals_has_rows_alone(segmentation, tmp_path) -> None:
    write_aseg_stats(replace(segmentation, totals=[]), tmp_path / "aseg.stats")
    assert read(tmp_path / "aseg.stats")[0] == {}
