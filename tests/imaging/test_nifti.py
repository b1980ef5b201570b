"""NIfTI in and out: values, affine, codes, units and intent survive; bytes repeat."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ddmseg.errors import OutputError, ScanError
from ddmseg.imaging.nifti import (
    read_label_map,
    read_volume,
    scan_name,
    volume_from_array,
    volume_from_nibabel,
    write_label_map,
    write_map,
)
from ddmseg.imaging.volume import LabelMap, Volume

AFFINE = np.array([[-0.9, 0.1, 0, 80], [0.1, 1.5, 0, -70], [0, 0, 2.0, -30], [0, 0, 0, 1]])


def voxels(shape: tuple[int, ...] = (6, 7, 8), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, shape).astype(np.int16)


def save(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE, **fields: Any) -> Path:
    kind = fields.pop("kind", nib.Nifti1Image)
    image = kind(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    for name, value in fields.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def labels_like(scan: Volume, top: int = 60) -> LabelMap:
    data = np.random.default_rng(1).integers(0, top, scan.shape)
    return LabelMap(data, scan.affine, "labels")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_reads_what_nibabel_reads(tmp_path: Path, suffix: str, kind: Any) -> None:
    saved = save(tmp_path / ("sub-01_T1w" + suffix.lower()), voxels(), kind=kind)
    path = saved.rename(tmp_path / ("sub-01_T1w" + suffix))
    scan = read_volume(path)
    assert scan.name == "sub-01_T1w"
    assert scan.data.dtype == np.float32
    assert np.array_equal(scan.data, voxels())
    assert np.allclose(scan.affine, AFFINE, atol=1e-6)
    assert scan.header["sform_code"] == 2


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8", "i8", "u8"])
@pytest.mark.parametrize("order", "<>")
def test_all_number_types_and_byte_orders(tmp_path: Path, dtype: str, order: str) -> None:
    data = (voxels() % 100).astype(dtype)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(dtype)
    nib.save(nib.Nifti1Image(data, AFFINE, header), tmp_path / "a.nii.gz")
    assert np.array_equal(read_volume(tmp_path / "a.nii.gz").data, data)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(voxels().astype(np.float32) * 0.25 - 3, AFFINE)
    image.header.set_data_dtype(np.int16)
    nib.save(image, tmp_path / "a.nii")
    expected = nib.load(tmp_path / "a.nii").get_fdata()
    got = read_volume(tmp_path / "a.nii")
    assert got.header["scl_slope"] != 1
    assert np.allclose(got.data, expected, rtol=1e-5, atol=1e-4)


def test_qform_is_used_without_sform(tmp_path: Path) -> None:
    image = nib.Nifti1Image(voxels(), np.diag([1.0, 2.0, 3.0, 1.0]))
    image.set_qform(np.diag([1.0, 2.0, 3.0, 1.0]), 1)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").spacing_mm == pytest.approx((1, 2, 3))


@pytest.mark.parametrize("shape", [(6, 7, 8, 1), (6, 7, 8, 1, 1)])
def test_four_axes_with_one_volume(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = save(tmp_path / "a.nii.gz", voxels(shape))
    assert np.array_equal(read_volume(path).data, voxels(shape).reshape(6, 7, 8))
    assert read_volume(path, volume=0).shape == (6, 7, 8)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [(6, 7, 8, 3), (6, 7, 8, 1, 3)])
def test_one_of_many_volumes(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", voxels(shape))
    for index in range(3):
        expected = voxels(shape)[..., index].reshape(6, 7, 8)
        assert np.array_equal(read_volume(path, volume=index).data, expected)
        image = nib.load(path)
        assert np.array_equal(volume_from_nibabel(image, volume=index).data, expected)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    zipped = save(tmp_path / "a.nii.gz", voxels()).rename(tmp_path / "a.nii")
    assert np.array_equal(read_volume(zipped).data, voxels())


def test_several_gzip_members_and_zero_padding(tmp_path: Path) -> None:
    import gzip

    raw = save(tmp_path / "a.nii", voxels()).read_bytes()
    path = tmp_path / "b.nii.gz"
    path.write_bytes(gzip.compress(raw[:500]) + gzip.compress(raw[500:]) + bytes(100))
    assert np.array_equal(read_volume(path).data, voxels())


def test_nan_becomes_zero_when_accepted(tmp_path: Path) -> None:
    data = voxels().astype(np.float32)
    data[0, 0, 0], data[1, 1, 1] = np.nan, np.inf
    scan = read_volume(save(tmp_path / "a.nii", data), accept_nan=True)
    assert scan.data[0, 0, 0] == scan.data[1, 1, 1] == 0
    assert np.array_equal(scan.data[2:], data[2:])


def test_label_maps_read_as_whole_numbers(tmp_path: Path) -> None:
    data = voxels() % 60
    for kind in (np.int16, np.uint8, np.float32, np.float64):
        labels = read_label_map(save(tmp_path / "a_dseg.nii.gz", data.astype(kind)))
        assert np.issubdtype(labels.data.dtype, np.integer)
        assert np.array_equal(labels.data, data)
        assert labels.name == "a_dseg"


def test_empty_label_map_is_allowed(tmp_path: Path) -> None:
    labels = read_label_map(save(tmp_path / "a.nii", np.zeros((4, 4, 4), np.uint8)))
    assert labels.data.max() == 0


def test_from_array_and_from_nibabel_agree() -> None:
    image = nib.Nifti1Image(voxels(), AFFINE)
    one = volume_from_nibabel(image, name="x")
    two = volume_from_array(voxels(), AFFINE, name="x")
    assert np.array_equal(one.data, two.data)
    assert np.array_equal(one.affine, two.affine)
    assert one.header is not None
    assert two.header is None
    assert one.name == two.name == "x"


def test_array_is_copied() -> None:
    data = voxels().astype(np.float32)
    data[0, 0, 0] = np.nan
    scan = volume_from_array(data, AFFINE, accept_nan=True)
    assert np.isnan(data[0, 0, 0])
    assert scan.data[0, 0, 0] == 0


# writing


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_label_map_round_trip(tmp_path: Path, suffix: str) -> None:
    scan = read_volume(save(tmp_path / "scan.nii.gz", voxels()))
    labels = labels_like(scan)
    write_label_map(tmp_path / f"out{suffix}", labels, scan)
    back = read_label_map(tmp_path / f"out{suffix}")
    assert np.array_equal(back.data, labels.data)
    assert np.array_equal(back.affine, scan.affine)
    image = nib.load(tmp_path / f"out{suffix}")
    assert np.array_equal(np.asarray(image.dataobj), labels.data)
    assert image.header["intent_code"] == 1002
    assert image.header.get_intent()[0] == "label"
    # nibabel's own checks find nothing to mend
    assert not image.header.diagnose_binaryblock(image.header.binaryblock)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("qcode", "scode"), [(1, 0), (0, 4), (1, 1), (3, 2), (0, 0)])
def test_place_in_space_is_kept_to_the_bit(
    tmp_path: Path, kind: Any, qcode: int, scode: int
) -> None:
    image = kind(voxels(), AFFINE)
    image.set_qform(AFFINE, qcode)
    image.set_sform(AFFINE, scode)
    image.header.set_xyzt_units("mm", "msec")
    nib.save(image, tmp_path / "scan.nii")
    scan = read_volume(tmp_path / "scan.nii")
    write_label_map(tmp_path / "out.nii.gz", labels_like(scan), scan)
    before, after = nib.load(tmp_path / "scan.nii").header, nib.load(tmp_path / "out.nii.gz").header
    for field in (
        "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x",
        "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units",
    ):  # fmt: skip
        assert np.array_equal(before[field], after[field]), field
    assert np.array_equal(before["pixdim"][:4], after["pixdim"][:4])
    assert np.array_equal(nib.load(tmp_path / "out.nii.gz").affine, scan.affine)


def test_what_described_the_scan_is_gone(tmp_path: Path) -> None:
    path = save(
        tmp_path / "scan.nii", voxels(), descrip=b"a name", aux_file=b"x", cal_max=900, toffset=2
    )
    scan = read_volume(path)
    write_label_map(tmp_path / "out.nii", labels_like(scan), scan)
    header = nib.load(tmp_path / "out.nii").header
    assert header["descrip"] == b"ddmseg labels; research use, not for diagnosis"
    assert header["aux_file"] == b""
    assert header["cal_max"] == 0
    assert header["toffset"] == 0


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_no_text_of_the_scan_is_copied(tmp_path: Path, kind: Any) -> None:
    path = save(tmp_path / "scan.nii", voxels(), kind=kind)
    block = np.frombuffer(path.read_bytes(), kind.header_class.template_dtype, 1).copy()
    places = kind.header_class.template_dtype
    texts = [name for name in places.names if places[name].kind == "S" and name != "magic"]
    for name in texts:
        block[name] = b"Doe^John=1+1"[: places[name].itemsize]
    assert {"descrip", "aux_file", "intent_name"} < set(texts)
    size = block.nbytes
    path.write_bytes(block.tobytes() + path.read_bytes()[size:])
    scan = read_volume(path)
    assert b"Doe" in scan.header.binaryblock
    write_label_map(tmp_path / "labels.nii", labels_like(scan), scan)
    write_map(tmp_path / "map.nii", scan.data, scan, description="m")
    for name in ("labels.nii", "map.nii"):
        header = (tmp_path / name).read_bytes()[:size]
        assert not [word for word in (b"Doe", b"John", b"=1+1") if word in header]
        assert nib.load(tmp_path / name).header["descrip"].item().endswith(b"not for diagnosis")


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 255, "u1"), (0, 256, "i2"), (-1, 5, "i2"), (0, 40000, "u2"), (0, 70000, "i4")],
)
def test_smallest_integer_type(tmp_path: Path, low: int, high: int, dtype: str) -> None:
    scan = volume_from_array(voxels(), AFFINE)
    data = np.zeros(scan.shape, np.int64)
    data[0, 0, 0], data[1, 1, 1] = low, high
    write_label_map(tmp_path / "a.nii.gz", LabelMap(data, AFFINE), scan)
    assert nib.load(tmp_path / "a.nii.gz").get_data_dtype() == np.dtype(dtype)
    assert np.array_equal(read_label_map(tmp_path / "a.nii.gz").data, data)


def test_big_endian_scan_gives_little_endian_results(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    nib.save(nib.Nifti1Image(voxels(), AFFINE, header), tmp_path / "scan.nii")
    scan = read_volume(tmp_path / "scan.nii")
    write_label_map(tmp_path / "out.nii", labels_like(scan), scan)
    image = nib.load(tmp_path / "out.nii")
    assert image.header.endianness == "<"
    assert np.array_equal(image.affine, scan.affine)
    assert np.array_equal(np.asarray(image.dataobj), labels_like(scan).data)


def test_map_round_trip(tmp_path: Path) -> None:
    scan = read_volume(save(tmp_path / "scan.nii.gz", voxels()))
    data = np.random.default_rng(2).random(scan.shape)
    write_map(tmp_path / "m.nii.gz", data, scan, description="voxel entropy, 0 to 1")
    image = nib.load(tmp_path / "m.nii.gz")
    assert image.get_data_dtype() == np.float32
    assert np.array_equal(np.asarray(image.dataobj), data.astype(np.float32))
    assert image.header["descrip"] == b"voxel entropy, 0 to 1; research use, not for diagnosis"
    assert image.header["intent_code"] == 0
    assert np.array_equal(image.affine, scan.affine)


def test_maps_of_classes_have_four_axes(tmp_path: Path) -> None:
    scan = read_volume(save(tmp_path / "scan.nii.gz", voxels()))
    data = np.random.default_rng(3).random((*scan.shape, 5)).astype(np.float32)
    write_map(tmp_path / "p.nii.gz", data, scan, description="x" * 200)
    image = nib.load(tmp_path / "p.nii.gz")
    assert image.shape == (6, 7, 8, 5)
    assert np.array_equal(np.asarray(image.dataobj), data)
    told = image.header["descrip"].item()
    assert told == b"x" * 46 + b"; research use, not for diagnosis"  # cut, but not the notice
    assert len(told) == 79


def test_labels_of_a_four_axis_scan_have_three(tmp_path: Path) -> None:
    scan = read_volume(save(tmp_path / "scan.nii.gz", voxels((6, 7, 8, 4))), volume=2)
    write_label_map(tmp_path / "out.nii.gz", labels_like(scan), scan)
    assert nib.load(tmp_path / "out.nii.gz").shape == (6, 7, 8)


def test_scan_without_header_gets_scanner_codes(tmp_path: Path) -> None:
    scan = volume_from_array(voxels(), AFFINE)
    write_label_map(tmp_path / "out.nii.gz", labels_like(scan), scan)
    header = nib.load(tmp_path / "out.nii.gz").header
    assert (header["qform_code"], header["sform_code"]) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    assert np.allclose(header.get_sform(), AFFINE, atol=1e-5)


def test_header_of_another_format(tmp_path: Path) -> None:
    scan = volume_from_nibabel(nib.MGHImage(voxels(), AFFINE))
    write_label_map(tmp_path / "out.nii.gz", labels_like(scan), scan)
    assert np.allclose(nib.load(tmp_path / "out.nii.gz").affine, AFFINE, atol=1e-5)


def test_header_of_a_pair_keeps_its_place(tmp_path: Path) -> None:
    image = nib.Nifti1Pair(voxels(), AFFINE)
    image.set_sform(AFFINE, 4)
    image.set_qform(AFFINE, 3)
    nib.save(image, tmp_path / "scan.img")
    scan = volume_from_nibabel(nib.load(tmp_path / "scan.img"))
    write_label_map(tmp_path / "out.nii", labels_like(scan), scan)
    header = nib.load(tmp_path / "out.nii").header
    assert (header["qform_code"], header["sform_code"]) == (3, 4)
    assert np.array_equal(nib.load(tmp_path / "out.nii").affine, scan.affine)


def test_the_affine_wins_over_a_header_that_disagrees(tmp_path: Path) -> None:
    read = read_volume(save(tmp_path / "scan.nii", voxels()))
    moved = AFFINE + np.array([[0, 0, 0, 5.0]] + [[0] * 4] * 3)
    scan = Volume(read.data, moved, "x", read.header)
    write_label_map(tmp_path / "out.nii", labels_like(scan), scan)
    assert np.allclose(nib.load(tmp_path / "out.nii").affine, moved, atol=1e-5)


def test_same_data_same_bytes(tmp_path: Path) -> None:
    scan = volume_from_array(voxels(), AFFINE)
    labels = labels_like(scan)
    write_label_map(tmp_path / "a.nii.gz", labels, scan)
    write_label_map(tmp_path / "other_name.nii.gz", labels, scan)
    fortran = LabelMap(np.asfortranarray(labels.data), AFFINE)
    write_label_map(tmp_path / "c.nii.gz", fortran, scan)
    hashes = {hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.iterdir()}
    assert len(hashes) == 1
    # no time and no name in the gzip header
    assert (tmp_path / "a.nii.gz").read_bytes()[3:8] == bytes(5)


def test_results_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    scan = volume_from_array(voxels(), AFFINE)
    with pytest.raises(ScanError, match=r"\(3, 3, 3\) does not fit the scan of shape \(6, 7, 8\)"):
        write_label_map(tmp_path / "a.nii", LabelMap(np.zeros((3, 3, 3), int), AFFINE), scan)
    with pytest.raises(ScanError, match="does not fit"):
        write_map(tmp_path / "a.nii", np.zeros((6, 7)), scan, description="")
    with pytest.raises(ScanError, match="32 bits"):
        write_label_map(tmp_path / "a.nii", LabelMap(np.full(scan.shape, 2**40), AFFINE), scan)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place(tmp_path: Path) -> None:
    scan = volume_from_array(voxels(), AFFINE)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        write_label_map(tmp_path / "file" / "a.nii.gz", labels_like(scan), scan)


@pytest.mark.parametrize(
    ("path", "name"),
    [("a.nii", "a"), ("/x/a.b.nii.gz", "a.b"), ("a.NII", "a"), ("a.gz", "a"), (".nii", ".nii")],
)
def test_scan_names(path: str, name: str) -> None:
    assert scan_name(path) == name


# real data


def test_real_scans_pass_and_real_labels_are_refused(data_folder: Path) -> None:
    scans = [
        *data_folder.glob("scans/c*_t1*"),
        *sorted(data_folder.glob("hippocampus/images*/*.nii.gz"))[::40],
        *sorted(data_folder.glob("ibsr18/IBSR_??.nii.gz"))[5:7],
        *sorted(data_folder.glob("malc2012/*_SS.nii.gz"))[:1],
    ]
    labels = [
        *sorted(data_folder.glob("label_maps/*.nii.gz"))[:1],
        *sorted(data_folder.glob("hippocampus/labels*/*.nii.gz"))[::40],
        *sorted(data_folder.glob("ibsr18/IBSR_??_seg.nii.gz"))[:2],
        *sorted(data_folder.glob("malc2012/*_glm.nii.gz"))[:1],
        *sorted(data_folder.glob("open_ms/*/lesions.nii.gz")),
    ]
    if not scans or not labels:
        pytest.skip("real data: the folder has neither scans nor label maps that this test knows")
    for path in scans:
        assert np.allclose(read_volume(path).affine, nib.load(path).affine), path
    for path in labels:
        with pytest.raises(ScanError, match="label map, not a scan"):
            read_volume(path)
        assert read_label_map(path).data.max() > 0
