"""The chain of the log: what holds, what breaks it, and two writers at once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ddmseg.errors import MissingExtraError, OutputError, ScanError
from ddmseg.review.log import LOG, ReviewLog
from ddmseg.review.seal import FIRST

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def a_log(folder: Path, entries: int = 3) -> ReviewLog:
    log = ReviewLog(folder, clock=lambda: NOON)
    for place in range(entries):
        with log.locked():
            log.append({"scan": f"scan-{place}", "action": "accept"})
    return log


def lines(folder: Path) -> list[bytes]:
    return (folder / LOG).read_bytes().splitlines()


def test_each_line_has_the_hash_of_the_one_before(tmp_path: Path) -> None:
    a_log(tmp_path)
    previous = FIRST
    for number, line in enumerate(lines(tmp_path), start=1):
        entry = json.loads(line)
        assert (entry["entry"], entry["previous_sha256"]) == (number, previous)
        assert entry["time"] == "2026-01-02T12:00:00+00:00"
        previous = hashlib.sha256(line).hexdigest()
    found = ReviewLog(tmp_path).verify()
    assert (found.entries, found.last_sha256, found.problem) == (3, previous, "")


def test_the_first_line_alone_says_what_results_are_for(tmp_path: Path) -> None:
    a_log(tmp_path)
    first, *others = map(json.loads, lines(tmp_path))
    assert first["notice"] == "research use, not for diagnosis"
    assert not any("notice" in entry for entry in others)


def test_a_log_that_was_begun_without_the_notice_holds_and_goes_on(tmp_path: Path) -> None:
    log = ReviewLog(tmp_path)
    old = {"entry": 1, "time": "2026-01-02T12:00:00+00:00", "scan": "scan-0", "action": "accept"}
    log.path.write_text(json.dumps({**old, "previous_sha256": FIRST}) + "\n")
    assert log.verify().problem == ""
    with log.locked():
        assert "notice" not in log.append({"scan": "scan-1"})
    assert (log.verify().entries, log.verify().problem) == (2, "")


def test_no_log_is_an_empty_one(tmp_path: Path) -> None:
    log = ReviewLog(tmp_path)
    assert log.entries() == []
    assert (log.verify().entries, log.verify().problem) == (0, "")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda rows: [rows[0].replace(b"scan-0", b"scan-9"), *rows[1:]], "line 2: its previous"),
        (lambda rows: [rows[0], rows[2]], "line 2: its previous"),
        (lambda rows: rows[1:], "line 1: its previous_sha256 is not that of an empty log"),
        (lambda rows: [rows[0], rows[2], rows[1]], "line 2: its previous"),
        (lambda rows: [rows[0], b"{", rows[2]], "line 2: no JSON;"),
        (lambda rows: [rows[0], b"7", rows[2]], "line 2: no JSON object"),
        (lambda rows: [rows[0].replace(b'"entry":1', b'"entry":5')], "line 1: its entry says 5"),
        (lambda rows: [b"", *rows], "line 1: no JSON;"),
    ],
)
def test_the_first_broken_line_is_named(tmp_path: Path, spoil, problem: str) -> None:
    log = a_log(tmp_path)
    log.path.write_bytes(b"\n".join(spoil(lines(tmp_path))) + b"\n")
    assert log.verify().problem.startswith(problem)


def test_a_line_that_was_cut_off_is_named_and_nothing_is_added_to_it(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    log.path.write_bytes(log.path.read_bytes()[:-20])
    assert log.verify().problem.startswith("line 3: cut off")
    with log.locked(), pytest.raises(OutputError, match="the last line is cut off"):
        log.append({})
    assert len(log.entries()) == 2


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch) -> None:
    log = a_log(tmp_path)
    before = log.path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with log.locked(), pytest.raises(OutputError, match=r"No space left.*nothing was decided"):
        log.append({"scan": "x"})
    assert log.path.read_bytes() == before
    assert log.verify().problem == ""


def test_many_threads_lose_no_entry(tmp_path: Path) -> None:
    def write(name: int) -> None:
        log = ReviewLog(tmp_path)
        for _ in range(3):
            with log.locked():
                log.append({"scan": str(name)})

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = ReviewLog(tmp_path).verify()
    assert (found.entries, found.problem) == (12, "")


def test_two_programs_lose_no_entry(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ddmseg.review.log import ReviewLog\n"
        "log = ReviewLog(Path(sys.argv[1]))\n"
        "for _ in range(5):\n"
        "    with log.locked():\n"
        "        log.append({'scan': sys.argv[2]})\n"
    )
    source = Path(sys.modules["ddmseg"].__file__ or "").parent.parent
    environment = {**os.environ, "PYTHONPATH": str(source)}
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name], env=environment)
        for name in "ab"
    ]
    assert [process.wait() for process in running] == [0, 0]
    found = ReviewLog(tmp_path).verify()
    assert (found.entries, found.problem) == (10, "")


def test_a_lock_that_is_never_let_go_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("ddmseg.review.log.LOCK_SECONDS", 0.05)
    with (
        ReviewLog(tmp_path).locked(),
        pytest.raises(OutputError, match="another program holds the log"),
        ReviewLog(tmp_path).locked(),
    ):
        pass


def test_without_filelock_the_extra_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "filelock", None)
    with (
        pytest.raises(MissingExtraError, match=r"of the extra 'review'"),
        ReviewLog(tmp_path).locked(),
    ):
        pass


def test_a_log_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / LOG).mkdir()
    with pytest.raises(ScanError, match="cannot be read"):
        ReviewLog(tmp_path).verify()
