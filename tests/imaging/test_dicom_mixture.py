"""Series that hold several scans: the magnitude is taken, anything else is refused by its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom.header import complex_part
from ddmseg.imaging.dicom.series import (
    Series,
    list_series,
    passed_over_files,
    read_series,
    refusal,
)
from ddmseg.imaging.dicom.series_selection import choose_series, describe_series
from dicom_files import (
    affine_of,
    assert_same_world,
    enhanced_dataset,
    item,
    put_pixels,
    save,
    scan,
    slice_datasets,
)

AFFINE = affine_of(np.eye(3))
PHILIPS = {
    "magnitude": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"],
    "real": ["ORIGINAL", "PRIMARY", "R_FFE", "R", "FFE"],
    "imaginary": ["ORIGINAL", "PRIMARY", "I_FFE", "I", "FFE"],
    "phase": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"],
}
SIEMENS = {
    part: ["ORIGINAL", "PRIMARY", letter, "ND"]
    for part, letter in zip(PHILIPS, ("M", "R", "I", "P"), strict=True)
}


def volume(folder: Path, seed: int = 0, **elements: Any) -> np.ndarray:
    """Write one volume of a series that several share."""
    data = scan((5, 4, 4), seed)
    datasets = slice_datasets(folder, data, AFFINE, series="1.2.3")
    for dataset in datasets:
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
    save(datasets)
    return data


def alternating(folder: Path, keyword: str, values: Sequence[Any]) -> Series:
    """Write one volume whose slices have values in turn; None leaves an element out."""
    datasets = slice_datasets(folder, scan((5, 4, 6)), AFFINE)
    for k, dataset in enumerate(datasets):
        if (value := values[k % len(values)]) is not None:
            setattr(dataset, keyword, value)
    save(datasets)
    return only(folder)


def only(folder: Path) -> Series:
    (series,) = list_series(folder)
    return series


def told(series: Series) -> str:
    with pytest.raises(ScanError) as caught:
        read_series(series)
    assert str(caught.value) == refusal(series)
    return str(caught.value)


# --- complex images ---------------------------------------------------------


@pytest.mark.parametrize("vendor", [PHILIPS, SIEMENS])
def test_the_magnitude_is_taken_from_among_all_parts(
    tmp_path: Path, vendor: dict[str, list[str]]
) -> None:
    made = {
        part: volume(tmp_path / part, seed, ImageType=words)
        for seed, (part, words) in enumerate(vendor.items())
    }
    series = only(tmp_path)
    left_out = "4 imaginary images and 4 phase images and 4 real images"
    assert series.left_out == left_out
    assert series.shape == (5, 4, 4)
    assert len(series.paths) == 4  # what is derived refers to these alone
    assert passed_over_files(tmp_path, [series]) == ""  # the line of the choice tells of the rest
    assert_same_world(read_series(series), made["magnitude"], AFFINE)
    assert f"; the magnitude alone, without {left_out}" in describe_series(series)
    assert choose_series([series]).why.endswith(f"the magnitude alone, without {left_out}")
    named = choose_series([series], "4").why
    assert named == f"named with --series; the magnitude alone, without {left_out}"


@pytest.mark.parametrize("shared", [False, True])
def test_so_it_is_from_an_enhanced_file(tmp_path: Path, shared: bool) -> None:
    data = scan((5, 4, 4))
    dataset = enhanced_dataset(tmp_path / "a.dcm", np.concatenate([data] * 2, axis=2), AFFINE)
    groups = dataset.PerFrameFunctionalGroupsSequence
    places = [group.PlanePositionSequence for group in groups]
    for k, group in enumerate(groups):
        group.PlanePositionSequence = places[k // 2]
        kind = item(ComplexImageComponent="PHASE" if k % 2 else "MAGNITUDE")
        group.MRImageFrameTypeSequence = [kind]
    if shared:
        del dataset.ImageType
    phase = data.T + np.uint16(1)
    put_pixels(dataset, np.ascontiguousarray(np.stack([data.T, phase], axis=1).reshape(8, 4, 5)))
    save([dataset])
    series = only(tmp_path)
    assert (series.shape, series.left_out) == ((5, 4, 4), "4 phase images")
    assert_same_world(read_series(series), data, AFFINE)


@pytest.mark.parametrize("part", ["real", "imaginary", "phase"])
@pytest.mark.parametrize("vendor", [PHILIPS, SIEMENS])
def test_other_parts_in_place_of_the_magnitude_are_refused(
    tmp_path: Path, vendor: dict[str, list[str]], part: str
) -> None:
    series = alternating(tmp_path, "ImageType", [vendor["magnitude"], vendor[part]])
    assert told(series) == (
        "series-004_t1_mprage_sag: a mixture of images that differ in the part of the complex "
        f"image ({'; '.join(sorted((f'{part} in 3 images', 'magnitude in 3 images')))}); a scan "
        "has one; export one a series, or convert it with dcm2niix, which takes it apart"
    )
    assert series.left_out == ""


def test_a_real_part_alone_is_not_taken_unasked(tmp_path: Path) -> None:
    volume(tmp_path, ImageType=PHILIPS["real"])
    series = only(tmp_path)
    assert refusal(series) is None
    with pytest.raises(ScanError, match="the real part of a complex image, not its magnitude, so"):
        choose_series([series])
    assert choose_series([series], "4").doubtful


@pytest.mark.parametrize("part", ["imaginary", "phase"])
@pytest.mark.parametrize("vendor", [PHILIPS, SIEMENS])
def test_other_parts_alone_are_no_scan(
    tmp_path: Path, vendor: dict[str, list[str]], part: str
) -> None:
    volume(tmp_path, ImageType=vendor[part])
    assert "a computed map (" in told(only(tmp_path))
    assert part.upper() in told(only(tmp_path))


def test_letters_elsewhere_mean_nothing() -> None:
    assert complex_part(("DERIVED", "SECONDARY", "OTHER", "I")) == ""
    assert complex_part(("ORIGINAL", "PRIMARY")) == ""
    assert complex_part((), "mixed") == ""
    assert complex_part(("ORIGINAL", "PRIMARY", "REAL")) == "real"


# --- other mixtures ---------------------------------------------------------

KINDS = [
    ("EchoTime", ["2.3", "4.6"], "echo time (2.3 ms in 3 images; 4.6 ms in 3 images)"),
    ("RepetitionTime", ["500", "2000"], "repetition time (500 ms in 3 images; 2000 ms in"),
    ("InversionTime", ["700", "2500"], "inversion time (700 ms in 3 images; 2500 ms in"),
    ("FlipAngle", ["4", "18"], "flip angle (4 degrees in 3 images; 18 degrees in 3 images)"),
    ("DiffusionBValue", [0.0, 1000.0], "b-value (0.0 in 3 images; 1000.0 in 3 images)"),
    ("DiffusionBValue", [None, 1000.0, 700.0], "b-value (0 in 2 images; 700.0 in 2 images; 1000.0"),
    ("TemporalPositionIdentifier", [1, 2], "time point (1 in 3 images; 2 in 3 images)"),
    ("ContrastBolusAgent", ["Gd", None], "contrast agent (with in 3 images; without in 3 images)"),
    ("ScanningSequence", ["SE", "GR"], "scanning sequence (GR in 3 images; SE in 3 images)"),
    ("Modality", ["MR", "CT"], "modality (CT in 3 images; MR in 3 images)"),
    ("ManufacturerModelName", ["A", "B"], "scanner (TOYS A in 3 images; TOYS B in 3 images)"),
    ("ImageType", [["ORIGINAL", "PRIMARY", "M"], ["DERIVED", "PRIMARY", "M"]], "type (DERIVED/"),
    ("ImageType", [["ORIGINAL", "PRIMARY"], ["ORIGINAL", "LOCALIZER"]], "ORIGINAL/LOCALIZER in 3"),
]  # fmt: skip


@pytest.mark.parametrize(("keyword", "values", "expected"), KINDS)
def test_slices_of_several_kinds_side_by_side_are_refused(
    tmp_path: Path, keyword: str, values: list[Any], expected: str
) -> None:
    line = told(alternating(tmp_path, keyword, values))
    assert ": a mixture of images that differ in " in line
    assert expected in line


def test_so_are_those_of_an_enhanced_file(tmp_path: Path) -> None:
    dataset = enhanced_dataset(tmp_path / "a.dcm", scan((5, 4, 4)), AFFINE)
    for k, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        group.MREchoSequence = [item(EffectiveEchoTime=5.0 + 10 * (k % 2))]
    save([dataset])
    assert "differ in echo time (5 ms in 2 images; 15 ms in 2 images)" in told(only(tmp_path))


def test_many_values_are_told_in_short(tmp_path: Path) -> None:
    series = alternating(tmp_path, "EchoTime", ["1", "2", "3", "4", "5", "6"])
    assert (
        "(1 ms in 1 images; 2 ms in 1 images; 3 ms in 1 images; 4 ms in 1 images; 2 more)"
        in told(series)
    )


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("EchoTime", ["2.30", "2.31"]),  # measured, not planned
        ("EchoTime", ["2.3", None]),
        ("DiffusionBValue", [0.0, None]),
        ("AcquisitionNumber", [1, 2]),  # packages of slices
        ("TemporalPositionIdentifier", [1, 2, 3, 4, 5, 6]),  # a number of slices
        ("TemporalPositionIdentifier", [1, None]),
    ],
)
def test_what_varies_within_a_scan_is_no_mixture(
    tmp_path: Path, keyword: str, values: list[Any]
) -> None:
    series = alternating(tmp_path, keyword, values)
    assert refusal(series) is None
    assert_same_world(read_series(series), scan((5, 4, 6)), AFFINE)


def test_volumes_at_one_place_are_named_too(tmp_path: Path) -> None:
    for seed, echo in enumerate(("5", "20", "35")):
        volume(tmp_path / echo, seed, EchoTime=echo)
    assert "differ in echo time (5 ms in 4 images; 20 ms in 4 images; 35 ms in" in told(
        only(tmp_path)
    )
