"""``ddmseg review``: what it refuses, and ``--verify-log``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ddmseg.review.log import LOG, ReviewLog
from review_folder import write_results


@pytest.fixture
def folder(tmp_path: Path, make_segmentation) -> Path:
    return write_results(make_segmentation, tmp_path / "out", tmp_path / "scans", trace=False)


def add_decisions(folder: Path, count: int = 2) -> Path:
    log = ReviewLog(folder)
    for _ in range(count):
        with log.locked():
            log.append({"scan": "better", "action": "accept"})
    return log.path


def test_a_whole_log_is_told_with_its_last_hash(ddmseg, folder: Path) -> None:
    add_decisions(folder)
    outcome = ddmseg("review", folder, "--verify-log")
    last = ReviewLog(folder).verify().last_sha256
    assert outcome.code == 0
    assert outcome.out == f"{folder / LOG}: 2 entries, unbroken; the last has {last}\n"


def test_no_log_is_told(ddmseg, folder: Path) -> None:
    outcome = ddmseg("review", folder, "--verify-log")
    assert (outcome.code, outcome.out) == (0, f"{folder}: no decision has been logged yet\n")


def test_a_broken_log_is_told_with_its_line(ddmseg, folder: Path) -> None:
    path = add_decisions(folder)
    path.write_bytes(path.read_bytes().replace(b"accept", b"reject", 1))
    outcome = ddmseg("review", folder, "--verify-log")
    assert outcome.code == 1
    assert outcome.error.startswith(f"{path}: line 2: its previous_sha256 is not that of line 1")


def test_a_folder_without_results_is_refused(ddmseg, tmp_path: Path) -> None:
    outcome = ddmseg("review", tmp_path / "nowhere")
    assert outcome.code == 1
    assert "no such folder" in outcome.error
    empty = ddmseg("review", tmp_path)
    assert (empty.code, "no result here" in empty.error) == (1, True)


def test_wrong_options_are_refused(ddmseg, folder: Path, tmp_path: Path) -> None:
    outcome = ddmseg("review", folder, "--scans", tmp_path / "nowhere")
    assert outcome.code == 2
    assert outcome.error == f"scans: got {tmp_path / 'nowhere'}; there is no such folder"
    port = ddmseg("review", folder, "--port", "70000")
    assert port.code == 2
    assert port.error.startswith("port: got 70000")


def test_a_port_that_is_taken_is_told(ddmseg, folder: Path) -> None:
    from ddmseg.review.launch import _listening

    with _listening(0) as other:
        taken = other.getsockname()[1]
        assert other.getsockname()[0] == "127.0.0.1"
        outcome = ddmseg("review", folder, "--port", taken)
    assert outcome.code == 2
    assert "give a free one" in outcome.error


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "filelock"])
def test_without_the_packages_the_extra_is_named(
    ddmseg, folder: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    outcome = ddmseg("review", folder)
    assert outcome.code == 2
    assert "of the extra 'review'" in outcome.error
