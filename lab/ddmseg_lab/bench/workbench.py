"""Runs what is measured: in this process after loading, or in a fresh one."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from ddmseg.errors import ScanError
from ddmseg.imaging.nifti import read_volume
from ddmseg.inference.budget import Draw
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.scan_encoding import EncodedScan
from ddmseg.inference.segmenter import Segmenter
from ddmseg.outputs.write import write_outputs
from ddmseg.quality.segmentation import Segmentation
from ddmseg_lab.bench.peers import Ids, Peer
from ddmseg_lab.bench.process import measure_command
from ddmseg_lab.bench.scans import BenchScan
from ddmseg_lab.bench.tiers import FULL, TIERS, Tier, option_words

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


class Workbench:
    """Models loaded once, and runs of them with a clock.

    Args:
        model: name of a shipped model, or path of its weights.
        folder: for files made on the way.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        threads: of the processor; None is torch's choice.

    Raises:
        DdmsegError: when the model cannot be loaded.
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
        self._stages: tuple[str, NetworkStages] | None = None
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
        return {**costs, "dice": mean_dice(result.labels.data, full)}

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
        """Time one part of the network; NaN where the scan as a whole does not pass it."""
        if self._stages is None or self._stages[0] != scan.name:
            self._stages = (scan.name, NetworkStages(self.segmenter(), scan.path))
        work = self._stages[1].work(name)
        if work is None:
            return {}
        if (scan.name, name) not in self._warm:
            work()
            self._warm.add((scan.name, name))
        return timed(work, self.device)[0]

    def run_fresh(
        self,
        paths: Sequence[Path],
        options: Mapping[str, Any],
        model: str | None = None,
    ) -> Costs:
        """Run ``ddmseg segment`` in a process of its own, start-up and loading included.

        Raises:
            ScanError: when it ends with an error.
        """
        chosen = ["--model", model or self.model, "--device", self.device.type, "--no-cache"]
        chosen += option_words(options)
        if self._threads is not None:
            chosen.append(f"--threads={self._threads}")
        with tempfile.TemporaryDirectory(prefix="ddmseg-") as folder:
            scans = map(str, paths)
            return run_command([*PROGRAM, "segment", *scans, "-o", folder, *chosen])

    def run_peer(self, scan: BenchScan, peer: Peer) -> Costs:
        """Segment a scan with another tool.

        Raises:
            ScanError: when it fails.
        """
        with tempfile.TemporaryDirectory(prefix="ddmseg-") as folder:
            threads = self._threads or torch.get_num_threads()
            found = peer.segment(scan.path, Path(folder), threads)
        if found.labels is None:
            return dict(found.costs)
        full = self.full(scan)
        reference = np.where(np.isin(full, found.shared), full, 0)
        return {**found.costs, "dice": mean_dice(found.labels, reference)}


class NetworkStages:
    """What is timed of the network on one scan.

    Args:
        segmenter: of the model.
        path: of the scan.

    Raises:
        ScanError: when the scan cannot be read.
    """

    def __init__(self, segmenter: Segmenter, path: Path) -> None:
        self._segmenter = segmenter
        self._options = SegmentOptions(mode="fast")
        self._begun = segmenter.prepare(read_volume(path), self._options, silent)

    def work(self, name: str) -> Callable[[], object] | None:
        """Return what to time; None where the scan is searched before it is prepared.

        Args:
            name: one of ``STAGES``.
        """
        if self._begun.prepared is None:
            return None
        return {
            PLAIN_PASS: self._plain_pass,
            ENCODING: self._encode,
            SAMPLE_STEPS: self._sample,
        }[name]

    @torch.inference_mode()
    def _plain_pass(self) -> object:
        assert self._begun.prepared is not None
        image = torch.from_numpy(self._begun.prepared.image)[None, None]
        own = self._segmenter.model_stages
        return own.model.encode(image.to(own.device))

    @torch.inference_mode()
    def _encode(self) -> EncodedScan:
        memory = self._segmenter.model_stages.plan_memory(self._begun)
        return self._segmenter.model_stages.encode(self._begun, memory, cached=False)

    @torch.inference_mode()
    def _sample(self) -> object:
        draw = self._segmenter.model_stages.answering.draw
        return draw(self._encoded, self._options, silent, SAMPLE_STEPS_DRAW)

    @cached_property
    def _encoded(self) -> EncodedScan:
        return self._encode()


def run_command(command: Sequence[str]) -> Costs:
    """Run a command in a process of its own; raises ScanError when it ends with an error."""
    return dict(vars(measure_command(command)))


def timed(work: Callable[[], T], device: torch.device) -> tuple[Costs, T]:
    """Run something; return its seconds on the wall and of the processor, and its result.

    Args:
        work: to run.
        device: whose work is waited for.
    """
    _wait(device)
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    _wait(device)
    costs = {
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
    }
    return costs, result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def mean_dice(found: Ids, reference: Ids) -> float:
    """Return the mean Dice over the structures that either label map has, in [0, 1].

    Background is left out; NaN where neither has any structure. Counting all structures in
    one pass takes a fraction of the time of one mask after the other.

    Args:
        found: structure of each voxel, 0 for background, none below 0.
        reference: the same of another answer.

    Raises:
        ScanError: when the shapes differ.
    """
    if found.shape != reference.shape:
        raise ScanError(
            f"labels: shapes {found.shape} and {reference.shape} differ; only label maps of one "
            "scan can be compared"
        )
    most = int(max(found.max(initial=0), reference.max(initial=0))) + 1
    a, b = (np.bincount(x.ravel(), minlength=most)[1:] for x in (found, reference))
    both = np.bincount(found[found == reference].ravel(), minlength=most)[1:]
    there = a + b > 0
    if not there.any():
        return math.nan
    return float(np.mean(2 * both[there] / (a + b)[there]))


def silent(stage: str, fraction: float) -> None:
    """Show nothing: a bar would take time."""
