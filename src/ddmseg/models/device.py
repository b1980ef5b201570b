"""Where to compute."""

from __future__ import annotations

import time

import torch

from ddmseg.errors import UsageError, did_you_mean


def find_device(name: str) -> torch.device:
    """Return the device called ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UsageError: for another name, or when there is no CUDA device.
    """
    allowed = ("auto", "cpu", "cuda")
    if name not in allowed:
        raise UsageError(
            f"device: got '{name}'; allowed are {', '.join(allowed)}{did_you_mean(name, allowed)}"
        )
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device: no CUDA device is here; use cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def working_seconds(*, on_gpu: bool = False) -> float:
    """Return a clock that only moves while this process works.

    On a CPU the processor seconds of all its threads: with one thread that is what an
    idle machine would have taken. With a GPU the wall's seconds: the process waits for it.
    """
    return time.monotonic() if on_gpu else time.process_time()
