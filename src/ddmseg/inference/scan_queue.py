"""A bounded assembly line: each stage works on another item at the same time.

Threads do, because all stages spend their time in zlib, numpy and torch, which let go of
Python's lock. Every stage takes the items in order, so that results come in order, too. The last
stage runs in the caller's own thread: Ctrl-C then interrupts it in the midst and it cleans up
behind itself, as it would without threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from ddmseg.errors import SettingsError

IN_FLIGHT = 2
"""Items begun and not yet finished, at most, unless said otherwise: while one is with the
network, the one before it is written and then the one after it read."""

Item = TypeVar("Item")
Stage = Callable[[Any], Any]
"""Takes what the stage before it returned; the first takes the item."""


@dataclass(frozen=True)
class Outcome(Generic[Item]):
    """What became of one item so far: what the last stage returned, or the error of any stage."""

    item: Item
    result: Any = None
    error: BaseException | None = None


class WorkerError(Exception):
    """The thread of a stage ended for a reason that no item is to blame for."""


def overlapped(
    items: Sequence[Item],
    stages: Sequence[Stage],
    *,
    in_flight: int = IN_FLIGHT,
    stopping: threading.Event | None = None,
) -> Generator[Outcome[Item], None, None]:
    """Take every item through all stages; yield what became of each, in order.

    An item that fails skips its further stages and holds up nobody. Close the iterator
    (``contextlib.closing``) when leaving it early: that waits for the stages at work.

    Args:
        stages: at least 1.
        in_flight: items begun whose outcome was not yet asked to be followed, at least 1.
        stopping: is set when the iterator ends, so that a long stage can give up.

    Raises:
        SettingsError: when ``in_flight`` is below 1.
        WorkerError: when the thread of a stage ended: nothing more would ever come.
        BaseException: what is no Exception, such as KeyboardInterrupt, from any stage.
    """
    if in_flight < 1:
        raise SettingsError(f"in_flight: got {in_flight}; it must be at least 1")
    stop = stopping or threading.Event()
    room = threading.Semaphore(in_flight)
    *early, last = stages
    pieces = _taken(items, room, stop)
    workers = []
    for stage in early:
        belt: SimpleQueue[Outcome[Item] | None] = SimpleQueue()
        workers.append(threading.Thread(target=_work, args=(pieces, stage, belt, stop)))
        pieces = iter(belt.get, None)

    def finish(piece: Outcome[Item]) -> Outcome[Item]:
        done = _advanced(piece, last, caught=Exception)
        if isinstance(done.error, WorkerError) or not isinstance(done.error, Exception | None):
            raise done.error
        return done

    def outcomes() -> Generator[Outcome[Item], None, None]:
        try:
            for worker in workers:
                worker.start()
            # no variable keeps a piece while the next one is waited for: it may hold a gigabyte
            for outcome in map(finish, pieces):
                yield outcome
                room.release()
        finally:
            stop.set()
            room.release()  # whoever waits for room sees that there is no more to do
            for worker in workers:
                if worker.ident is not None:  # was there a thread to be had for it?
                    worker.join()

    return outcomes()


def _taken(
    items: Sequence[Item], room: threading.Semaphore, stop: threading.Event
) -> Iterator[Outcome[Item]]:
    """Yield an item whenever there is room for one."""
    for item in items:
        room.acquire()
        if stop.is_set():
            return
        yield Outcome(item, item)


def _work(
    pieces: Iterator[Outcome[Any]],
    stage: Stage,
    belt: SimpleQueue[Outcome[Any] | None],
    stop: threading.Event,
) -> None:
    """What the thread of one stage does, until no piece comes any more.

    Whatever ends it is passed on: whoever waits for its pieces would wait for ever.
    """
    try:
        for piece in pieces:
            if not stop.is_set():
                belt.put(_advanced(piece, stage, caught=BaseException))
            del piece
    except BaseException as error:
        ended = WorkerError(f"a worker ended ({type(error).__name__}: {error})")
        ended.__cause__ = error
        belt.put(Outcome(None, None, ended))
    finally:
        belt.put(None)


def _advanced(piece: Outcome[Item], stage: Stage, *, caught: type[BaseException]) -> Outcome[Item]:
    if piece.error is not None:
        return piece
    try:
        return replace(piece, result=stage(piece.result))
    except caught as error:
        return replace(piece, result=None, error=error)
