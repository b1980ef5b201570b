"""Double precision where a sum needs it, on devices that have none."""

from __future__ import annotations

from torch import Tensor


def on_apple_gpu(x: Tensor) -> bool:
    """Say whether x lies on Apple's GPU."""
    return x.device.type == "mps"


def double(x: Tensor) -> Tensor:
    """Return x in float64, on its device or, where that is Apple's GPU, on the CPU.

    Apple's GPU has no float64. It shares its memory with the CPU, so a copy is cheap.
    """
    return (x.cpu() if on_apple_gpu(x) else x).double()
