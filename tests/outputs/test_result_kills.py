"""A result is one thing, at whatever rename the process is killed, and whoever else writes."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ddmseg.errors import OutputError
from ddmseg.inference.options import SegmentOptions
from ddmseg.outputs import staging as staging_module
from ddmseg.outputs import write as outputs
from ddmseg.outputs.names import RECEIPT, SUFFIXES, existing_outputs
from ddmseg.outputs.staging import (
    claimed,
    move_in,
    receipt_hashes,
    settle,
    staging_place,
    try_claim,
)
from ddmseg.outputs.write import write_outputs

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes of POSIX"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
PLAIN = 10
"""Files of a plain result."""


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones and those in folders included."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def killed(work: Callable[[], object]) -> bool:
    """Do the work in a process of its own; say whether that was killed."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def kill_before(count: int, real: Callable[..., object]) -> Callable[..., object]:
    """Let ``count`` calls pass; at the next one the process is gone."""
    calls = iter(range(count))

    def called(*words: object, **named: object) -> object:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*words, **named)

    return called


@pytest.fixture
def ready(make_segmentation, tmp_path, monkeypatch) -> Callable[[bool], Path]:
    """A folder in which the new set waits for being moved in, perhaps beside an older one."""

    def make(older: bool) -> Path:
        folder = tmp_path / "ready"
        folder.mkdir()
        if older:
            wide = make_segmentation(probabilities=True)
            write_outputs(wide, folder, stem="scan", options=SegmentOptions(probabilities=True))
        with monkeypatch.context() as patched:
            patched.setattr(outputs, "move_in", lambda *_: shutil.copytree(
                staging_place(folder, "scan"), tmp_path / "kept"))  # fmt: skip
            write_outputs(make_segmentation(seed=1), folder, stem="scan", overwrite=True)
        (tmp_path / "kept").rename(staging_place(folder, "scan"))
        return folder

    return make


def is_whole(folder: Path) -> bool:
    """Whether a receipt stands; then it must tell the truth of every file."""
    hashes = receipt_hashes(folder / f"scan{RECEIPT}")
    for name, expected in hashes.items():
        assert staging_module.file_sha256(folder / name) == expected
    return bool(hashes)


@pytest.mark.parametrize(
    ("older", "renames", "kills"),
    [
        (False, PLAIN, (0, 1, PLAIN - 1, PLAIN)),
        (True, 2 * PLAIN + 1, range(2 * PLAIN + 2)),  # first the old ones go, then the new come
    ],
)
def test_a_kill_at_any_rename_leaves_a_whole_set_or_one_that_is_finished_next(
    ready, tmp_path, monkeypatch, older, renames, kills
) -> None:
    template = ready(older)
    new = contents(staging_place(template, "scan"))
    states = set()
    for count in kills:
        folder = tmp_path / f"killed {count}"
        shutil.copytree(template, folder)
        staged = [staging_place(folder, "scan") / f"scan{s}" for s in SUFFIXES]

        def move(folder: Path = folder, staged: list[Path] = staged) -> None:
            move_in([p for p in staged if p.exists()], folder, existing_outputs(folder, "scan"))

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", kill_before(count, Path.replace))
            assert killed(move) == (count < renames)
        states.add(is_whole(folder))
        settle(folder, "scan")
        assert is_whole(folder)
        assert contents(folder) == new, "the new set alone, and nothing hidden"
    assert states == {True, False}


def test_a_kill_while_it_is_finished_is_no_worse(ready, tmp_path, monkeypatch) -> None:
    folder = ready(True)
    new = contents(staging_place(folder, "scan"))
    for count in (1, 5, 12):
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", kill_before(count, Path.replace))
            killed(lambda: settle(folder, "scan"))
        is_whole(folder)
    settle(folder, "scan")
    assert contents(folder) == new


@pytest.mark.parametrize("written", [0, PLAIN - 1])
def test_a_kill_while_files_are_written_leaves_the_old_set_and_is_swept(
    make_segmentation, tmp_path, monkeypatch, written
) -> None:
    write_outputs(make_segmentation(), tmp_path, stem="scan")
    before = contents(tmp_path)
    newer = make_segmentation(seed=1)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", kill_before(written, Path.replace))
        assert killed(lambda: write_outputs(newer, tmp_path, stem="scan", overwrite=True))
    assert is_whole(tmp_path)
    assert len(contents(tmp_path)) > len(before)
    write_outputs(newer, tmp_path, stem="scan", overwrite=True)
    assert sorted(contents(tmp_path)) == sorted(before)


def test_what_is_left_damaged_is_swept_and_not_finished(ready, tmp_path) -> None:
    folder = ready(False)
    labels = staging_place(folder, "scan") / "scan_dseg.nii.gz"
    labels.write_bytes(labels.read_bytes()[:-1])
    settle(folder, "scan")
    assert contents(folder) == {}


def test_two_writers_cannot_mix(make_segmentation, tmp_path) -> None:
    with claimed(tmp_path, "scan"):
        assert try_claim(tmp_path, "scan") is None
        with pytest.raises(OutputError, match="another process is writing the results of scan"):
            write_outputs(make_segmentation(), tmp_path, stem="scan", overwrite=True)
        write_outputs(make_segmentation(), tmp_path, stem="scan2")
    assert len(contents(tmp_path)) == PLAIN
    write_outputs(make_segmentation(), tmp_path, stem="scan")


def test_a_dead_process_loses_its_claim_and_a_living_one_does_not(tmp_path) -> None:
    def claim_and_die() -> None:
        assert try_claim(tmp_path, "scan") is not None
        os.kill(os.getpid(), signal.SIGKILL)

    assert killed(claim_and_die)
    claim = try_claim(tmp_path, "scan")
    assert claim is not None
    seen = tmp_path / "seen"
    killed(lambda: seen.write_text(str(try_claim(tmp_path, "scan"))))
    assert seen.read_text() == "None"
    claim.release()
    assert [path.name for path in tmp_path.iterdir()] == ["seen"]


def test_a_claim_that_came_to_nothing_takes_its_folders_back(tmp_path) -> None:
    with claimed(tmp_path / "a" / "b", "scan"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
