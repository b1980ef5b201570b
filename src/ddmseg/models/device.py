"""Where to compute."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, get_args

from ddmseg.errors import UsageError, did_you_mean

if TYPE_CHECKING:  # the help of the commands does not wait for torch
    import torch

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
"""What a user may ask for; ``mps`` is the GPU of a Mac."""
_GPUS = {"cuda": "CUDA device", "mps": "GPU of Apple"}


def find_device(name: str, *, setting: str = "device") -> torch.device:
    """Return the device called ``auto``, ``cpu``, ``cuda`` or ``mps``.

    ``auto`` takes a CUDA device or else the CPU: Apple's GPU is taken when it is named.
    A UsageError, which calls it ``setting``, for another name or where there is no such GPU.
    """
    import torch

    allowed = get_args(DeviceName)
    if name not in allowed:
        raise UsageError(
            f"{setting}: got '{name}'; allowed are {', '.join(allowed)}"
            f"{did_you_mean(name, allowed)}"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(name, True):
        raise UsageError(f"{setting}: no {_GPUS[name]} is here; use cpu or auto")
    return torch.device(name)


def free_gpu_bytes(device: torch.device) -> int | None:
    """Return the bytes of a GPU that are free, or held by this process without use.

    Of Apple's, which shares the memory of the CPU, what the system recommends to take at most.
    None on the CPU.
    """
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + unused)
    if device.type == "mps":
        most, used = torch.mps.recommended_max_memory(), torch.mps.current_allocated_memory()
        return max(0, int(most - used))
    return None


def working_seconds(*, on_gpu: bool = False) -> float:
    """Return a clock that only moves while this process works.

    On a CPU the processor seconds of all its threads: with one thread that is what an
    idle machine would have taken. With a GPU the wall's seconds: the process waits for it.
    """
    return time.monotonic() if on_gpu else time.process_time()
