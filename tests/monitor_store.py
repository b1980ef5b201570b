"""Stores of simulated runs, made of a real result whose numbers are then varied."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ddmseg.monitoring.columns import Line
from ddmseg.monitoring.store import Store

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
Change = Callable[[int, Line], dict[str, Any]]


def simulated(count: int, *, seed: int = 0, change: Change | None = None) -> list[Line]:
    """One run every twelve hours; ``change`` gets place and line and returns other values."""
    generator = np.random.default_rng(seed)
    lines = []
    for place in range(count):
        level = generator.normal()
        line: Line = {
            "time": START + timedelta(hours=12 * place),
            "scan_key": f"{place:032x}",
            "labels_key": f"{place:031x}f",
            "model": "toy",
            "weights": "0123456789ab",
            "input": "other",
            "verdict": str(generator.choice(["pass", "warn", "fail"], p=(0.7, 0.25, 0.05))),
            "spacing_min_mm": 1.0,
            "noise": float(np.exp(0.2 * generator.normal())),
            "expected_dice": float(0.85 + 0.03 * level + 0.02 * generator.normal()),
            "discrepancy_mean": float(0.3 - 0.05 * level + 0.03 * generator.normal()),
            "brain_ml": float(1200 + 100 * generator.normal()),
            "volume_ml.Left-Hippocampus": float(4 + 0.4 * generator.normal()),
            **{f"feature.{k:03d}": float(generator.normal()) for k in range(4)},
        }
        lines.append({**line, **(change(place, line) if change else {})})
    return lines


def write_store(folder: Path, lines: list[Line]) -> Path:
    store = Store(folder)
    for line in lines:
        store.append(line)
    return folder
