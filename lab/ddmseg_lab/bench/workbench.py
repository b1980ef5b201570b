"""Runs what is measured: in this process after loading, or in a fresh one."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from ddmseg.errors import ScanError
from ddmseg.imaging.nifti import read_volume
from ddmseg.inference.budget import Draw
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.segmenter import Segmenter
from ddmseg.outputs.write import write_outputs
from ddmseg.quality.segmentation import Segmentation
from ddmseg_lab.bench import process
from ddmseg_lab.bench.scans import BenchScan
from ddmseg_lab.bench.tiers import FULL, TIERS, Tier, option_words
from ddmseg_lab.scans import Ids, mean_dice

T = TypeVar("T")
Costs = dict[str, float]
"""Figures of one measurement by column."""

PROGRAM = (sys.executable, "-m", "ddmseg")
PLAIN_PASS = "one plain pass"
"""Of the image encoder over the whole model grid."""
ENCODING = "encoding"
"""The same as a scan is encoded: cut to what matters, logits turned into probabilities."""
SAMPLE_STEPS = "50 sample-steps"
SAMPLE_STEPS_DRAW = Draw(steps=10, samples=5)
STAGES = (PLAIN_PASS, ENCODING, SAMPLE_STEPS)


@dataclass(frozen=True)
class PeerOutcome:
    """What another tool did with one scan.

    Attributes:
        costs: ``seconds`` and ``processor_seconds`` from reading to writing, after loading,
            and ``peak_memory_gb`` of its process.
        labels: FreeSurfer ids on the scan's grid; None where it gives none.
        shared: ids that both it and ddmseg draw.
    """

    costs: Mapping[str, float]
    labels: Ids | None = None
    shared: tuple[int, ...] = ()


@dataclass(frozen=True)
class Peer:
    """Another tool, ready to run here; rows of another version of it are measured anew.

    ``segment(scan, folder, threads)`` runs it in a process of its own, with labels and logs in
    an empty folder; it raises ScanError when the tool fails.
    """

    name: str
    title: str
    version: str
    segment: Callable[[Path, Path, int], PeerOutcome]


class Workbench:
    """Models loaded once, and runs of them with a clock.

    Args:
        model: name of a shipped model, or path of its weights.
        folder: for files made on the way.
        threads: of the processor; None is torch's choice.
    """

    def __init__(
        self, model: str, folder: Path, *, device: str = "auto", threads: int | None = None
    ) -> None:
        self.model = model
        self.folder = folder
        self._device = device
        self._threads = threads
        self._segmenters: dict[str, Segmenter] = {}
        self._warm: set[tuple[str, str]] = set()
        self._full: tuple[str, Ids] | None = None
        self._stages: tuple[str, dict[str, Callable[[], object]]] | None = None
        self.card = self.segmenter().card

    def segmenter(self, model: str | None = None) -> Segmenter:
        """Return a loaded model."""
        name = model or self.model
        if name not in self._segmenters:
            self._segmenters[name] = Segmenter.load(name, device=self._device)
        return self._segmenters[name]

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.segmenter().model_stages.device

    def run_tier(self, scan: BenchScan, tier: Tier) -> Costs:
        """Segment a scan once, from reading it to the last file written.

        The first run of a tier on a scan is left out: it pays for imports, for what a
        model loads on first use and for kernels that are chosen by shape.
        """
        full = self.full(scan)
        if (scan.name, tier.name) not in self._warm:
            self._segment(scan.path, tier.options)
            self._warm.add((scan.name, tier.name))
        costs, result = self._segment(scan.path, tier.options)
        return {**costs, "dice": agreement(result.labels.data, full)}

    def run_options(
        self, path: Path, options: Mapping[str, Any], model: str | None = None
    ) -> Costs:
        """Segment a scan with any options; once beforehand to warm up."""
        self._segment(path, options, model)
        return self._segment(path, options, model)[0]

    def full(self, scan: BenchScan) -> Ids:
        """Return the labels of the full diffusion answer."""
        if self._full is None or self._full[0] != scan.name:
            _, result = self._segment(scan.path, TIERS[FULL].options)
            self._full = (scan.name, result.labels.data)
            self._warm.add((scan.name, FULL))
        return self._full[1]

    def _segment(
        self, path: Path, options: Mapping[str, Any], model: str | None = None
    ) -> tuple[Costs, Segmentation]:
        segmenter = self.segmenter(model)

        def work() -> Segmentation:
            result = segmenter(path, **options)
            write_outputs(result, Path(folder), stem="scan")
            return result

        with tempfile.TemporaryDirectory(prefix="ddmseg-") as folder:
            costs, result = timed(work, self.device)
        # a head of which two crops are segmented has seconds of each and not of both
        denoise = result.receipt["seconds"].get("denoise", math.nan)
        return {**costs, "denoise_seconds": float(denoise)}, result

    def run_stage(self, scan: BenchScan, name: str) -> Costs:
        """Time one part of the network; nothing where the scan as a whole does not pass it."""
        if self._stages is None or self._stages[0] != scan.name:
            self._stages = (scan.name, network_stages(self.segmenter(), scan.path))
        work = self._stages[1].get(name)
        if work is None:
            return {}
        if (scan.name, name) not in self._warm:
            work()
            self._warm.add((scan.name, name))
        return timed(work, self.device)[0]

    def run_fresh(
        self, paths: Sequence[Path], options: Mapping[str, Any], model: str | None = None
    ) -> Costs:
        """Run ``ddmseg segment`` in a process of its own, start-up and loading included."""
        chosen = ["--model", model or self.model, "--device", self.device.type, "--no-cache"]
        chosen += option_words(options)
        if self._threads is not None:
            chosen.append(f"--threads={self._threads}")
        with tempfile.TemporaryDirectory(prefix="ddmseg-") as folder:
            words = [*PROGRAM, "segment", *map(str, paths), "-o", folder, *chosen]
            return process.measure_command(words)

    def run_peer(self, scan: BenchScan, peer: Peer) -> Costs:
        """Segment a scan with another tool."""
        with tempfile.TemporaryDirectory(prefix="ddmseg-") as folder:
            threads = self._threads or torch.get_num_threads()
            found = peer.segment(scan.path, Path(folder), threads)
        if found.labels is None:
            return dict(found.costs)
        full = self.full(scan)
        reference = np.where(np.isin(full, found.shared), full, 0)
        return {**found.costs, "dice": agreement(found.labels, reference)}


def network_stages(segmenter: Segmenter, path: Path) -> dict[str, Callable[[], object]]:
    """Return what to time of the network; nothing for a scan that is searched before it is cut."""
    options, own = SegmentOptions(mode="fast"), segmenter.model_stages
    begun = segmenter.prepare(read_volume(path), options, silent)
    if begun.prepared is None:
        return {}
    image = torch.from_numpy(begun.prepared.image)[None, None]

    def encode() -> Any:
        return own.encode(own.plan_memory(begun), cached=False)

    encoded = cache(encode)
    works: dict[str, Callable[[], object]] = {
        PLAIN_PASS: lambda: own.model.encode(image.to(own.device)),
        ENCODING: encode,
        SAMPLE_STEPS: lambda: own.answering.draw(encoded(), SAMPLE_STEPS_DRAW),
    }
    return {name: torch.inference_mode()(work) for name, work in works.items()}


def timed(work: Callable[[], T], device: torch.device) -> tuple[Costs, T]:
    """Run something; return its seconds on the wall and of the processor, and its result."""
    _wait(device)
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    _wait(device)
    seconds = time.perf_counter() - wall
    return {"seconds": seconds, "processor_seconds": time.process_time() - processor}, result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def agreement(found: Ids, reference: Ids) -> float:
    """Return the mean Dice over the structures that either label map has; NaN without any.

    Raises:
        ScanError: when the shapes differ.
    """
    if found.shape != reference.shape:
        raise ScanError(
            f"labels: shapes {found.shape} and {reference.shape} differ; only label maps of one "
            "scan can be compared"
        )
    structures = [index for index in np.union1d(found, reference).tolist() if index]
    return mean_dice(found, reference, structures) if structures else math.nan


def silent(stage: str, fraction: float) -> None:
    """Show nothing: a bar would take time."""
