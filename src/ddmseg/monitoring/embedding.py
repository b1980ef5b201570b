"""What the image network makes of a scan, in a few numbers: its mean features.

Two distances are made of them. That from training is recorded with each run and rests on
the model's card (``ddmseg.quality.training_range``). That from the reference window of the
store is computed anew for each report: it also knows which channels vary together at this
place, and says that scans changed wherever they were to begin with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ddmseg.monitoring.columns import FEATURE, Line


def feature_columns(features: NDArray[np.float32] | None) -> dict[str, float]:
    """Return the features as columns of one line."""
    values = [] if features is None else features.tolist()
    return {f"{FEATURE}{channel:03d}": float(value) for channel, value in enumerate(values)}


def feature_table(columns: Sequence[str], rows: Sequence[Line]) -> NDArray[np.float64]:
    """Return the features of many lines (``line channel``), NaN where a line has none."""
    names = [name for name in columns if name.startswith(FEATURE)]
    return np.array(
        [
            [value if isinstance(value := row.get(name), float) else np.nan for name in names]
            for row in rows
        ]
    ).reshape(len(rows), len(names))
