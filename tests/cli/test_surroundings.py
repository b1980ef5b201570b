"""Odd surroundings: streams that are closed, full or gone, names, locales, no home, no room."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ddmseg import messages
from ddmseg.cli.progress import progress_bar
from ddmseg.errors import printable
from ddmseg.inference.cache import CACHE_VARIABLE
from ddmseg.messages import say, show
from ddmseg.outputs.staging import try_claim
from toy_head import PROMISED, write_head


class Full(io.StringIO):
    """A disk without room behind a stream."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


class Gone(Full):
    """A terminal that was closed."""

    def isatty(self) -> bool:
        return True


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


def ascii_only() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


STREAMS = {"full": Full, "gone": Gone, "closed": closed, "none": lambda: None, "ascii": ascii_only}


@pytest.mark.parametrize("name", STREAMS)
def test_saying_something_never_raises(monkeypatch, name) -> None:
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, STREAMS[name]())
    assert show("M\N{LATIN SMALL LETTER U WITH DIAERESIS}ller \udcfc") == (name == "ascii")
    say("a line")
    messages.say_error(RuntimeError("what"), debug=True)
    with progress_bar(2) as bar:
        bar.update(1, "one")
        bar.update(2, "two")


def test_a_name_is_one_line_without_commands_for_the_terminal() -> None:
    assert printable("a\n\x1b[31m\udcfc\N{GREEK SMALL LETTER ALPHA}\u202e") == (
        "a\\n\\x1b[31m\\xfc\N{GREEK SMALL LETTER ALPHA}\\u202e"
    )


@pytest.mark.parametrize("name", ["full", "gone"])
def test_a_batch_goes_on_when_its_lines_cannot_be_written(
    tiny_model, tmp_path, monkeypatch, capsys, name
) -> None:
    from ddmseg.cli.main import main

    for number in range(3):
        write_head(tmp_path / "in" / f"s{number}.nii.gz", seed=number)
    monkeypatch.setattr(sys, "stdout", STREAMS[name]())
    words = ["segment", tmp_path / "in", "-o", tmp_path / "out", "--model", tiny_model]
    assert main([*map(str, words), "--mode", "fast"]) == 1
    assert len([*(tmp_path / "out").iterdir()]) == 3 * len(PROMISED)
    assert "stdout cannot be written: lines of results are missing" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="other disks refuse such names")
def test_names_that_are_not_utf8_or_not_printable_are_done_like_any_other(
    segment, tmp_path
) -> None:
    names = ["M\udcfcller", "line\nend", "\x1b[31mred", "\N{BRAIN}", "a\tb", "plain"]
    for name in names:
        write_head(tmp_path / "in" / "one.nii.gz").rename(tmp_path / "in" / f"{name}.nii.gz")
    outcome = segment(tmp_path / "in", "-o", tmp_path / "out", "--mode", "fast")
    assert (outcome.code, outcome.errors) == (0, [])
    assert len(outcome.out.splitlines()) == len(names)
    assert "M\\xfcller_report.html" in outcome.out
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {f"{name}{suffix}" for name in names for suffix in PROMISED}
    for path in (tmp_path / "out").glob("*.json"):
        path.read_bytes().decode("utf-8")
    again = segment(tmp_path / "in", "-o", tmp_path / "out", "--mode", "fast")
    assert (again.code, again.out) == (0, "")
    assert f"{len(names)} of {len(names)} done already" in again.err


def test_what_another_process_works_on_comes_last_and_is_waited_for(segment, tmp_path) -> None:
    for name in ("a", "b"):
        write_head(tmp_path / "in" / f"{name}.nii.gz")
    claim = try_claim(tmp_path / "out", "a")
    assert claim is not None
    ending = threading.Timer(0.5, claim.release)
    ending.start()
    outcome = segment(tmp_path / "in", "-o", tmp_path / "out", "--mode", "fast")
    ending.join()
    assert (outcome.code, outcome.errors) == (0, [])
    assert len([*(tmp_path / "out").iterdir()]) == 2 * len(PROMISED)
    ends = [line.rpartition("/")[2] for line in outcome.out.splitlines()]
    assert sorted(ends) == ["a_report.html", "b_report.html"]


def test_that_features_are_kept_is_said_once_unless_it_was_asked_for(
    segment, tmp_path, monkeypatch
) -> None:
    scan = write_head(tmp_path / "scan.nii.gz")
    asked = segment(scan, "-o", tmp_path / "0", "--mode", "fast")
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    told = [segment(scan, "-o", tmp_path / n, "--mode", "fast").err for n in ("1", "2")]
    said = f"features are kept in {tmp_path / 'home' / 'ddmseg' / 'features'} for the next run"
    assert [said in err for err in (asked.err, *told)] == [False, True, False]
    assert "at most 500 MB (DDMSEG_CACHE_MB), the oldest go first" in told[0]


def test_a_limit_of_the_cache_that_is_none_is_refused_before_anything(
    segment, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("DDMSEG_CACHE_MB", "2 GB")
    outcome = segment(tmp_path / "no.nii.gz", "-o", tmp_path / "out")
    assert outcome.code == 2
    (error,) = outcome.errors
    assert "DDMSEG_CACHE_MB: got '2 GB'; give megabytes" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="closes streams as POSIX does")
def test_with_nothing_around_it_the_command_still_works(tiny_model, tmp_path) -> None:
    """No home, no streams, no locale, no folder for temporary files."""
    scan = write_head(tmp_path / "scan.nii.gz")
    words = ["segment", scan, "-o", tmp_path / "out", "--model", tiny_model, "--mode", "fast"]
    done = subprocess.run(
        [sys.executable, "-m", "ddmseg", *map(str, words)],
        env={
            "PYTHONPATH": os.pathsep.join(sys.path),
            "LC_ALL": "C",
            "PYTHONCOERCECLOCALE": "0",
            "PYTHONUTF8": "0",
            "TMPDIR": "/proc",
        },
        preexec_fn=lambda: os.closerange(0, 3),
    )
    assert done.returncode == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        f"scan{suffix}" for suffix in PROMISED
    )


def test_streams_that_are_closed_are_not_taken_for_files(tmp_path) -> None:
    program = (
        "from ddmseg.messages import open_streams\n"
        "open_streams()\n"
        f"print(open({str(tmp_path / 'file')!r}, 'w').fileno() > 2, "
        f"file=open({str(tmp_path / 'told')!r}, 'w'))\n"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: os.closerange(0, 3),
        check=True,
    )
    assert Path(tmp_path / "told").read_text() == "True\n"
