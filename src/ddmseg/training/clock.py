"""Seconds of work, so that a busy machine does not make a network look slow."""

from __future__ import annotations

import time


def working_seconds(*, on_gpu: bool = False) -> float:
    """Return a clock that only moves while this process works.

    On a CPU the processor seconds of all its threads: with one thread that is what an
    idle machine would have taken. With a GPU the wall's seconds: the process waits for it.
    """
    return time.monotonic() if on_gpu else time.process_time()
