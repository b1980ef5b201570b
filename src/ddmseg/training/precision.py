"""Which precision a training computes in: what this machine is faster at.

Half precision on a processor with matrix tiles is several times as fast as single precision, and
many times slower on one without instructions for it. So nothing is assumed: one convolution is
timed each way when a training starts.
"""

from __future__ import annotations

import time
from typing import Literal

import torch
from torch import nn

Precision = Literal["single", "half"]

PATIENCE_S = 1.0
"""After a try this long the other precision will be faster."""
FAR_SLOWER = 3.0
"""Times the other precision's seconds, from which on a resumed training changes over."""
CHANNELS, SIDE, REPEATS = 32, 32, 5
"""Of the convolution that is timed: about what a training spends its time on."""


def find_precision(
    wanted: Literal["auto", "single", "half"],
    device: torch.device,
    *,
    before: Precision | None = None,
) -> Precision:
    """Return the precision to train in.

    Args:
        wanted: ``auto`` times both on a processor, and takes half precision on a GPU.
        before: of the state that ``auto`` goes on from. It is kept, so that a resumed run
            ends where an uninterrupted one would, unless this machine is far slower at it.
    """
    if wanted != "auto":
        return wanted
    if device.type != "cpu":
        return before or "half"
    single, half = convolution_seconds(half=False), convolution_seconds(half=True)
    if before is not None:
        kept, other = (half, single) if before == "half" else (single, half)
        if kept < FAR_SLOWER * other:
            return before
    return "half" if half < single else "single"


def convolution_seconds(*, half: bool) -> float:
    """Return what a convolution with its gradient takes on the processor, the best of a few.

    ``half`` is in bfloat16.
    """
    layer = nn.Conv3d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
    layer = layer.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    x = torch.ones(1, CHANNELS, SIDE, SIDE, SIDE)
    x = x.to(memory_format=torch.channels_last_3d).requires_grad_()
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            y = layer(x)
        y.sum().backward()
        best = min(best, time.perf_counter() - start)
        if best > PATIENCE_S:
            break
    return best
