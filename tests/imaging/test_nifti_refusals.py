"""Every damaged or unsuitable file is refused in one line that says what to do."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ddmseg.errors import ScanError
from ddmseg.imaging.nifti import (
    read_label_map,
    read_volume,
    volume_from_array,
    volume_from_nibabel,
)
from ddmseg.imaging.scan_checks import looks_like_labels

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 1000, (12, 13, 14)).astype(np.int16)


def nifti_bytes(data: np.ndarray = NOISE, affine: Any = None, **fields: Any) -> bytearray:
    image = nib.Nifti1Image(data, np.eye(4) if affine is None else affine)
    for name, value in fields.items():
        image.header[name] = value
    return bytearray(image.to_bytes())


def refused(path: Path, **options: Any) -> str:
    """Return the message, after checking that it is one line that names the file."""
    with pytest.raises(ScanError) as caught:
        read_volume(path, **options)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert caught.value.exit_code == 1
    return message


def put(path: Path, content: bytes | bytearray) -> Path:
    path.write_bytes(content)
    return path


def poked(fmt: str, offset: int, *values: float) -> bytearray:
    raw = nifti_bytes()
    struct.pack_into(fmt, raw, offset, *values)
    return raw


# the file


def test_missing_file(tmp_path: Path) -> None:
    assert "no such file; check the path" in refused(tmp_path / "a.nii")


def test_folder(tmp_path: Path) -> None:
    assert "a folder; give a .nii, .nii.gz or .mgz file" in refused(tmp_path)


def test_path_through_a_file(tmp_path: Path) -> None:
    put(tmp_path / "a", b"x")
    assert "Not a directory" in refused(tmp_path / "a" / "b.nii")


def test_empty_file(tmp_path: Path) -> None:
    assert "the file is empty" in refused(put(tmp_path / "a.nii.gz", b""))


@pytest.mark.parametrize("content", [b"hello", bytes(1000), b"\x89PNG" + bytes(600)])
def test_not_nifti(tmp_path: Path, content: bytes) -> None:
    assert "neither NIfTI nor MGH; give a .nii" in refused(put(tmp_path / "a.nii", content))
    zipped = put(tmp_path / "a.nii.gz", gzip.compress(content))
    assert "neither NIfTI nor MGH" in refused(zipped)


def test_dicom_file(tmp_path: Path) -> None:
    content = bytes(128) + b"DICM" + bytes(500)
    assert "a DICOM file; give the folder" in refused(put(tmp_path / "a.nii", content))


def test_half_a_pair(tmp_path: Path) -> None:
    raw = nifti_bytes()
    raw[344:348] = b"ni1\0"
    assert "half of a .hdr/.img pair" in refused(put(tmp_path / "a.hdr", raw))


# gzip


def test_truncated_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(bytes(nifti_bytes()))
    for keep in (5, 20, 200, len(whole) // 2, len(whole) - 1, len(whole) - 8):
        message = refused(put(tmp_path / "a.nii.gz", whole[:keep]))
        assert "cut off" in message
        assert "copy or download it again" in message


def test_wrong_gzip_checksum(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(bytes(nifti_bytes())))
    whole[-6] ^= 0xFF
    assert "CRC check failed" in refused(put(tmp_path / "a.nii.gz", whole))


def test_wrong_gzip_length(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(bytes(nifti_bytes())))
    whole[-1] ^= 0x01
    assert "Incorrect length" in refused(put(tmp_path / "a.nii.gz", whole))


def test_every_flipped_bit_of_the_data_is_noticed(tmp_path: Path) -> None:
    whole = gzip.compress(bytes(nifti_bytes()))
    for at in RNG.integers(1000, len(whole) - 8, 20).tolist():
        damaged = bytearray(whole)
        damaged[at] ^= 1 << (at % 8)
        assert "damaged gzip" in refused(put(tmp_path / "a.nii.gz", damaged))


def test_checksum_is_checked_behind_the_chosen_volume(tmp_path: Path) -> None:
    raw = nifti_bytes(RNG.integers(0, 999, (12, 13, 14, 3)).astype(np.int16))
    whole = bytearray(gzip.compress(bytes(raw)))
    whole[-6] ^= 0xFF
    assert "CRC" in refused(put(tmp_path / "a.nii.gz", whole), volume=0)


def test_rubbish_after_the_gzip_data(tmp_path: Path) -> None:
    content = gzip.compress(bytes(nifti_bytes())) + b"rubbish"
    assert "damaged gzip" in refused(put(tmp_path / "a.nii.gz", content))


def test_bomb_is_not_inflated(tmp_path: Path) -> None:
    content = gzip.compress(bytes(nifti_bytes()) + bytes(50 << 20), 1)
    assert "goes on after" in refused(put(tmp_path / "a.nii.gz", content))


def test_a_little_after_the_voxels_is_allowed(tmp_path: Path) -> None:
    for name, wrap in (("a.nii", bytes), ("a.nii.gz", gzip.compress)):
        path = put(tmp_path / name, wrap(bytes(nifti_bytes()) + bytes(1000)))
        assert np.array_equal(read_volume(path).data, NOISE)


# sizes


def test_truncated_plain_file(tmp_path: Path) -> None:
    raw = nifti_bytes()
    message = refused(put(tmp_path / "a.nii", raw[:-1]))
    assert f"promises {len(raw)} bytes and the file cannot hold more than {len(raw) - 1}" in message


def test_gzip_that_holds_less_than_its_header_promises(tmp_path: Path) -> None:
    path = put(tmp_path / "a.nii.gz", gzip.compress(bytes(nifti_bytes()[:-100])))
    assert "promises 4720 bytes and the file holds 4620" in refused(path)


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
def test_header_that_promises_gigabytes(tmp_path: Path, wrap: Callable[[bytes], bytes]) -> None:
    path = put(tmp_path / "a.nii", wrap(bytes(poked("<4h", 40, 3, 500, 500, 500))))
    assert "promises 250000352 bytes" in refused(path)
    path = put(tmp_path / "a.nii", wrap(bytes(poked("<4h", 40, 3, 30000, 30000, 30000))))
    assert "30000 x 30000 x 30000 voxels; at most" in refused(path)


def test_limit_of_voxels_can_be_set(tmp_path: Path) -> None:
    path = put(tmp_path / "a.nii", nifti_bytes())
    assert "at most 100 are allowed; resample or crop" in refused(path, max_voxels=100)
    assert read_volume(path, max_voxels=NOISE.size).shape == NOISE.shape


@pytest.mark.parametrize("dim", [(0, 5, 5, 5), (9, 5, 5, 5), (3, 0, 5, 5), (3, -4, 5, 5)])
def test_impossible_sizes(tmp_path: Path, dim: tuple[int, ...]) -> None:
    assert "which cannot be" in refused(put(tmp_path / "a.nii", poked("<4h", 40, *dim)))


@pytest.mark.parametrize("shape", [(20, 20), (20, 20, 1), (1, 20, 20), (20, 20, 1, 1)])
def test_two_dimensional_image(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = put(tmp_path / "a.nii", nifti_bytes(RNG.random(shape).astype(np.float32)))
    assert "a 2-D image (" in refused(path)


def test_many_volumes_need_a_choice(tmp_path: Path) -> None:
    path = put(tmp_path / "a.nii", nifti_bytes(RNG.random((5, 5, 5, 4)).astype(np.float32)))
    assert "4 volumes; choose one from 0 to 3 with --volume" in refused(path)
    assert "no volume 4; --volume must be from 0 to 3" in refused(path, volume=4)
    assert "no volume -1" in refused(path, volume=-1)


def test_volume_of_a_three_axis_scan(tmp_path: Path) -> None:
    path = put(tmp_path / "a.nii", nifti_bytes())
    assert "no volume 1; --volume must be from 0 to 0" in refused(path, volume=1)


# header


@pytest.mark.parametrize("code", [1, 32, 128, 1792, 2304, 77])
def test_voxels_that_are_no_numbers(tmp_path: Path, code: int) -> None:
    path = put(tmp_path / "a.nii", poked("<h", 70, code))
    assert "must hold whole or real numbers" in refused(path)


@pytest.mark.parametrize("offset", [np.nan, -5.0, 1e30])
def test_impossible_offset(tmp_path: Path, offset: float) -> None:
    assert "puts the voxels at byte" in refused(put(tmp_path / "a.nii", poked("<f", 108, offset)))


def with_sform_row(offset: int, row: list[float]) -> bytearray:
    raw = poked("<h", 254, 1)
    struct.pack_into("<4f", raw, offset, *row)
    return raw


def test_nan_affine(tmp_path: Path) -> None:
    path = put(tmp_path / "a.nii", with_sform_row(296, [0, 1, 0, np.nan]))
    assert "affine holds NaN" in refused(path)


def test_singular_affine(tmp_path: Path) -> None:
    path = put(tmp_path / "a.nii", with_sform_row(312, [0, 1, 0, 0]))
    assert "affine is singular" in refused(path)


def test_impossible_quaternion(tmp_path: Path) -> None:
    raw = poked("<2hf", 252, 1, 0, 5.0)
    assert "the header is damaged" in refused(put(tmp_path / "a.nii", raw))


@pytest.mark.parametrize("edge", [1e6, 31.0, 0.01])
def test_impossible_spacing(tmp_path: Path, edge: float) -> None:
    path = put(tmp_path / "a.nii", nifti_bytes(affine=np.diag([1, 1, edge, 1])))
    message = refused(path)
    assert f"voxels of 1 x 1 x {edge:g} mm" in message
    assert "0.05 to 30 mm" in message


def test_infinite_slope(tmp_path: Path) -> None:
    raw = nifti_bytes(scl_slope=2.0, scl_inter=np.inf)
    assert "header is damaged" in refused(put(tmp_path / "a.nii", raw))


# content


def test_constant_image(tmp_path: Path) -> None:
    path = put(tmp_path / "a.nii", nifti_bytes(np.full((5, 5, 5), 7, np.int16)))
    assert "every voxel is 7; give a scan with contrast" in refused(path)


def test_nan_voxels(tmp_path: Path) -> None:
    data = NOISE.astype(np.float32)
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    path = put(tmp_path / "a.nii", nifti_bytes(data))
    assert "3 voxels are NaN or infinite" in refused(path)
    assert "--accept-nan" in refused(path)


def test_all_nan_is_constant_even_when_accepted(tmp_path: Path) -> None:
    path = put(tmp_path / "a.nii", nifti_bytes(np.full((5, 5, 5), np.nan, np.float32)))
    assert "every voxel is 0" in refused(path, accept_nan=True)


def test_label_map_as_scan(tmp_path: Path) -> None:
    blocks = np.kron(RNG.integers(0, 40, (4, 4, 4)), np.ones((6, 6, 6), int)).astype(np.int16)
    path = put(tmp_path / "a.nii", nifti_bytes(blocks))
    assert "a label map, not a scan; give the scan it was made from" in refused(path)


def test_intent_code_says_label(tmp_path: Path) -> None:
    path = put(tmp_path / "a.nii", nifti_bytes(intent_code=1002))
    assert "a label map" in refused(path)


def test_scan_as_label_map(tmp_path: Path) -> None:
    for bad in (0.5, np.nan, np.inf, 1e12):
        data = np.zeros((5, 5, 5), np.float32)
        data[2, 2, 2] = bad
        path = put(tmp_path / "a.nii", nifti_bytes(data))
        with pytest.raises(ScanError, match="not a label map: it holds"):
            read_label_map(path)


# what is and what is not a label map


def test_eight_bit_scans_are_no_label_maps() -> None:
    smooth = np.cumsum(np.cumsum(RNG.normal(0, 1, (40, 40, 40)), 0), 1)
    for top in (255, 80, 30):
        scan = np.rint(
            (smooth - smooth.min()) / np.ptp(smooth) * top + RNG.normal(0, 1, smooth.shape)
        )
        scan[:10] = 0
        assert not looks_like_labels(np.clip(scan, 0, 255).astype(np.float32))


def test_enlarged_eight_bit_scan_is_no_label_map() -> None:
    small = RNG.integers(0, 100, (20, 20, 20))
    assert not looks_like_labels(np.kron(small, np.ones((2, 2, 2))).astype(np.float32))


def test_few_values_or_flat_patches_are_label_maps() -> None:
    binary = (RNG.random((20, 20, 20)) > 0.5).astype(np.float32)
    assert looks_like_labels(binary)
    patches = np.kron(RNG.integers(0, 200, (5, 5, 5)), np.ones((8, 8, 8))).astype(np.float32)
    assert looks_like_labels(patches)
    assert looks_like_labels(-patches)
    assert not looks_like_labels(patches * 0.7)
    assert not looks_like_labels(patches * 1000)


# objects in memory


def test_objects_get_the_same_checks() -> None:
    nan = NOISE.astype(float)
    nan[0, 0, 0] = np.nan
    cases: list[tuple[np.ndarray, Any, str]] = [
        (nan, np.eye(4), r"1 voxels are NaN or infinite.*accept_nan=True"),
        (np.zeros((4, 4, 4)), np.eye(4), "every voxel is 0"),
        (NOISE[0], np.eye(4), r"an array of shape \(13 x 14\); a scan must have 3 axes"),
        (NOISE, np.zeros((4, 4)), "singular"),
        (NOISE, np.eye(3), "must be 4x4"),
        (NOISE.astype(complex), np.eye(4), "voxels of type complex128"),
        (NOISE > 500, np.eye(4), "a label map"),
    ]
    for data, affine, said in cases:
        with pytest.raises(ScanError, match=f"^mine: .*{said}"):
            volume_from_array(data, affine, name="mine")


def test_nibabel_objects() -> None:
    four = nib.Nifti1Image(RNG.random((4, 4, 4, 2)), np.eye(4))
    with pytest.raises(ScanError, match="2 volumes; choose one"):
        volume_from_nibabel(four)
    with pytest.raises(ScanError, match="no affine"):
        volume_from_nibabel(nib.Nifti1Image(NOISE, None))


def test_nibabel_object_of_a_damaged_file(tmp_path: Path) -> None:
    whole = gzip.compress(bytes(nifti_bytes()))
    path = put(tmp_path / "a.nii.gz", whole[: len(whole) // 2])
    with pytest.raises(ScanError, match="mine: the voxels cannot be read"):
        volume_from_nibabel(nib.load(path), name="mine")
