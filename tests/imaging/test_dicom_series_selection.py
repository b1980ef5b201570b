"""Which series of an examination is taken, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom.series import Series, list_series, refusal
from ddmseg.imaging.dicom.series_selection import Trained, choose_series, describe_series
from dicom_files import affine_of, save, scan, slice_datasets

HEAD = ((4, 5, 6), (45.0, 40.0, 30.0))  # voxels and mm: 180 mm along each axis
PART = ((4, 5, 6), (10.0, 9.0, 8.0))


def series(
    folder: Path,
    number: int,
    description: str,
    *,
    size: tuple[tuple[int, int, int], tuple[float, float, float]] = HEAD,
    **elements: Any,
) -> None:
    shape, spacing = size
    datasets = slice_datasets(folder / str(number), scan(shape), affine_of(np.eye(3), spacing))
    for dataset in datasets:
        dataset.SeriesNumber, dataset.SeriesDescription = number, description
        dataset.MRAcquisitionType = "3D"
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
    save(datasets)


def chosen(folder: Path, wanted: str | None = None) -> int | None:
    return choose_series(list_series(folder), wanted).series.number


DERIVED = ["DERIVED", "SECONDARY", "MPR"]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"description": "t1_mprage_sag"}, {"description": "t2_space"}),
        ({"description": "t1_mprage_sag"}, {"description": "sag 3d flair"}),
        ({"description": "AX BRAVO"}, {"description": "ax tof angio"}),
        ({"description": "T1 space"}, {"description": "my sequence"}),
        ({"description": "my sequence"}, {"description": "DWI b1000"}),
        ({"description": "t1"}, {"description": "t1", "Modality": "CT"}),
        ({"description": "t2"}, {"description": "t1", "Modality": "CT"}),
        ({"description": "t2"}, {"description": "t1", "ImageType": DERIVED}),
        ({"description": "t1"}, {"description": "t1", "MRAcquisitionType": "2D"}),
        ({"description": "t1_mpr"}, {"description": "t1_mpr_gd"}),
        ({"description": "t1 gd"}, {"description": "t1", "MRAcquisitionType": "2D"}),
        ({"description": "t2"}, {"description": "t1", "size": PART}),
        ({"description": "t1"}, {"description": "loc", "ImageType": ["ORIGINAL", "LOCALIZER"]}),
        ({"description": "t2"}, {"description": "t1 map", "ImageType": [*DERIVED[:2], "T1 MAP"]}),
    ],
)
def test_what_fits_better_is_taken(
    tmp_path: Path, better: dict[str, Any], worse: dict[str, Any]
) -> None:
    for number, one in ((3, worse), (8, better)):
        series(tmp_path / "a", number, **one)
    for number, one in ((3, better), (8, worse)):
        series(tmp_path / "b", number, **one)
    assert (chosen(tmp_path / "a"), chosen(tmp_path / "b")) == (8, 3)


def test_finer_voxels_win_and_a_tenth_of_a_millimetre_decides_nothing(tmp_path: Path) -> None:
    series(tmp_path, 1, "t1", size=((4, 13, 13), (50.0, 10.0, 10.0)))
    series(tmp_path, 2, "t1", size=((4, 13, 13), (40.0, 10.0, 10.0)))
    assert chosen(tmp_path) == 2
    series(tmp_path, 3, "t1", size=((4, 13, 14), (40.02, 10.0, 10.0)))
    assert chosen(tmp_path) == 3  # alike but for one slice more


def test_of_equals_the_first_is_taken(tmp_path: Path) -> None:
    for number in (9, 4, 6):
        series(tmp_path, number, "t1")
    assert chosen(tmp_path) == 4


def test_the_choice_is_explained(tmp_path: Path) -> None:
    series(tmp_path, 1, "loc", ImageType=["ORIGINAL", "LOCALIZER"])
    series(tmp_path, 4, "t1_mprage")
    series(tmp_path, 5, "t2_tse", MRAcquisitionType="2D")
    choice = choose_series(list_series(tmp_path))
    assert choice.why == (
        "T1-like by its description, as scanned, whole head, 3-D, 45 x 40 x 30 mm; the best of 2 "
        "usable of 3, for the models"
    )
    (_, only, _) = list_series(tmp_path)
    assert choose_series([only]).why.endswith("45 x 40 x 30 mm; the only one, for the models")


ANATOMY = Trained("anatomy", max_slice_mm=35.0)
HIPPOCAMPUS = Trained("hippocampus", largest_crop_mm=60.0, max_slice_mm=35.0, t1_alone=True)
SLICES = {"MRAcquisitionType": "2D"}
FINE = ((5, 5, 5), (30.0, 30.0, 30.0))
CROP = ((4, 5, 6), (10.0, 9.0, 8.0))


@pytest.mark.parametrize(
    ("one", "other", "anatomy", "hippocampus"),
    [
        # thick T1 and fine FLAIR: other contrasts were seen by one, thick slices by neither
        ({"description": "t1"}, {"description": "flair", "size": FINE}, 2, 1),
        # a crop of T1 and a head of T2
        ({"description": "t1", "size": CROP}, {"description": "t2"}, 2, 1),
        # of two T1 the fine one, though in 2-D
        (
            {"description": "t1"},
            {"description": "t1", "size": FINE, "MRAcquisitionType": "2D"},
            2,
            2,
        ),
        # a crop that is too large is a part of a head to both
        ({"description": "t1", "size": ((9, 8, 9), (10.0,) * 3)}, {"description": "t2"}, 2, 2),
    ],
)
def test_the_choice_knows_what_the_model_was_trained_on(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], anatomy: int, hippocampus: int
) -> None:
    series(tmp_path, 1, **one)
    series(tmp_path, 2, **other)
    found = list_series(tmp_path)
    assert choose_series(found, model=ANATOMY).series.number == anatomy
    assert choose_series(found, model=HIPPOCAMPUS).series.number == hippocampus


def test_what_a_model_was_not_trained_on_is_told(tmp_path: Path) -> None:
    series(tmp_path, 1, "flair", size=((4, 5, 6), (45.0, 20.0, 10.0)))
    found = list_series(tmp_path)
    assert choose_series(found, model=HIPPOCAMPUS).why == (
        "not T1-like, as scanned, part of a head, 3-D, 45 x 20 x 10 mm; the only one, for "
        "hippocampus; but hippocampus learned from T1 alone, whole heads and crops to 60 mm, "
        "voxels to 35 mm"
    )
    assert choose_series(found, "1", model=ANATOMY).why == (
        "named with --series; but anatomy learned from T1 most, whole heads, voxels to 35 mm"
    )
    series(tmp_path / "crop", 2, "t1", size=CROP)
    (crop,) = list_series(tmp_path / "crop")
    assert choose_series([crop], model=HIPPOCAMPUS).why == (
        "T1-like by its description, as scanned, a crop, 3-D, 10 x 9 x 8 mm; the only one, for "
        "hippocampus"
    )


def test_a_series_can_be_named(tmp_path: Path) -> None:
    series(tmp_path, 4, "t1")
    series(tmp_path, 5, "t2")
    second = list_series(tmp_path)[1]
    assert chosen(tmp_path, "5") == 5
    assert chosen(tmp_path, second.uid) == 5
    assert choose_series([second], "5").why == "named with --series"
    with pytest.raises(ScanError) as caught:
        chosen(tmp_path, "6")
    assert str(caught.value) == (
        "--series 6: no such series; there are 4, 5 (--list-series shows more)"
    )


def test_a_number_that_two_series_have_must_be_a_uid(tmp_path: Path) -> None:
    series(tmp_path / "a", 4, "t1")
    series(tmp_path / "b", 4, "t1")
    with pytest.raises(ScanError, match="--series 4: 2 series have this number; name one of 1"):
        chosen(tmp_path, "4")


def reason(found: Sequence[Series]) -> str:
    with pytest.raises(ScanError) as caught:
        choose_series(found)
    return str(caught.value)


def test_nothing_usable_tells_why(tmp_path: Path) -> None:
    series(tmp_path / "a", 1, "scout", ImageType=["ORIGINAL", "LOCALIZER"])
    told = "series-001_scout: a localiser, not a scan; choose another series"
    assert reason(list_series(tmp_path / "a")) == told
    series(tmp_path / "a", 2, "adc", ImageType=[*DERIVED[:2], "ADC"])
    assert reason(list_series(tmp_path / "a")) == (
        f"none of 2 series can be segmented; the first: {told}"
    )


SECONDARY = ["DERIVED", "SECONDARY"]


@pytest.mark.parametrize(
    ("description", "image_type", "told"),
    [
        ("localizer", None, "a localiser ('localizer')"),
        ("3-plane LOC", None, "a localiser ('loc')"),
        ("AAHead_Scout_64ch", None, "a localiser ('scout')"),
        ("Survey_32ch", None, "a localiser ('survey')"),
        ("localisers", None, "a localiser ('localisers')"),
        ("Apparent Diffusion Coefficient (mm2/s)", SECONDARY, "('apparent diffusion coefficient')"),
        ("ADC", None, "a computed map ('adc')"),
        ("FA map", SECONDARY, "a computed map ('fa map')"),
        ("Fractional Anisotropy", None, "a computed map ('fractional anisotropy')"),
        ("DTI_FA", SECONDARY, "a computed map ('fa')"),
        ("ep2d_trace", SECONDARY, "a computed map ('trace')"),
        ("T1 map", None, "a computed map ('t1 map')"),
        ("T2*-map", None, "a computed map ('t2 map')"),
        ("T1 post - pre SUB", SECONDARY, "a computed map ('sub')"),
        ("subtraction", None, "a computed map ('subtraction')"),
        ("TOF_MIP", None, "a computed map ('mip')"),
    ],
)
def test_what_a_description_gives_away_is_not_taken_unasked(
    tmp_path: Path, description: str, image_type: list[str] | None, told: str
) -> None:
    series(tmp_path, 3, description, **({"ImageType": image_type} if image_type else {}))
    found = list_series(tmp_path)
    assert refusal(found[0]) is None  # whoever asks for it may have it
    assert reason(found).startswith(f"{found[0].name}: described as a ")
    assert f"{told}, so it is not taken unasked; choose another series, or pass" in reason(found)
    assert "--series 3 to segment it all the same" in reason(found)
    assert "; not taken unasked: described as a " in describe_series(found[0])
    assert describe_series(found[0]).endswith(told)
    choice = choose_series(found, "3")
    assert (choice.series.number, choice.doubtful) == (3, True)
    assert choice.why.startswith("named with --series, though described as a ")
    series(tmp_path, 9, "t2")
    assert chosen(tmp_path) == 9


@pytest.mark.parametrize(
    "description",
    [
        *("t1_mprage_sag", "T1 local shim", "location 3 T1", "t1 trace", "T1 FA 15", "SUB-01 T1"),
        *("t1 mapping", "MPR T1", "adcom t1", "sag T1 FSPGR BRAVO", "Ax T1 MEMPRAGE RMS", "3D T1"),
    ],
)
def test_what_only_sounds_alike_is_taken(tmp_path: Path, description: str) -> None:
    series(tmp_path, 3, description)
    choice = choose_series(list_series(tmp_path))
    assert (choice.series.number, choice.doubtful) == (3, False)


def test_without_a_number_the_uid_is_told(tmp_path: Path) -> None:
    series(tmp_path, 3, "scout")
    (only,) = list_series(tmp_path)
    assert f"pass --series {only.uid} to" in reason([replace(only, number=None)])


def test_computed_tomography_is_never_taken_by_itself(tmp_path: Path) -> None:
    series(tmp_path, 1, "head", Modality="CT")
    assert "no MR series here, and the models know MR only" in reason(list_series(tmp_path))
    assert chosen(tmp_path, "1") == 1


def test_a_line_of_the_list(tmp_path: Path) -> None:
    series(tmp_path, 4, "t1_mprage")
    series(tmp_path, 5, "scout", ImageType=["ORIGINAL", "LOCALIZER"])
    first, second = list_series(tmp_path)
    assert describe_series(first) == (
        "series 4, MR, TOYS, 't1_mprage', 6 slices of 4 x 5, 45 x 40 x 30 mm"
    )
    assert describe_series(second).endswith(
        "mm; not usable: a localiser, not a scan; choose another series"
    )
    bare = replace(first, number=None, description="", manufacturer="")
    assert describe_series(bare).startswith(
        "series without number, MR, vendor not named, no description, 6 slices"
    )
