"""Progress: forwards only, without names, a bar on terminals and lines elsewhere."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.cli import progress
from ddmseg.cli.progress import STAGE_SHARES, LineBar, ScanProgress, progress_bar


class Recorder:
    """A bar that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str]] = []

    def update(self, done: float, text: str) -> None:
        self.seen.append((done, text))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_shares_are_the_whole() -> None:
    assert sum(STAGE_SHARES.values()) == pytest.approx(1.0)


def test_stages_fill_the_scan_in_order() -> None:
    bar = Recorder()
    shown = ScanProgress(bar, 2)
    first = shown.begin(1)
    for stage in STAGE_SHARES:
        first(stage, 0.0)
        first(stage, 1.0)
    shown.end(1)
    shown.begin(2)
    dones = [done for done, _ in bar.seen]
    assert dones == sorted(dones)
    assert dones[-2] == pytest.approx(1.0)
    assert dones[-1] == 1.0
    assert bar.seen[-1][1] == "scan 2 of 2: read"
    assert (pytest.approx(0.75), "scan 1 of 2: denoise") in bar.seen


def test_scans_in_work_at_a_time_share_the_bar() -> None:
    bar = Recorder()
    shown = ScanProgress(bar, 3)
    first, second = shown.begin(1), shown.begin(2)
    second("encode", 0.0)
    first("denoise", 0.0)
    assert bar.seen[-2:] == [
        (pytest.approx(0.1), "scan 2 of 3: encode"),
        (pytest.approx(0.5), "scan 1 of 3: denoise"),
    ]
    shown.end(1)
    shown.end(2)  # it failed: what it had still to do is done with, too
    shown.begin(3)
    assert bar.seen[-1] == (2.0, "scan 3 of 3: read")


@given(
    st.lists(
        st.tuples(
            st.integers(1, 3), st.sampled_from([*STAGE_SHARES, "unheard of"]), st.floats(-1, 2)
        ),
        max_size=30,
    )
)
def test_it_never_goes_backwards_nor_beyond_the_scans(steps) -> None:
    bar = Recorder()
    shown = ScanProgress(bar, 3)
    tell = {number: shown.begin(number) for number in (1, 2, 3)}
    for number, stage, fraction in steps:
        tell[number](stage, fraction)
    dones = [done for done, _ in bar.seen]
    assert dones == sorted(dones)
    assert 0 <= dones[-1] <= 3 + 1e-9


def test_elsewhere_than_on_a_terminal_there_are_few_plain_lines(capsys, monkeypatch) -> None:
    clock = iter([0.0, *(0.0, 10.0, 20.0, 30.0, 60.0, 61.0, 100.0)])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress_bar(10) as bar:
        for done in (0, 1, 2, 3, 6, 7, 10):
            bar.update(done, f"step {done}")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "step 0",
        "step 3, about 1 min left",
        "step 6, about 40 s left",
        "step 10",
    ]


def test_the_time_left_counts_from_where_a_resumed_run_began(capsys, monkeypatch) -> None:
    clock = iter([0.0, 50.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    LineBar(100, start=90).update(95, "step 95")
    assert capsys.readouterr().err == "step 95, about 50 s left\n"


def test_a_terminal_gets_a_bar_with_stage_and_time_left(monkeypatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress_bar(2) as bar:
        ScanProgress(bar, 2).begin(1)
        bar.update(1.0, "scan [1] of 2: encode")
    shown = terminal.getvalue()
    assert "scan [1] of 2: encode" in shown  # brackets are text, not markup
    assert "50%" in shown
    assert "left" in shown


def test_results_that_go_to_a_file_are_not_caught_for_the_terminal(monkeypatch) -> None:
    terminal, file = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", file)
    with progress_bar(1):
        print("the result")
    assert file.getvalue() == "the result\n"
    assert "the result" not in terminal.getvalue()
