"""LPBA40 laid out as LONI's two zips unpack: pairs found, left told from right, folds."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import aff2axcodes, axcodes2ornt, ornt_transform

from ddmseg.datasets import lpba40
from ddmseg.datasets.case import Case
from ddmseg.datasets.split import read_split, split_cases
from ddmseg.errors import ScanError
from ddmseg.imaging.labels import protocol_map, protocol_rows, structure
from ddmseg.imaging.nifti import read_label_map, read_volume
from real_sets import lpba40_labels, write_analyze

CODES = ["".join(letters) for order in itertools.permutations(("LR", "PA", "IS"))
         for letters in itertools.product(*order)]  # fmt: skip
SPACING = (1.0, 2.0, 1.5)


LABELS = lpba40_labels()
SHAPE = LABELS.shape
SCAN = (LABELS * 3 + np.random.default_rng(0).integers(1, 90, SHAPE)).astype(np.int16)


def turned(data: np.ndarray, orientation: str) -> np.ndarray:
    """An RAS array stored with its axes in another order."""
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(orientation))
    return np.asarray(nib.orientations.apply_orientation(data, change))


def lay_out(root: Path, orientation: str = "LAS", *, packed: bool = True) -> Path:
    """Two subjects in both spaces, as ``LPBA40subjects.*_space.zip`` unpack."""
    edge_of = dict(zip(SHAPE, SPACING, strict=True))
    spacing = tuple(edge_of[count] for count in turned(LABELS, orientation).shape)
    for name in ("S01", "S02"):
        drawn = root / "lpba40/LPBA40/delineation_space" / name / f"{name}.delineation"
        write_analyze(Path(f"{drawn}.skullstripped.hdr"), turned(SCAN, orientation), spacing,
                   packed=packed)  # fmt: skip
        write_analyze(Path(f"{drawn}.structure.label.hdr"), turned(LABELS, orientation), spacing,
                   packed=packed)  # fmt: skip
        native = root / "lpba40/LPBA40/native_space" / name
        for kind in ("mri", "brain.mask", "brain.bfc"):
            write_analyze(native / f"{name}.native.{kind}.hdr", SCAN, SPACING, packed=packed)
        write_analyze(
            native / "tissue" / f"{name}.native.tissue.hdr", LABELS, SPACING, packed=packed
        )
    (root / "lpba40/LPBA40/delineation_space/lpba40.label.xml").write_text("<labels/>")
    return root


def test_pairs_are_found_in_both_spaces(tmp_path: Path) -> None:
    root = lay_out(tmp_path)
    folder = root / "lpba40/LPBA40"
    first, second = lpba40.list_cases(root)
    drawn = folder / "delineation_space/S01"
    assert first == Case(
        "S01",
        (drawn / "S01.delineation.skullstripped.hdr",),
        drawn / "S01.delineation.structure.label.hdr",
        "S01",
    )
    assert second.identifier == "S02"
    native, _ = lpba40.list_cases(root, space="native")
    assert native.images == (folder / "native_space/S01/S01.native.mri.hdr",)
    assert native.labels is None


@pytest.mark.parametrize("orientation", CODES[::5])
def test_labels_tell_where_the_axes_point(orientation: str) -> None:
    assert lpba40.label_orientation(turned(LABELS, orientation)) == orientation


def test_too_few_labels_tell_nothing() -> None:
    assert lpba40.label_orientation(np.where(LABELS == 181, LABELS, 0)) is None


@pytest.mark.parametrize(
    ("orientation", "packed"),
    [("LAS", True), ("LAS", False), ("RAS", True), ("RIP", False), ("PSL", True)],
)
def test_scan_and_labels_lie_alike_in_the_world(
    tmp_path: Path, orientation: str, packed: bool
) -> None:
    case, _ = lpba40.list_cases(lay_out(tmp_path, orientation, packed=packed))
    scan, labels = lpba40.read_case(case)
    assert labels is not None
    assert "".join(aff2axcodes(scan.affine)) == orientation
    np.testing.assert_array_equal(scan.affine, labels.affine)
    np.testing.assert_array_equal(scan.data, turned(SCAN, orientation))
    left = np.argwhere(labels.data == 165).mean(axis=0)
    right = np.argwhere(labels.data == 166).mean(axis=0)
    apart = scan.affine[:3, :3] @ (right - left)
    np.testing.assert_allclose(apart, (6.0, 0, 0), atol=1e-6)  # millimetres, to the right


def test_the_keyword_serves_where_labels_are_silent(tmp_path: Path) -> None:
    case, _ = lpba40.list_cases(lay_out(tmp_path), space="native")
    scan, labels = lpba40.read_case(case)
    assert labels is None
    assert "".join(aff2axcodes(scan.affine)) == lpba40.ORIENTATION == "LAS"
    other, _ = lpba40.read_case(case, orientation="RPS")
    assert "".join(aff2axcodes(other.affine)) == "RPS"
    assert scan.spacing_mm == pytest.approx(SPACING)


def test_a_contradicting_keyword_is_refused(tmp_path: Path) -> None:
    case, _ = lpba40.list_cases(lay_out(tmp_path))
    assert lpba40.read_case(case, orientation="las")[1] is not None
    with pytest.raises(ScanError, match="S01: orientation: got RAS; where the labels lie says LAS"):
        lpba40.read_case(case, orientation="RAS")


def test_spaces_are_never_mixed(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "LSA")
    (native, _), (drawn, _) = lpba40.list_cases(root, space="native"), lpba40.list_cases(root)
    mixed = Case("S01", native.images, drawn.labels, "S01")
    with pytest.raises(ScanError, match=r"S01: S01.native.mri .* lie on different grids; bring"):
        lpba40.read_case(mixed)


def test_written_nifti_is_what_was_read(tmp_path: Path) -> None:
    case, _ = lpba40.list_cases(lay_out(tmp_path))
    image, labels = lpba40.write_nifti(case, tmp_path / "out")
    assert image == tmp_path / "out/scans/S01_T1w.nii.gz"
    assert labels == tmp_path / "out/labels/S01_dseg.nii.gz"
    scan, truth = lpba40.read_case(case)
    assert truth is not None
    np.testing.assert_array_equal(read_volume(image).data, scan.data)
    np.testing.assert_array_equal(read_label_map(labels).data, truth.data)
    np.testing.assert_allclose(read_label_map(labels).affine, scan.affine, atol=1e-5)


def test_absent_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"data set lpba40: the folder .* does not exist"):
        lpba40.list_cases(tmp_path)
    (tmp_path / "lpba40").mkdir()
    with pytest.raises(ScanError, match=r"found no case; .* native_space/S01/S01\.native\.mri"):
        lpba40.list_cases(tmp_path, space="native")


def test_protocol_names_56_structures_and_maps_what_corresponds() -> None:
    rows = {int(row["index"]): row["name"] for row in protocol_rows("lpba40")}
    assert len(rows) == 56
    assert (min(rows), max(rows)) == (21, 182)
    assert rows[22] == "R superior frontal gyrus"
    mapped = {i: t for i, t in protocol_map("lpba40").items() if t}
    assert mapped == {161: 11, 162: 50, 163: 12, 164: 51, 165: 17, 166: 53, 182: 16}
    for index, target in mapped.items():
        if index != 182:
            assert structure(target).name.startswith({"L": "Left", "R": "Right"}[rows[index][0]])


def test_left_and_right_pairs_are_those_of_the_table() -> None:
    rows = {int(row["index"]): row["name"] for row in protocol_rows("lpba40")}
    for index in lpba40.LEFT:
        assert rows[index][0] == "L"
        assert rows[index + 1] == f"R{rows[index][1:]}"


def test_four_folds_of_ten() -> None:
    assert Counter(read_split("lpba40").values()) == dict.fromkeys(lpba40.FOLDS, 10)
    case = Case("S05", (), None, "S05")
    assert split_cases([case], "lpba40").cases("fold-1") == [case]
