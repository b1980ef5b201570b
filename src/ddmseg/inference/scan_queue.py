"""A bounded assembly line: each stage works on another item at the same time.

Threads do, because reading, preparing, encoding, denoising, restoring and writing all
spend their time in zlib, numpy and torch, which let go of Python's lock. Every stage takes
the items in order, so that results come in order, too. The last stage runs in the
caller's own thread: Ctrl-C then interrupts it in the midst and it cleans up behind itself,
as it would without threads.
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
    """What became of one item: what the last stage returned, or the error of any stage."""

    item: Item
    result: Any = None
    error: Exception | None = None


@dataclass(frozen=True)
class _Piece(Generic[Item]):
    """An item on its way, with what the stages so far made of it."""

    item: Item
    value: Any
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
        items: what to work on; none gives nothing.
        stages: at least 1.
        in_flight: items begun whose outcome was not yet asked to be followed, at least 1;
            1 takes one item after the other.
        stopping: is set when the iterator ends, for whatever reason, so that a long stage
            can look at it and give up.

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
        belt: SimpleQueue[_Piece[Item] | None] = SimpleQueue()
        workers.append(threading.Thread(target=_work, args=(pieces, stage, belt, stop)))
        pieces = iter(belt.get, None)
    return _outcomes(pieces, last, workers, room, stop)


def _outcomes(
    pieces: Iterator[_Piece[Item]],
    last: Stage,
    workers: Sequence[threading.Thread],
    room: threading.Semaphore,
    stop: threading.Event,
) -> Generator[Outcome[Item], None, None]:
    try:
        for worker in workers:
            worker.start()
        # no variable keeps a piece while the next one is waited for: it may hold a gigabyte
        for outcome in map(_Finish(last), pieces):
            yield outcome
            room.release()
    finally:
        stop.set()
        room.release()  # whoever waits for room sees that there is no more to do
        for worker in workers:
            if worker.ident is not None:  # was there a thread to be had for it?
                worker.join()


@dataclass(frozen=True)
class _Finish:
    """The last stage, in the caller's thread."""

    stage: Stage

    def __call__(self, piece: _Piece[Item]) -> Outcome[Item]:
        done = _advanced(piece, self.stage, caught=Exception)
        if isinstance(done.error, WorkerError) or not isinstance(done.error, Exception | None):
            raise done.error
        return Outcome(done.item, None if done.error else done.value, done.error)


def _taken(
    items: Sequence[Item], room: threading.Semaphore, stop: threading.Event
) -> Iterator[_Piece[Item]]:
    """Yield an item whenever there is room for one."""
    for item in items:
        room.acquire()
        if stop.is_set():
            return
        yield _Piece(item, item)


def _work(
    pieces: Iterator[_Piece[Any]],
    stage: Stage,
    belt: SimpleQueue[_Piece[Any] | None],
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
        belt.put(_Piece(None, None, ended))
    finally:
        belt.put(None)


def _advanced(piece: _Piece[Item], stage: Stage, *, caught: type[BaseException]) -> _Piece[Item]:
    if piece.error is not None:
        return piece
    try:
        return replace(piece, value=stage(piece.value))
    except caught as error:
        return replace(piece, value=None, error=error)
