"""What many small files cost together is bounded by what they take on the disk."""

from __future__ import annotations

import copy
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from ddmseg.errors import ScanError
from ddmseg.imaging.dicom import bounds as effort
from ddmseg.imaging.dicom import pixels, series
from ddmseg.imaging.dicom.bounds import ALWAYS_ALLOWED, BYTES_OF_EACH, Effort
from ddmseg.imaging.dicom.header import Header, read_header
from ddmseg.imaging.dicom.series import list_series, read_series
from dicom_files import affine_of, assert_same_world, enhanced_dataset, scan, slice_datasets

AFFINE = affine_of(np.eye(3))
TOLD = "more files, frames or elements than a scan of its size has, and they would take too long"


def raw(dataset: FileDataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def packed(path: Path, members: list[bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, member in enumerate(members):
            archive.writestr(f"{number}", member)
    return path


def slices(count: int, size: int = 4) -> list[bytes]:
    shape = (size, size, count)
    return [raw(one) for one in slice_datasets(Path("x"), scan(shape), AFFINE)]


def copied() -> list[bytes]:
    return slices(1) * 300


def elements() -> list[bytes]:
    (dataset,) = slice_datasets(Path("x"), scan((4, 4, 1)), AFFINE)
    for number in range(3000):
        dataset.add_new((0x0009, 0x1000 + number), "OB", b"")
    return [raw(dataset)] * 20


def frames() -> list[bytes]:
    return [raw(enhanced_dataset(Path("x/a.dcm"), scan((2, 2, 70)), AFFINE))] * 20


BOMBS: dict[str, Callable[[], list[bytes]]] = {
    "copies of an image": copied,
    "files of elements": elements,
    "files of frames": frames,
    "empty files": lambda: [b""] * 2000,
}


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The headers that were read."""
    seen: list[Path] = []

    def counted(path: Path, **options: object) -> Header | None:
        seen.append(path)
        return read_header(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(series, "read_header", counted)
    return seen


@pytest.fixture
def tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything at a tenth of its scale, for quick tests."""
    monkeypatch.setattr(effort, "ALWAYS_ALLOWED", ALWAYS_ALLOWED // 10)


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.usefixtures("tenth")
def test_many_small_files_in_an_archive_are_refused_early(
    tmp_path: Path, looked_at: list[Path], bomb: str
) -> None:
    path = packed(tmp_path / "a.zip", BOMBS[bomb]())
    with pytest.raises(ScanError) as caught:
        list_series(path)
    assert str(caught.value).startswith(f"{path}: {TOLD}")
    assert len(looked_at) < 120


@pytest.mark.usefixtures("tenth")
def test_so_are_those_of_a_folder(tmp_path: Path, looked_at: list[Path]) -> None:
    for number, member in enumerate(copied()):
        (tmp_path / f"{number}").write_bytes(member)
    with pytest.raises(ScanError, match=TOLD):
        list_series(tmp_path)
    assert len(looked_at) < 150


def test_members_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("1", slices(1)[0])
        for number in range(20):
            archive.filelist.append(copy.copy(archive.filelist[0]))
            archive.filelist[-1].filename = f"{number}"
    with pytest.raises(ScanError, match="its files share their bytes; the archive is damaged or"):
        list_series(path)


@pytest.mark.usefixtures("tenth")
def test_an_examination_of_many_images_is_read(tmp_path: Path) -> None:
    """Zipped slices of 64 x 64 pixels: they pay for themselves, however many there are."""
    path = packed(tmp_path / "a.zip", slices(120, 64))
    (one,) = list_series(path)
    assert one.shape == (64, 64, 120)


def test_a_few_copies_of_small_images_are_read(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip", slices(10) * 3)
    (one,) = list_series(path)
    assert_same_world(read_series(one), scan((4, 4, 10)), AFFINE)


def test_a_copy_is_compared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    digest = pixels.images_digest
    monkeypatch.setattr(
        pixels, "images_digest", lambda header: compared.append(header) or digest(header)
    )
    list_series(packed(tmp_path / "a.zip", slices(2) * 10))
    assert len(compared) == 20  # each file, however many there are of an image


def test_what_is_left_is_told_when_it_is_spent() -> None:
    one = Effort("EXPORT")
    one.spend(ALWAYS_ALLOWED)
    one.allow(5 * BYTES_OF_EACH)
    one.spend(5)
    with pytest.raises(ScanError) as caught:
        one.spend(1)
    assert str(caught.value) == (
        f"EXPORT: {TOLD} to read; it is damaged or hostile; give the files of one examination alone"
    )
