"""Predict and score the test subjects of one row, in a process of its own.

A fresh process knows how much memory prediction alone takes.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ddmseg.maths.case_scores import Score
from ddmseg.models.device import working_seconds

BYTES_PER_KILOBYTE = 1024


@dataclass(frozen=True)
class RowResult:
    """What testing a row found.

    Attributes:
        scores: one a subject and structure.
        seconds_a_scan: median over subjects, reading left out.
        peak_memory_mb: resident, in 1e6 bytes; None where the system does not tell.
        parameters: of all networks together.
        preparation_seconds: that training what the data need took, such as auto-encoders.
    """

    scores: list[Score]
    seconds_a_scan: float
    peak_memory_mb: float | None
    parameters: int
    preparation_seconds: float = 0.0


def score_apart(
    weights: list[Path], settings: list[str], data: str | None, threads: int
) -> RowResult:
    """Run :func:`score_row` in a fresh process and return what it found."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(score_row, weights, settings, data, threads).result()


def score_row(
    weights: list[Path], settings: list[str], data: str | None, threads: int
) -> RowResult:
    """Predict and score all test subjects.

    Args:
        weights: of each member; what the data need lies beside the first.
        settings: of each member as JSON; the first says which data.
        data: folder of the data sets, None for the environment's.
        threads: of torch, 0 for its own choice.
    """
    _forget_peak()
    import json

    import torch

    from ddmseg.models.checkpoint import load_network
    from ddmseg.models.settings import Settings
    from ddmseg.models.settings_reader import settings_from_dict
    from ddmseg.randomness import seeded
    from ddmseg_lab.comparison.mapped import row_source
    from ddmseg_lab.comparison.predict import Member, predict

    if threads:
        torch.set_num_threads(threads)
    read = [settings_from_dict(Settings, json.loads(text)) for text in settings]
    members = [Member(load_network(path)[0], one) for path, one in zip(weights, read, strict=True)]
    source = row_source(read[0].data, data, run_folder=weights[0].parent)
    scores: list[Score] = []
    seconds: list[float] = []
    for number, subject in enumerate(source.subjects("test")):
        start = working_seconds()
        found = predict(members, subject, seeded(read[0].training.seed, number))
        seconds.append(working_seconds() - start + subject.channel_seconds)
        scores += source.score(subject, found)
    parameters = sum(p.numel() for m in members for p in m.network.parameters())
    return RowResult(
        scores,
        statistics.median(seconds),
        _peak_memory_mb(),
        parameters + source.finish.parameters,
        source.finish.train_seconds,
    )


def _forget_peak() -> None:
    """Have the system forget the peak that came with the parent process (Linux).

    Source: proc(5), clear_refs with 5.
    """
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_mb() -> float | None:
    """Source: proc(5), VmHWM of status."""
    if sys.platform != "linux":
        return None
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return kilobytes * BYTES_PER_KILOBYTE / 1e6
