"""What a header says of place and values: agreed, contradicted, mended or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ddmseg.errors import ScanError
from ddmseg.imaging.nifti import read_label_map, read_volume, volume_from_nibabel, write_label_map
from ddmseg.imaging.volume import LabelMap, Volume

SHAPE = (12, 14, 16)
NOISE = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)
RAS = np.array([[1.0, 0, 0, -5], [0, 1.2, 0, -8], [0, 0, 2.0, -16], [0, 0, 0, 1]])
LAS = np.diag([-1.0, 1, 1, 1]) @ RAS


def turned(degrees: float, affine: np.ndarray = RAS, shift_mm: float = 0.0) -> np.ndarray:
    """Turn about the middle of the grid, so that only directions change."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    out = affine.copy()
    out[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ affine[:3, :3]
    middle = (np.array(SHAPE) - 1) / 2
    out[:3, 3] = affine[:3, :3] @ middle + affine[:3, 3] - out[:3, :3] @ middle + [shift_mm, 0, 0]
    return out


def save(
    path: Path, sform: Any = RAS, qform: Any = RAS, codes: tuple[int, int] = (1, 1), **fields: Any
) -> Path:
    """Write a scan; ``codes`` are of sform and qform, and fields are set as they are given."""
    kind = fields.pop("kind", nib.Nifti1Image)
    image = kind(NOISE, None)
    image.set_qform(qform, codes[1])
    raw = bytearray(image.to_bytes())
    header = kind.header_class(bytes(raw[: kind.header_class.sizeof_hdr]), check=False)
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        header[name] = sform[row]
    header["sform_code"], header["qform_code"] = codes
    for name, value in {"scl_slope": 1.0, "scl_inter": 0.0, **fields}.items():
        if name == "qfac":
            header["pixdim"][0] = value
        else:
            header[name] = value
    raw[: len(header.binaryblock)] = header.binaryblock
    path.write_bytes(raw)
    return path


def codes(scan: Volume) -> list[str]:
    return [note.code for note in scan.notes]


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("pair", [(1, 1), (4, 1), (2, 0), (0, 1), (1, 2)])
def test_a_header_that_agrees_with_itself_leaves_no_doubt(
    tmp_path: Path, pair: tuple[int, int], kind: Any
) -> None:
    scan = read_volume(save(tmp_path / "a.nii", codes=pair, kind=kind))
    assert scan.notes == ()
    assert np.allclose(scan.affine, RAS, atol=1e-5)


def test_without_a_code_left_and_right_cannot_be_known(tmp_path: Path) -> None:
    scan = read_volume(save(tmp_path / "a.nii", codes=(0, 0)))
    assert codes(scan) == ["sides_unknown"]
    assert "left and right cannot be known" in scan.notes[0]
    assert codes(volume_from_nibabel(nib.load(tmp_path / "a.nii"))) == ["sides_unknown"]


def test_an_analyze_image_in_memory_says_nothing_of_sides(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(NOISE, None), tmp_path / "a.img")
    image = nib.load(tmp_path / "a.img")
    assert codes(volume_from_nibabel(image)) == ["sides_unknown"]
    own = nib.Nifti1Image(NOISE, RAS)  # an affine of the caller's own is believed
    assert volume_from_nibabel(own).notes == ()


@pytest.mark.parametrize(
    ("qform", "code", "said"),
    [
        (LAS, "sides_contradicted", "RAS by its sform, which was used, LAS by its qform"),
        (turned(3.0), "place_contradicted", "differ by 3 degrees and 0 mm"),
        (turned(180.0), "place_contradicted", "differ by 180 degrees"),
        (turned(0.0, shift_mm=0.6), "place_contradicted", "0 degrees and 0.6 mm"),
        (turned(0.9), None, ""),
        (turned(0.0, shift_mm=0.4), None, ""),
    ],
)
def test_sform_and_qform_are_compared(
    tmp_path: Path, qform: np.ndarray, code: str | None, said: str
) -> None:
    scan = read_volume(save(tmp_path / "a.nii", qform=qform))
    assert np.allclose(scan.affine, RAS, atol=1e-5)
    assert codes(scan) == ([code] if code else [])
    assert said in "".join(scan.notes)


@pytest.mark.parametrize(("edge", "told"), [(2.0, True), (1.02, True), (1.004, False)])
def test_sform_and_pixdim_are_compared(tmp_path: Path, edge: float, told: bool) -> None:
    pixdim = [1, edge, 1.2, 2.0, 0, 0, 0, 0]
    scan = read_volume(save(tmp_path / "a.nii", codes=(1, 0), pixdim=pixdim))
    assert codes(scan) == ["spacing_contradicted"] * told
    assert scan.spacing_mm[0] == pytest.approx(1.0)


def test_a_damaged_qform_beside_a_good_sform_is_told(tmp_path: Path) -> None:
    scan = read_volume(save(tmp_path / "a.nii", quatern_b=5.0))
    assert codes(scan) == ["qform_damaged"]


@pytest.mark.parametrize("qfac", [0.0, 1.0])
@pytest.mark.parametrize("longer", [1.0, 1.0 + 1e-5, 1.004])
def test_qform_alone_as_the_standard_reads_it(tmp_path: Path, qfac: float, longer: float) -> None:
    """Files of OpenNeuro and of MICCAI 2012 have pixdim[0] = 0 and quaternions a little long."""
    half = np.array([0.6, 0.0, 0.8]) * longer  # a half turn: quatern_a is 0
    fields = dict(zip(("quatern_b", "quatern_c", "quatern_d"), half, strict=True))
    scan = read_volume(save(tmp_path / "a.nii", codes=(0, 1), qfac=qfac, **fields))
    expected = np.array([[0.6**2 - 0.8**2, 0, 0.96], [0, -1, 0], [0.96, 0, 0.8**2 - 0.6**2]])
    assert np.allclose(scan.affine[:3, :3], expected * [1.0, 1.2, 2.0], atol=2e-3)
    assert scan.notes == ()
    # what is written of it can be read by everyone
    write_label_map(tmp_path / "l.nii", LabelMap(np.ones(SHAPE, int), scan.affine), scan)
    assert np.allclose(nib.load(tmp_path / "l.nii").affine, scan.affine, atol=1e-5)


def test_an_odd_qfac_is_read_by_its_sign_and_told(tmp_path: Path) -> None:
    scan = read_volume(save(tmp_path / "a.nii", codes=(0, 1), qfac=-3.0))
    assert codes(scan) == ["qfac_odd"]
    assert np.linalg.det(scan.affine) < 0


@pytest.mark.parametrize(("unit", "factor"), [(1, 0.001), (3, 1000.0)])
@pytest.mark.parametrize("pair", [(1, 1), (0, 1), (1, 0)])
def test_other_units_become_millimetres(
    tmp_path: Path, unit: int, factor: float, pair: tuple[int, int]
) -> None:
    small = RAS.copy()
    small[:3] *= factor
    path = save(tmp_path / "a.nii", small, small, pair, xyzt_units=unit | 8)
    scan = read_volume(path)
    assert np.allclose(scan.affine, RAS, rtol=1e-4, atol=1e-3)
    assert codes(scan) == ["units_converted"]
    write_label_map(tmp_path / "l.nii", LabelMap(np.ones(SHAPE, int), scan.affine), scan)
    written = nib.load(tmp_path / "l.nii")
    assert written.header.get_xyzt_units()[0] == "mm"
    assert np.allclose(written.affine, scan.affine, atol=1e-4)
    in_memory = volume_from_nibabel(nib.load(path))
    assert np.allclose(in_memory.affine, scan.affine)


def refused(path: Path, said: str) -> None:
    with pytest.raises(ScanError, match=said) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


SHEARED = RAS.copy()
SHEARED[0, 1] = 0.9
FAR = RAS.copy()
FAR[0, 3] = 1e30


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"xyzt_units": 5}, "unit 5, which is none"),
        ({"xyzt_units": 1}, "voxels of 1000 x 1200 x 2000 mm"),
        ({"xyzt_units": 3}, "voxels of 0.001 x 0.0012 x 0.002 mm"),
        ({"scl_slope": np.nan}, "the header is damaged .slope nan"),
        ({"scl_slope": np.inf}, "the header is damaged .slope inf"),
        ({"scl_slope": 2.0, "scl_inter": np.nan}, "intercept nan"),
        ({"intent_code": 1002}, "this is a label map, not a scan"),
        ({"intent_code": 5}, "this is a statistical map, not a scan"),
        ({"sform": FAR}, "1e.30 mm from the origin; at most 10000 mm"),
        ({"sform": SHEARED}, "37 degrees from right angles; at most 20"),
        ({"sform": np.full((4, 4), np.nan)}, "NaN"),
    ],
)
def test_what_no_scan_has_is_refused_before_the_voxels(
    tmp_path: Path, fields: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **named: object) -> None:
        raise AssertionError("voxels were read")

    path = save(tmp_path / "a.nii", **fields)
    monkeypatch.setattr("ddmseg.imaging.nifti_guard.RawScan.voxels", never)
    refused(path, said)


def test_label_maps_may_have_any_intent_but_no_insane_place(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", intent_code=1002)
    assert read_label_map(path).shape == SHAPE
    with pytest.raises(ScanError, match="from the origin"):
        read_label_map(save(tmp_path / "b.nii", sform=FAR))
