"""The assembly line, with toy stages; what overlaps is proven by events and never by time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddmseg.errors import ScanError, SettingsError
from ddmseg.inference.scan_queue import Outcome, WorkerError, overlapped

PATIENCE_SECONDS = 20.0
"""A hang fails; nothing else depends on it."""


def plus(amount: int):
    return lambda value: value + amount


def results(outcomes) -> list[object]:
    return [outcome.result for outcome in outcomes]


@given(
    st.lists(st.integers(), max_size=8),
    st.lists(st.integers(), min_size=1, max_size=4),
    st.integers(1, 5),
)
@settings(max_examples=40)
def test_every_item_passes_all_stages_in_order(items, amounts, in_flight) -> None:
    stages = [plus(amount) for amount in amounts]
    outcomes = list(overlapped(items, stages, in_flight=in_flight))
    assert [outcome.item for outcome in outcomes] == items
    assert results(outcomes) == [item + sum(amounts) for item in items]


def test_three_items_are_in_three_stages_at_the_same_time() -> None:
    # Each stage waits for the other two: one that ran alone would wait for ever.
    together = threading.Barrier(3, timeout=PATIENCE_SECONDS)
    met: list[str] = []

    def stage(name: str, first: int):
        def work(item: int) -> int:
            if item == first:
                together.wait()
                met.append(name)
            return item

        return work

    stages = [stage("read", 2), stage("solve", 1), stage("write", 0)]
    assert results(overlapped([0, 1, 2], stages, in_flight=3)) == [0, 1, 2]
    assert sorted(met) == ["read", "solve", "write"]


def test_no_more_are_begun_than_allowed_until_an_outcome_was_taken() -> None:
    begun = [threading.Event() for _ in range(6)]

    def read(item: int) -> int:
        begun[item].set()
        return item

    with closing(overlapped(range(6), [read, plus(0)], in_flight=2)) as outcomes:
        next(outcomes)
        assert begun[1].wait(PATIENCE_SECONDS)
        # Item 0 was handed out and is still in the caller's hands, item 1 waits for it.
        assert not begun[2].wait(0.05)
        next(outcomes)
        assert begun[2].wait(PATIENCE_SECONDS)
        assert not begun[3].wait(0.05)


def test_one_at_a_time_means_one_at_a_time() -> None:
    seen: list[str] = []

    def noted(name: str):
        def work(item: int) -> int:
            seen.append(f"{name}{item}")
            return item

        return work

    list(overlapped([0, 1], [noted("read"), noted("write")], in_flight=1))
    assert seen == ["read0", "write0", "read1", "write1"]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_one_that_fails_holds_up_nobody(failing) -> None:
    error = ScanError("no scan")

    def stage(number: int):
        def work(item: int) -> int:
            if item == 1 and number == failing:
                raise error
            assert item != 1 or number < failing  # it skips the stages that follow
            return item

        return work

    outcomes = list(overlapped([0, 1, 2], [stage(n) for n in range(3)]))
    assert outcomes == [Outcome(0, 0), Outcome(1, None, error), Outcome(2, 2)]


@pytest.mark.parametrize("stage", [0, 1])
def test_ctrl_c_ends_it_from_whatever_stage(stage) -> None:
    before = set(threading.enumerate())
    done: list[int] = []

    def work(item: int) -> int:
        if item == 1:
            raise KeyboardInterrupt
        done.append(item)
        return item

    stages = [plus(0), plus(0)]
    stages[stage] = work
    with pytest.raises(KeyboardInterrupt):
        list(overlapped(range(50), stages))
    assert set(threading.enumerate()) <= before
    assert len(done) < 50


def test_leaving_early_stops_the_stages_and_waits_for_them() -> None:
    before = set(threading.enumerate())
    stopping, at_work, given_up = threading.Event(), threading.Event(), threading.Event()

    def slow(item: int) -> int:
        if item == 1:
            at_work.set()
            assert stopping.wait(PATIENCE_SECONDS)  # what a long stage looks at
            given_up.set()
        return item

    with closing(overlapped(range(9), [slow, plus(0)], stopping=stopping)) as outcomes:
        next(outcomes)
        assert at_work.wait(PATIENCE_SECONDS)
    assert given_up.is_set()
    assert set(threading.enumerate()) <= before


def test_the_last_stage_runs_in_the_callers_thread() -> None:
    stages = [lambda _: threading.current_thread(), lambda at: (at, threading.current_thread())]
    (outcome,) = overlapped([0], stages)
    reader, writer = outcome.result
    assert writer is threading.main_thread() is not reader


def test_values_are_let_go_once_the_next_stage_has_them() -> None:
    class Large:
        alive = 0

        def __init__(self, item: int) -> None:
            type(self).alive += 1

        def __del__(self) -> None:
            type(self).alive -= 1

    most = 0

    def finish(large: Large) -> None:
        nonlocal most
        most = max(most, Large.alive)

    list(overlapped(range(20), [Large, finish], in_flight=2))
    assert most <= 2
    assert Large.alive == 0


def test_nothing_to_do_gives_nothing_and_no_room_is_refused() -> None:
    assert list(overlapped([], [plus(1), plus(1)])) == []
    with pytest.raises(SettingsError, match="in_flight: got 0; it must be at least 1"):
        overlapped([1], [plus(1)], in_flight=0)


class _Ends(Sequence[int]):
    """Items that end the thread which takes them."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> int:
        if number:
            raise OSError("the list cannot be read any more")
        return number


def test_a_worker_that_ends_ends_all_of_it_loudly() -> None:
    with pytest.raises(WorkerError, match=r"a worker ended \(OSError: the list cannot be read"):
        list(overlapped(_Ends(), [plus(0), plus(0), plus(0)]))


def test_a_thread_that_cannot_be_had_leaves_nobody_waiting(monkeypatch) -> None:
    started = []
    start = threading.Thread.start

    def scarce(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        list(overlapped([0, 1], [plus(0), plus(0), plus(0)]))
    assert not started[0].is_alive()
