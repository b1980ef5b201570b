"""Volume in, segmentation out."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ddmseg import __version__
from ddmseg.errors import UsageError
from ddmseg.imaging.volume import Volume
from ddmseg.inference.budget import SLOWEST, WAS_BUSY, Deadline, Draw, Pace, pace_file
from ddmseg.inference.cache import FeatureCache
from ddmseg.inference.engines.engine import Engine, TorchEngine, make_engine
from ddmseg.inference.memory.plan import MemoryPlan, plan_memory
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.receipt import receipt
from ddmseg.inference.restoring import restored
from ddmseg.inference.sampling_policy import Answering
from ddmseg.inference.scan_encoding import EncodedScan, content_hash, encode_scan, prepare_scan
from ddmseg.inference.scan_input import as_volume
from ddmseg.inference.scan_stages import FinishedScan, PreparedScan, Progress, SolvedScan
from ddmseg.models.checkpoint import Card, load_weights
from ddmseg.models.device import find_device
from ddmseg.models.zoo import model_path
from ddmseg.monitoring.embedding import mean_features
from ddmseg.networks.blocks import fold_statistics
from ddmseg.networks.ensemble import Answer, Drawn
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.quality.assessment import Assessment
from ddmseg.quality.segmentation import Quality, Segmentation


class Segmenter:
    """A model ready to segment scans.

    Args:
        model: the network, in eval mode.
        card: of its weights.
        device: where it computes.
        cache: of features, so that another run with other steps skips the encoder.
        engine: computes the image encoder; None is torch.

    >>> from importlib.resources import files
    >>> from ddmseg import Segmenter
    >>> scan = files("ddmseg") / "demo" / "colin27_t1.nii.gz"
    >>> result = Segmenter.load("anatomy")(scan, mode="fast")
    >>> result.labels.shape == result.scan.shape == (181, 217, 181)
    True
    """

    def __init__(
        self,
        model: DiscrepancyDiffusionSegmenter,
        card: Card,
        *,
        device: torch.device | None = None,
        cache: FeatureCache | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device).eval()
        fold_statistics(self.model)
        self.card = card
        self.cache = cache
        self.engine = engine or TorchEngine(self.model)
        self.answering = Answering(self.model, card)
        self._pace: Pace | None = None
        self._slowdown = 1.0

    @classmethod
    def load(
        cls,
        name: str = "anatomy",
        *,
        device: str = "auto",
        cache: FeatureCache | None = None,
        engine: str = "auto",
    ) -> Segmenter:
        """Load a shipped model by name, or a trained one by the path of its weights.

        Args:
            name: such as ``anatomy`` or ``hippocampus``, or ``path/to/best.safetensors``.
            device: ``auto``, ``cpu`` or ``cuda``.
            cache: of features; None keeps none.
            engine: ``auto``, ``torch``, ``onnx``, ``openvino`` or ``openvino-int8``.

        Raises:
            UsageError: for an unknown model or device, or an engine that is unknown, not
                installed or does not compute this model.
            CheckpointError: when the weights are damaged.
        """
        where = find_device(device)
        model, card = load_weights(model_path(name))
        _check_one_contrast(name, card)
        if not card.settings["model"]["diffusion"]:
            raise UsageError(f"{name}: a plain network without diffusion; train one with it")
        chosen = make_engine(engine, model, card, device=where)
        if is_regional(card):
            from ddmseg.inference.roi import RegionalSegmenter

            return RegionalSegmenter(model, card, device=where, cache=cache, engine=chosen)
        return cls(model, card, device=where, cache=cache, engine=chosen)

    def __call__(
        self,
        image: object,
        options: SegmentOptions | None = None,
        *,
        progress: Progress | None = None,
        **overrides: Any,
    ) -> Segmentation:
        """Segment one scan.

        Args:
            image: path of a NIfTI file, nibabel image, ``(array, affine)`` or Volume.
            options: what to do; single fields may be given as keywords instead.
            progress: gets the stage and the fraction of it done.
            **overrides: fields of :class:`SegmentOptions`.

        Raises:
            ScanError: when the scan is not usable.
            SettingsError: for an unknown or wrong option.
        """
        chosen = (options or SegmentOptions()).changed(overrides)
        report = progress or _silent
        deadline = self.start_clock(chosen)
        report("read", 0.0)
        return self.segment_volume(as_volume(image), chosen, report, deadline)

    def start_clock(self, options: SegmentOptions, *, writes: bool = False) -> Deadline | None:
        """Start the clock of a scan's budget; None where there is none.

        The first time, the machine is measured before.

        Args:
            options: with the budget.
            writes: whether writing the results belongs to it.
        """
        if math.isinf(options.budget):
            return None
        self.pace()
        return Deadline(options.budget, writes=writes, slowdown=self._slowdown)

    def segment_volume(
        self,
        scan: Volume,
        options: SegmentOptions,
        progress: Progress,
        deadline: Deadline | None = None,
    ) -> Segmentation:
        """Segment a scan that has been read: one stage after the other."""
        return self.restore(self.solve(self.prepare(scan, options, progress, deadline)))

    @torch.inference_mode()
    def prepare(
        self,
        scan: Volume,
        options: SegmentOptions,
        progress: Progress,
        deadline: Deadline | None = None,
    ) -> PreparedScan:
        """Bring a scan to the model's grid: the first of three stages.

        Raises:
            ScanError: when the scan is not usable.
        """
        progress("prepare", 0.0)
        clock = _Clock()
        with clock("prepare"):
            key = content_hash(scan)
            prepared = prepare_scan(self.card, scan, multiple=self.model.multiple)
        return PreparedScan(scan, options, progress, prepared, key, clock.seconds, deadline)

    @torch.inference_mode()
    def solve(self, begun: PreparedScan) -> SolvedScan | FinishedScan:
        """Encode and denoise: the stage that uses the network.

        Raises:
            ScanError: when the memory does not do; says how much would.
            SettingsError: when the budget cannot be met; says which could.
        """
        memory = self.plan_memory(begun)
        if begun.deadline is not None:
            begun.deadline.require(self.seconds_ahead(begun, begun.deadline.writes))
        clock = _Clock(begun.seconds)
        with clock("encode"):
            encoded = self.encode(begun, memory)
            coarse = self.answering.coarse(encoded)
        if begun.deadline is not None:
            self._tell_encoded(begun.deadline, begun, encoded)
        with clock("denoise"):
            found = self.answering.answer(encoded, begun, coarse)
        return self.solved(begun, encoded, *found, memory)

    def solved(
        self,
        begun: PreparedScan,
        encoded: EncodedScan,
        answer: Answer,
        assessment: Assessment,
        memory: MemoryPlan,
    ) -> SolvedScan:
        """Gather what the last stage needs, and not the encoder's features."""
        spent = receipt(
            begun.scan,
            begun.key,
            self.card,
            begun.options,
            answer,
            encoded,
            begun.seconds,
            memory.device,
            self.engine.describe(),
        )
        return SolvedScan(
            begun,
            encoded.prepared,
            answer,
            assessment,
            mean_features(encoded.encoding),
            {**spent, "memory": memory.record},
        )

    @torch.inference_mode()
    def restore(self, solved: SolvedScan | FinishedScan) -> Segmentation:
        """Bring everything back to the scan's own grid: the last stage."""
        if isinstance(solved, FinishedScan):
            return solved.result
        solved.begun.progress("restore", 0.0)
        clock = _Clock(solved.begun.seconds)
        with clock("restore"):
            result = restored(self.card, solved)
        told = {**solved.receipt, "seconds": clock.seconds}
        if solved.begun.deadline is not None:
            told["budget"] = solved.begun.deadline.record(*spent_on(solved.answer, result.quality))
        return replace(result, receipt=told)

    def plan_memory(self, begun: PreparedScan) -> MemoryPlan:
        """Choose device and tiles that the memory at hand allows.

        Raises:
            ScanError: when none does.
        """
        assert begun.prepared is not None
        return plan_memory(
            self.card,
            scan_voxels=begun.scan.data.size,
            grid=begun.prepared.image.shape,
            multiple=self.model.multiple,
            device=self.device,
            probabilities=begun.options.probabilities,
            samples=begun.options.mode != "fast",
        )

    def encode(
        self, begun: PreparedScan, memory: MemoryPlan, *, cached: bool = True
    ) -> EncodedScan:
        """Run f^I on a prepared scan, or take its features from the cache.

        Args:
            begun: the scan.
            memory: where, and with which tiles.
            cached: whether the cache may be used.
        """
        assert begun.prepared is not None
        return encode_scan(
            self.model.to(memory.device),
            self.card,
            begun.prepared,
            key=begun.key,
            cache=self.cache if cached else None,
            device=memory.device,
            progress=begun.progress,
            patch=memory.patch,
            at_once=memory.at_once,
            engine=self.engine,
        )

    def seconds_ahead(self, begun: PreparedScan, writes: bool) -> float:
        """Return what a prepared scan takes at least, at this machine's pace.

        Args:
            begun: the scan.
            writes: whether writing the results counts.
        """
        assert begun.prepared is not None
        pace, grid = self.pace(), begun.prepared.image.size
        steps = self.answering.least_steps(begun.options)
        ahead = (pace.encode + steps * pace.step) * grid
        return ahead + pace.finish(begun.scan.data.size, writes=writes)

    def _tell_encoded(self, deadline: Deadline, begun: PreparedScan, encoded: EncodedScan) -> None:
        """Tell the clock how long encoding took, and what is still to do."""
        assert begun.prepared is not None
        pace = self.pace()
        expected = pace.encode * begun.prepared.image.size
        known = expected > 0 and not encoded.cached  # features from a file tell nothing of speed
        deadline.encoded(
            slowdown=begun.seconds["encode"] / expected if known else 1.0,
            step=pace.step * encoded.prepared.image.size,
            after=pace.finish(begun.scan.data.size, writes=deadline.writes),
        )

    def pace(self) -> Pace:
        """Return what each kind of work takes on this machine.

        It is measured the first time, in about the time of one scan, and kept in the folder of
        the cache. Each process segments a small scan, to see how busy the machine is.
        """
        if self._pace is None:
            engine = self.engine.describe()
            device = self.device
            path = pace_file(
                *(__version__, torch.__version__, self.card.checksum, torch.get_num_threads()),
                *(engine["name"], engine["version"]),
                torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            )
            kept, probe = Pace.read(path), self.probe()
            if kept is None or kept.slowdown(probe) * WAS_BUSY < 1:
                kept = replace(self.measure_pace(self.calibration_scan()), probe=probe)
                kept.save(path)
            self._pace, self._slowdown = kept, min(max(1.0, kept.slowdown(probe)), SLOWEST)
        return self._pace

    def probe(self) -> float:
        """Segment a small scan and return the seconds it took."""
        head = small_head(float(self.card.settings["data"]["spacing_mm"]))
        self.measure_pace(head)  # the first run pays for imports
        start = time.perf_counter()
        self.measure_pace(head)
        return time.perf_counter() - start

    @torch.inference_mode()
    def measure_pace(self, scan: Volume) -> Pace:
        """Segment a scan part by part and return the seconds of each part a voxel."""
        from ddmseg.outputs.write import write_outputs

        options, clock = SegmentOptions(mode="fast"), _Clock()
        with clock("prepare"):
            begun = self.prepare(scan, options, _silent)
        assert begun.prepared is not None
        memory = self.plan_memory(begun)
        with clock("encode"):
            encoded = self.encode(begun, memory, cached=False)
            self.answering.coarse(encoded)
        draw = Draw(self.answering.own_draw.steps, 1)
        with clock("draw"):
            found = self.answering.draw(encoded, options, _silent, draw)
        solved = self.solved(begun, encoded, *found, memory)
        with clock("restore"):
            result = self.restore(solved)
        with clock("write"), tempfile.TemporaryDirectory(prefix="ddmseg-") as folder:
            write_outputs(result, Path(folder), stem="scan")
        took, voxels = clock.seconds, scan.data.size
        return Pace(
            prepare=took["prepare"] / voxels,
            encode=took["encode"] / begun.prepared.image.size,
            step=took["draw"] / draw.steps / encoded.prepared.image.size,
            restore=took["restore"] / voxels,
            write=took["write"] / voxels,
            probe=0.0,
        )

    def calibration_scan(self) -> Volume:
        """Read a scan that is typical for the model: the head that comes with the package."""
        return as_volume(files("ddmseg") / "demo" / "colin27_t1.nii.gz")


def small_head(spacing_mm: float) -> Volume:
    """Make up a head that takes no time: a noisy ball."""
    side = 32
    places = np.indices((side,) * 3) - (side - 1) / 2
    radius = np.linalg.norm(places, axis=0) / side
    head = np.where(radius < 0.4, 100.0, 0.0) - np.where(radius < 0.1, 70.0, 0.0)
    head += np.random.default_rng(0).normal(0, 4, head.shape)
    return Volume(head.astype(np.float32), np.diag([spacing_mm] * 3 + [1.0]), "ball")


def spent_on(answer: Answer, quality: Quality) -> tuple[list[dict[str, Any]], str]:
    """Return the sets of samples behind an answer, and why there are no more."""
    if answer.choice is not None:
        return [asdict(one) for one in answer.choice.drawn], answer.choice.stopped_because
    one = Drawn(answer.steps, answer.samples, quality.expected_dice)
    return ([asdict(one)] if answer.samples else []), "all was run"


def is_regional(card: Card) -> bool:
    """Say whether a model works on crops around a structure rather than on heads."""
    return bool(card.settings["data"]["kind"] == "hippocampus")


def _check_one_contrast(name: str, card: Card) -> None:
    """Refuse a model that one file cannot feed.

    Raises:
        UsageError: when it takes several images.
    """
    contrasts = card.settings["model"]["contrasts"]
    if contrasts != 1:
        raise UsageError(
            f"{name}: the model takes {contrasts} images of a scan, and a scan here is one file; "
            "score it with ddmseg compare, or name a model of one image"
        )


def _silent(stage: str, fraction: float) -> None:
    pass


class _Clock:
    """Seconds of each stage."""

    def __init__(self, seconds: dict[str, float] | None = None) -> None:
        self.seconds = {} if seconds is None else seconds

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)
