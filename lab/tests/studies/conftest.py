"""A tiny model with the crops that it can be studied on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from ddmseg.imaging.labels import HIPPOCAMPUS_LABELS
from ddmseg.maths.statistics import Interval
from ddmseg_lab import statistics_text
from ddmseg_lab.study import Trained, open_model
from real_sets import write_hippocampus
from tiny_weights import CROPS, save_tiny


@pytest.fixture(scope="module")
def quick_intervals() -> Iterator[None]:
    """Normal intervals for bootstrapped ones, which take most of the time of a page."""

    def normal(values: Sequence[float], *, level: float) -> Interval:
        reach = 1.96 * float(np.std(values)) / math.sqrt(len(values))
        mean = float(np.mean(values))
        return Interval(mean, mean - reach, mean + reach, len(values), level)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics_text, "bootstrap_interval", normal)
        patch.setattr(statistics_text, "RESAMPLES", 100)
        yield


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a data set."""
    root = tmp_path_factory.mktemp("data")
    write_hippocampus(root, {"train": 1, "validation": 1, "test": 3})
    return str(root)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of hippocampus crops."""
    return save_tiny(tmp_path_factory.mktemp("crops"), CROPS, HIPPOCAMPUS_LABELS)


@pytest.fixture(scope="session")
def trained(weights: Path, data_root: str) -> Trained:
    """That model, opened."""
    return open_model(str(weights), data_root)
