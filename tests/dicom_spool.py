"""Filling and emptying a spool by hand, with a clock that is told what time it is."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pydicom

from ddmseg.inference.options import SegmentOptions
from ddmseg.node.jobs import Job
from ddmseg.node.spool import Spool
from ddmseg.node.worker import Work, Worker


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Lines(list[str]):
    """Keeps the lines of a log."""

    def __call__(self, line: str) -> None:
        self.append(line)


def put(spool: Spool, path: Path) -> bool:
    """Store a file; say whether it was new."""
    content = path.read_bytes()
    uid = str(pydicom.dcmread(path).SOPInstanceUID)
    return spool.store((content,), len(content), image_uid=uid).new


def fill(spool: Spool, study: list[Path], clock: Clock) -> Job:
    """Store a study and let its quiet period pass."""
    assert all([put(spool, path) for path in study])
    clock.seconds += 10
    (job,) = spool.close_quiet(5)
    return job


def make_worker(spool: Spool, segmenter, output: Path, **changes) -> tuple[Worker, Lines]:
    """Return a worker of a spool, and what it says."""
    lines = Lines()
    work = replace(Work(segmenter, output, SegmentOptions(mode="fast")), **changes)
    return Worker(spool.queue, work, stop=threading.Event(), report=lines), lines
