"""A file appears complete or not at all, and failures are one line."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydicom.tag import BaseTag, tag_in_exception

from ddmseg import atomic
from ddmseg.atomic import atomic_write, write_bytes
from ddmseg.errors import OutputError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_appears_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "a.nii.gz"
    with atomic_write(target) as partial:
        assert partial.parent == target.parent
        assert partial.name.endswith("a.nii.gz")
        partial.write_bytes(b"half")
        assert not target.exists()
    assert target.read_bytes() == b"half"
    assert names(target.parent) == ["a.nii.gz"]


def test_replaces_an_older_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_write(str(target)) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_failure_leaves_nothing_and_keeps_the_old(tmp_path: Path, kind: type) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(kind), atomic_write(target) as partial:  # noqa: PT012
        partial.write_text("half")
        raise kind
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "read-only"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_system_errors_become_one_line(tmp_path: Path, code: int, said: str) -> None:
    target = tmp_path / "a.txt"
    with pytest.raises(OutputError, match=said) as caught, atomic_write(target) as partial:  # noqa: PT012
        partial.write_text("half")
        raise OSError(code, os.strerror(code))
    assert str(caught.value).startswith(f"cannot write {target}: ")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


@pytest.mark.parametrize("depth", [1, 2])
def test_a_library_that_raises_an_error_of_its_own_does_not_hide_the_reason(
    tmp_path: Path, depth: int
) -> None:
    target = tmp_path / "a.dcm"
    with pytest.raises(OutputError) as caught, atomic_write(target), ExitStack() as stack:  # noqa: PT012
        for _ in range(depth):  # as pydicom does for each element around the one that failed
            stack.enter_context(tag_in_exception(BaseTag(0x52009230)))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(caught.value) == (
        f"cannot write {target}: the disk is full; free some space or choose another folder"
    )


def test_the_reason_is_found_in_what_was_being_handled(tmp_path: Path) -> None:
    def write() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise OSError("With tag (5200,9230)\nTraceback")

    with (
        pytest.raises(OutputError, match="a: the disk is full; free"),
        atomic_write(tmp_path / "a"),
    ):
        write()


def test_without_a_reason_the_text_of_a_library_is_not_told(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with pytest.raises(OutputError) as caught, atomic_write(target):
        raise OSError("Traceback of Doe^Jane")
    assert str(caught.value) == (
        f"cannot write {target}: the system gave no reason; choose another folder"
    )


def test_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file" / "a.txt", tmp_path / "file" / "b" / "a.txt"):
        with pytest.raises(OutputError, match="is a file, not a folder"), atomic_write(target):
            pass


def test_target_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with (
        pytest.raises(OutputError, match="a folder of that name"),
        atomic_write(tmp_path / "a") as p,
    ):
        p.write_text("x")
    assert names(tmp_path) == ["a"]


def test_a_name_that_is_too_long_is_refused_before_the_work(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="name is too long"),
        atomic_write(tmp_path / ("a" * 300)),
    ):
        pytest.fail("the work began")


@pytest.mark.parametrize("letter", ["a", "\N{GREEK SMALL LETTER ALPHA}", "\N{BRAIN}", "\udcfc"])
def test_every_name_that_a_disk_allows_can_be_written(tmp_path: Path, letter: str) -> None:
    """The temporary name is never longer than the name itself may be."""
    stem = letter * ((255 - len(".nii.gz")) // len(os.fsencode(letter)))
    write_bytes(tmp_path / f"{stem}.nii.gz", b"x")
    assert names(tmp_path) == [f"{stem}.nii.gz"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("durable", [True, False])
def test_file_and_folder_are_on_the_disk_unless_it_may_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    synced = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    write_bytes(tmp_path / "a.txt", b"x", durable=durable)
    assert (tmp_path / "a.txt").read_bytes() == b"x"
    assert [Path(one).name.startswith(atomic.PARTIAL) for one in synced[:1]] == [True] * durable
    assert synced[1:] == [str(tmp_path)] * durable


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="no permission"), atomic_write(tmp_path / "a") as p:
        p.write_text("x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_really_full_device() -> None:
    with pytest.raises(OSError, match="No space left") as caught, open("/dev/full", "wb") as full:
        full.write(b"x" * 100000)
    assert caught.value.errno == errno.ENOSPC


def test_a_private_file_is_so_from_the_first_byte(tmp_path: Path) -> None:
    target = tmp_path / "a.dcm"
    target.write_text("old, and for everybody")
    target.chmod(0o644)
    with atomic_write(target, private=True) as partial:
        assert partial.stat().st_mode & 0o777 == 0o600
        partial.write_bytes(b"x")
    assert target.stat().st_mode & 0o777 == 0o600


def test_file_permissions_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        with atomic_write(tmp_path / "a.txt") as partial:
            partial.write_text("x")
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644
