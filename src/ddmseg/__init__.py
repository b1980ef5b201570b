"""Brain MRI segmentation with a discrepancy-based diffusion model.

They are loaded when first used, so that ``import ddmseg`` stays light.

Public names:
    Segmenter: loads a model; call it on a scan to get a ``Segmentation``.
    Segmentation: labels, maps, volumes and verdict of one scan; ``save``, ``plot``.
    errors: every exception raised on purpose.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddmseg import errors as errors
    from ddmseg.interactive import Segmentation as Segmentation
    from ddmseg.interactive import Segmenter as Segmenter

__version__ = "0.1.0"

# OpenMP reads these once, when torch is loaded. A thread that waits for another would keep its
# processor busy meanwhile: beside other work the other then waits for a processor, and a scan
# takes many times as long. The few turns left are some 40 microseconds, what waking costs.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="1000")

if sys.platform == "darwin":  # read once too: what Apple's GPU cannot do, the CPU does
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

__all__ = ["Segmentation", "Segmenter", "__version__", "errors"]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("ddmseg.errors")
    if name in ("Segmentation", "Segmenter"):
        return getattr(importlib.import_module("ddmseg.interactive"), name)
    from ddmseg.errors import did_you_mean

    raise AttributeError(f"module 'ddmseg' has no name '{name}'{did_you_mean(name, __all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
