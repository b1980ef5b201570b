"""FreeSurfer's volumes: read as NIfTI is, refused as NIfTI is, and labels written for its tools."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.freesurfer.mghformat import MGHImage

from ddmseg.errors import ScanError
from ddmseg.imaging.mgh import write_mgz
from ddmseg.imaging.nifti import read_label_map, read_volume, write_label_map
from ddmseg.imaging.volume import LabelMap, Volume

CONFORMED = np.array([[-1.0, 0, 0, 4], [0, 0, 1.2, -3], [0, -0.9, 0, 5], [0, 0, 0, 1]])
SHAPE = (9, 10, 11)


def turned(degrees: float) -> np.ndarray:
    """A head that lies oblique in the scanner."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = CONFORMED.copy()
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ CONFORMED[:3, :3]
    return affine


def voxels(dtype: type = np.float32, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def saved(path: Path, data: np.ndarray, affine: np.ndarray = CONFORMED) -> Path:
    MGHImage(data, affine).to_filename(path)
    return path


@pytest.mark.parametrize("ending", ["mgh", "mgz"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_a_scan_is_what_freesurfer_wrote(tmp_path: Path, ending: str, dtype: type) -> None:
    affine = turned(20)
    scan = read_volume(saved(tmp_path / f"orig.{ending}", voxels(dtype), affine))
    np.testing.assert_array_equal(scan.data, voxels(dtype))
    np.testing.assert_allclose(scan.affine, affine, atol=1e-5)
    assert scan.name == "orig"
    assert scan.notes == ()


def test_one_frame_of_many_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "bold.mgz", voxels(shape=(*SHAPE, 3)))
    np.testing.assert_array_equal(
        read_volume(path, volume=2).data, voxels(shape=(*SHAPE, 3))[..., 2]
    )
    with pytest.raises(ScanError, match="3 volumes; choose one from 0 to 2"):
        read_volume(path)


@pytest.mark.parametrize("affine", [CONFORMED, turned(20), np.diag([1.0, 2, 3, 1])])
def test_labels_come_back_through_nibabel_and_through_us(tmp_path: Path, affine) -> None:
    ids = voxels(np.int32) * 60
    like = Volume(voxels(), affine, "scan")
    write_mgz(tmp_path / "l.mgz", LabelMap(ids, affine), like)
    image = nib.load(tmp_path / "l.mgz")
    np.testing.assert_array_equal(np.asarray(image.dataobj), ids)
    np.testing.assert_allclose(image.affine, affine, atol=1e-4)
    own = read_label_map(tmp_path / "l.mgz")
    np.testing.assert_array_equal(own.data, ids)
    np.testing.assert_allclose(own.affine, affine, atol=1e-4)


def test_the_same_labels_give_the_same_bytes(tmp_path: Path) -> None:
    like = Volume(voxels(), CONFORMED, "scan")
    for name in "ab":
        write_mgz(tmp_path / f"{name}.mgz", LabelMap(voxels(np.int32), CONFORMED), like)
    assert (tmp_path / "a.mgz").read_bytes() == (tmp_path / "b.mgz").read_bytes()


def test_results_of_an_mgz_lie_on_its_grid(tmp_path: Path) -> None:
    scan = read_volume(saved(tmp_path / "orig.mgz", voxels(), turned(20)))
    write_label_map(tmp_path / "l.nii.gz", LabelMap(voxels(np.int32), scan.affine), scan)
    np.testing.assert_allclose(nib.load(tmp_path / "l.nii.gz").affine, turned(20), atol=1e-4)


def test_a_sheared_grid_has_no_mgz(tmp_path: Path) -> None:
    affine = CONFORMED.copy()
    affine[0, 1] = 0.2
    with pytest.raises(ScanError, match="sheared"):
        write_mgz(
            tmp_path / "l.mgz",
            LabelMap(voxels(np.int32), affine),
            Volume(voxels(), affine, "scan"),
        )
    assert not list(tmp_path.iterdir())


def changed(raw: bytes, at: int, kind: str, *values: float) -> bytes:
    data = bytearray(raw)
    struct.pack_into(kind, data, at, *values)
    return bytes(data)


BAD = {
    "cut in the header": (lambda raw: raw[:200], "ends within its header"),
    "cut in the voxels": (lambda raw: raw[:1000], "the header promises"),
    "goes on": (lambda raw: raw + bytes(3 << 20), "goes on after"),
    "huge": (lambda raw: changed(raw, 4, ">3i", 30000, 30000, 30000), "voxels; at most"),
    "a size below 0": (lambda raw: changed(raw, 4, ">i", -5), "which cannot be"),
    "no frame": (lambda raw: changed(raw, 16, ">i", 0), "which cannot be"),
    "flat": (lambda raw: changed(raw, 4, ">i", 1), "a 2-D image"),
    "an unknown type": (lambda raw: changed(raw, 20, ">i", 7), "type code 7 voxels"),
    "no direction": (lambda raw: changed(raw, 28, ">h", 0), "goodRASFlag 0"),
    "no size of a voxel": (lambda raw: changed(raw, 30, ">f", 0.0), "voxel sizes or directions"),
    "sizes that are no number": (lambda raw: changed(raw, 34, ">f", np.nan), "voxel sizes"),
    "axes that fall together": (lambda raw: changed(raw, 42, ">6f", 1, 0, 0, 1, 0, 0), ""),
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_refused_in_a_line(tmp_path: Path, name: str, zipped: bool) -> None:
    spoil, said = BAD[name]
    raw = spoil(saved(tmp_path / "a.mgh", voxels()).read_bytes())
    path = tmp_path / ("bad.mgz" if zipped else "bad.mgh")
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    with pytest.raises(ScanError) as caught:
        read_volume(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_damaged_checksum_is_noticed(tmp_path: Path) -> None:
    raw = bytearray(saved(tmp_path / "a.mgz", voxels()).read_bytes())
    raw[-6] ^= 1
    (tmp_path / "a.mgz").write_bytes(raw)
    with pytest.raises(ScanError, match="damaged gzip"):
        read_volume(tmp_path / "a.mgz")
