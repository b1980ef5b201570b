"""One line a run: true values on made-up scans, and nothing that names anyone."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddmseg.imaging.dicom.series import list_series
from ddmseg.monitoring.columns import CATEGORIES, NUMBERS, VOLUME
from ddmseg.monitoring.statistics import keyed_hash, run_statistics, scanner_tags, tissue_statistics
from ddmseg.quality.segmentation import Quality

SALT = b"salt of one store"
RECEIPT = {
    "software": {"ddmseg": "0.1.0"},
    "input": {"name": "SECRET-7", "content_sha256": "c0ffee"},
    "model": {"name": "anatomy", "weights_sha256": "0123456789abcdef"},
    "settings": {"mode": "auto"},
    "seconds": {"encode": 1.5, "restore": 0.5},
}


def tissues(noise: float, *, white: float = 200.0, grey: float = 120.0, seed: int = 0):
    """White matter in a shell of cortex, in noise, with a strong bias field."""
    radius = np.linalg.norm(np.indices((40, 40, 40)).T - 19.5, axis=-1)
    labels = np.where(radius < 12, 2, np.where(radius < 17, 3, 0)).astype(np.int32)
    scan = np.select([labels == 2, labels == 3], [white, grey], 5.0)
    scan *= np.linspace(0.8, 1.2, 40)[:, None, None]
    generator = np.random.default_rng(seed)
    return (scan + generator.normal(0, noise, scan.shape)).astype(np.float32), labels


@pytest.mark.parametrize("noise", [2.0, 8.0, 20.0])
def test_noise_and_contrast_are_those_that_were_put_in(noise: float) -> None:
    scan, labels = tissues(noise)
    found = tissue_statistics(scan, labels)
    # steps of the bias field are a part of the differences: about 2 between neighbours here
    assert found["noise"] == pytest.approx(noise, rel=0.06, abs=0.4)
    assert found["contrast_to_noise"] == pytest.approx(80 / found["noise"], rel=0.05)
    assert found["signal_to_noise"] == pytest.approx(200 / found["noise"], rel=0.05)


def test_whole_numbers_do_not_make_steps_of_the_noise() -> None:
    found = []
    for noise in (1.0, 1.1, 1.2, 1.3):
        scan, labels = tissues(noise)
        found.append(tissue_statistics(np.rint(scan / 1.0), labels)["noise"])
    assert np.all(np.diff(found) > 0.02)


def test_units_do_not_matter_and_t2_has_the_other_sign() -> None:
    scan, labels = tissues(5.0)
    first, other = tissue_statistics(scan, labels), tissue_statistics(scan * 10, labels)
    assert other["noise"] == pytest.approx(10 * first["noise"], rel=1e-3)
    assert other["contrast_to_noise"] == pytest.approx(first["contrast_to_noise"], rel=1e-3)
    assert tissue_statistics(-scan, labels)["contrast_to_noise"] < 0


def test_absent_or_noiseless_tissue_gives_no_number() -> None:
    scan, labels = tissues(5.0)
    none = tissue_statistics(scan, np.where(labels == 3, 17, 0).astype(np.int32))
    assert all(map(math.isnan, none.values()))
    only_white = tissue_statistics(scan, np.where(labels == 2, 41, 0).astype(np.int32))
    assert only_white["noise"] > 0
    assert math.isnan(only_white["contrast_to_noise"])
    flat = tissue_statistics(np.full(scan.shape, 7.0, np.float32), labels)
    assert flat["noise"] == 0
    assert math.isnan(flat["signal_to_noise"])


def test_a_line_holds_what_was_measured_and_no_names(make_segmentation) -> None:
    cleaned = {"applied": True, "voxels_changed": 12}
    quality = Quality("warn", 0.7, {}, ["why"], 10, 4, 0.9, cleaned, 1.25)
    result = replace(
        make_segmentation(name="SECRET-7", spacing_mm=(4.0, 2.0, 3.0), quality=quality),
        receipt=RECEIPT,
        features=np.array([0.5, -1.0], np.float32),
    )
    line = run_statistics(result, salt=SALT, labels_sha256="feed")
    inside = result.labels.data > 0
    expected = {
        "input": "other",
        "model": "anatomy",
        "weights": "0123456789ab",
        "mode": "auto",
        "software": "0.1.0",
        "seconds": 2.0,
        "verdict": "warn",
        "expected_dice": 0.7,
        "sample_agreement": 0.9,
        "training_distance": 1.25,
        "samples": 4.0,
        "cleaned_voxels": 12.0,
        "spacing_min_mm": 2.0,
        "spacing_max_mm": 4.0,
        "voxels_max": 30.0,
        "feature.000": 0.5,
        "feature.001": -1.0,
        "scan_key": keyed_hash(SALT, "c0ffee"),
        "labels_key": keyed_hash(SALT, "feed"),
    }
    assert {name: line[name] for name in expected} == expected
    assert line["discrepancy_mean"] == pytest.approx(result.discrepancy[inside].mean(), rel=1e-5)
    assert line["brain_ml"] == pytest.approx(sum(row.volume_ml for row in result.volumes))
    volumes = {f"{VOLUME}{row.name}": row.volume_ml for row in result.volumes}
    assert {name: line[name] for name in volumes} == volumes
    told = json.dumps(line, default=str)
    for secret in ("SECRET", "c0ffee", "feed", "why"):
        assert secret not in told
    known = {"time", "scan_key", "labels_key", "model", "feature.000", "feature.001", *volumes}
    assert set(line) <= {*known, *NUMBERS, *CATEGORIES}


def test_hashes_are_useless_without_the_salt() -> None:
    assert keyed_hash(SALT, "c0ffee") != keyed_hash(b"another", "c0ffee")
    assert keyed_hash(SALT, "") is None


def test_a_scan_in_which_nothing_was_found(make_segmentation) -> None:
    result = make_segmentation()
    empty = replace(result, labels=replace(result.labels, data=np.zeros_like(result.labels.data)))
    line = run_statistics(replace(empty, volumes=[], receipt={}), salt=SALT)
    for name in ("noise", "discrepancy_mean", "intensity_p50", "training_distance"):
        assert math.isnan(line[name])  # type: ignore[arg-type]
    assert line["scan_key"] is None
    assert line["model"] is None
    assert line["brain_ml"] == 0


@pytest.mark.parametrize(
    ("told", "changed"),
    [
        ({"applied": False}, math.nan),
        ({}, math.nan),
        ({"left": {"applied": True, "voxels_changed": 3},
          "right": {"applied": True, "voxels_changed": 4}}, 7.0),
    ],
)  # fmt: skip
def test_cleaning_is_counted_over_both_sides(make_segmentation, told, changed) -> None:
    result = make_segmentation(quality=Quality("pass", 0.9, {}, [], 0, 0, None, told))
    line = run_statistics(result, salt=SALT)
    assert line["cleaned_voxels"] == pytest.approx(changed, nan_ok=True)


def test_scanner_tags_come_from_the_header_and_free_text_does_not(tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="needs ddmseg[dicom]")
    from dicom_files import affine_of, save, scan, slice_datasets

    datasets = slice_datasets(tmp_path, scan(), affine_of(np.eye(3)))
    for dataset in datasets:
        dataset.Manufacturer, dataset.ManufacturerModelName = "Siemens ", "=cmd|' /C calc'!A0"
        dataset.MagneticFieldStrength, dataset.ScanningSequence = "2.89362", ["GR", "IR"]
        dataset.RepetitionTime, dataset.EchoTime = "2300", "2.98"
        dataset.InversionTime, dataset.FlipAngle = "900", "9"
        dataset.MRAcquisitionType = "3D"
    save(datasets)
    (series,) = list_series(tmp_path)
    assert scanner_tags(series) == {
        "input": "DICOM",
        "modality": "MR",
        "vendor": "SIEMENS",
        "scanner_model": "cmd /C calc A0",
        "field_strength": "2.9 T",
        "acquisition": "3D",
        "sequence": "GR IR",
        "repetition_time_ms": 2300.0,
        "echo_time_ms": 2.98,
        "inversion_time_ms": 900.0,
        "flip_angle_degrees": 9.0,
    }


def test_a_bare_header_has_no_tags(tmp_path: Path) -> None:
    pytest.importorskip("pydicom", reason="needs ddmseg[dicom]")
    from dicom_files import affine_of, scan, write_series

    write_series(tmp_path, scan(), affine_of(np.eye(3)))
    tags = scanner_tags(list_series(tmp_path)[0])
    assert tags["field_strength"] is tags["sequence"] is tags["scanner_model"] is None
    assert math.isnan(tags["echo_time_ms"])  # type: ignore[arg-type]
