"""Volume in, segmentation out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddmseg.errors import SettingsError, UsageError, did_you_mean
from ddmseg.imaging.preprocess import Prepared
from ddmseg.imaging.volume import LabelMap, Volume
from ddmseg.maths.adaptive import BUDGETS, climb
from ddmseg.maths.schedule import make_schedule
from ddmseg.networks.sampling import Guidance, MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.pipeline.batches import seeded
from ddmseg.pipeline.cache import FeatureCache
from ddmseg.pipeline.checkpoint import Card, load_weights
from ddmseg.pipeline.config import SamplingSettings
from ddmseg.pipeline.ensemble import Answer, coarse_answer, sampled_answer
from ddmseg.pipeline.monitoring.embedding import mean_features
from ddmseg.pipeline.options import SegmentOptions
from ddmseg.pipeline.plausibility import implausible
from ddmseg.pipeline.postprocess import clean_labels
from ddmseg.pipeline.quality import PASS_DICE, Assessment, assess, judge, uncertainty_map
from ddmseg.pipeline.receipt import receipt
from ddmseg.pipeline.scan_encoding import EncodedScan, content_hash, encode_scan
from ddmseg.pipeline.segmentation import Segmentation
from ddmseg.pipeline.settings_reader import settings_from_dict
from ddmseg.pipeline.volumes import structure_volumes
from ddmseg.pipeline.zoo import model_path

Progress = Callable[[str, float], None]
"""Gets a stage (read, prepare, encode, denoise, restore) and the fraction of it done."""


class Segmenter:
    """A model ready to segment scans.

    Args:
        model: the network, in eval mode.
        card: of its weights.
        device: where it computes.
        cache: of features, so that another run with other steps skips the encoder.

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
    ) -> None:
        self.device = device or torch.device("cpu")
        self.model = model.to(self.device).eval()
        self.card = card
        self.cache = cache

    @classmethod
    def load(
        cls, name: str = "anatomy", *, device: str = "auto", cache: FeatureCache | None = None
    ) -> Segmenter:
        """Load a shipped model by name, or a trained one by the path of its weights.

        Args:
            name: such as ``anatomy`` or ``hippocampus``, or ``path/to/best.safetensors``.
            device: ``auto``, ``cpu`` or ``cuda``.
            cache: of features; None keeps none.

        Raises:
            UsageError: for an unknown model or device.
            CheckpointError: when the weights are damaged.
        """
        where = find_device(device)
        model, card = load_weights(model_path(name))
        if not card.settings["model"]["diffusion"]:
            raise UsageError(f"{name}: a plain network without diffusion; train one with it")
        if is_regional(card):
            from ddmseg.pipeline.region import RegionalSegmenter

            return RegionalSegmenter(model, card, device=where, cache=cache)
        return cls(model, card, device=where, cache=cache)

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
        chosen = _options(options, overrides)
        report = progress or _silent
        report("read", 0.0)
        scan = as_volume(image)
        return self.segment_volume(scan, chosen, report)

    @torch.inference_mode()
    def segment_volume(
        self, scan: Volume, options: SegmentOptions, progress: Progress
    ) -> Segmentation:
        """Segment a scan that has been read."""
        clock = _Clock()
        key = content_hash(scan)
        with clock("encode"):
            encoded = encode_scan(
                self.model,
                self.card,
                scan,
                key=key,
                cache=self.cache,
                device=self.device,
                progress=progress,
            )
        with clock("denoise"):
            answer, assessment = self._answer(encoded, options, progress)
        with clock("restore"):
            progress("restore", 0.0)
            result = self._restore(scan, encoded, answer, assessment, options)
        spent = receipt(scan, key, self.card, options, answer, encoded, clock.seconds, self.device)
        return replace(result, receipt=spent)

    def _answer(
        self, encoded: EncodedScan, options: SegmentOptions, progress: Progress
    ) -> tuple[Answer, Assessment]:
        """Spend what the mode asks for; return the answer and what to expect of it."""
        coarse = coarse_answer(encoded.encoding)
        first = assess(self.model, self.card, encoded.encoding, coarse)
        if options.mode == "fast":
            return coarse, first
        if options.mode == "auto" and options.steps is None and options.samples is None:
            if first.expected_dice >= PASS_DICE:
                return coarse, first
            return self._climb(encoded, options, progress, (coarse, first))
        return self._sample(encoded, options, progress, options.steps)

    def _climb(
        self,
        encoded: EncodedScan,
        options: SegmentOptions,
        progress: Progress,
        start: tuple[Answer, Assessment],
    ) -> tuple[Answer, Assessment]:
        """Spend more and more steps until the result is expected to pass."""

        def run(steps: int) -> tuple[tuple[Answer, Assessment], float]:
            outcome = self._sample(encoded, options, progress, steps)
            return outcome, outcome[1].expected_dice

        before = start[1].expected_dice
        effort = climb(run, quality=PASS_DICE, budgets=BUDGETS, start=before)
        return start if effort.best.quality < before else effort.result

    def _sample(
        self, encoded: EncodedScan, options: SegmentOptions, progress: Progress, steps: int | None
    ) -> tuple[Answer, Assessment]:
        own = settings_from_dict(SamplingSettings, self.card.settings["sampling"])
        loss = self.card.settings["loss"]
        temperature = own.temperature if options.temperature is None else options.temperature
        sampler = MaskSampler(
            self.model,
            encoded.encoding,
            make_schedule(loss["schedule"], loss["schedule_shift"]),
            Guidance(own.guidance, own.guidance_scale, loss["temperature"]),
        )
        answer = sampled_answer(
            self.model,
            sampler,
            algorithm=options.sampler or own.sampler,
            steps=steps or own.steps,
            samples=options.samples or own.samples,
            temperature=temperature,
            coarse_share=own.coarse_share,
            generator=seeded(options.seed, 0),
            progress=lambda fraction: progress("denoise", fraction),
            trace=options.trace,
        )
        return answer, assess(self.model, self.card, encoded.encoding, answer)

    def _restore(
        self,
        scan: Volume,
        encoded: EncodedScan,
        answer: Answer,
        assessment: Assessment,
        options: SegmentOptions,
    ) -> Segmentation:
        """Bring everything back to the scan's own grid."""
        prepared = encoded.prepared
        p = answer.probabilities[0].float().cpu()
        labels = prepared.labels_to_input(p, self.card.labels)
        cleaning = None
        if not options.raw:
            labels, cleaning = clean_labels(labels, voxel_ml=scan.voxel_ml)
        D = assessment.discrepancy[0, 0].float().cpu().numpy()
        fields: dict[str, Any] = {}
        if options.probabilities:
            fields["probabilities"] = prepared.probabilities_to_input(p)
            fields["probability_labels"] = self.card.labels
        if options.trace and answer.step_labels is not None:
            fields["sample_labels"] = self._frames(prepared, answer.sample_labels)
            fields["step_labels"] = self._frames(prepared, answer.step_labels)
        volumes = structure_volumes(self.card, labels, scan.voxel_ml, assessment.expectation)
        seen = implausible(self.card, scan, labels, volumes, cleaning)
        return Segmentation(
            scan=scan,
            labels=LabelMap(labels, scan.affine, scan.name, scan.header),
            uncertainty=_thousandths(prepared.map_to_input(uncertainty_map(answer))),
            discrepancy=_thousandths(prepared.map_to_input(D)),
            volumes=volumes,
            quality=judge(self.card, answer, assessment, seen=seen, cleaning=cleaning),
            receipt={},
            features=mean_features(encoded.encoding),
            **fields,
        )

    def _frames(self, prepared: Prepared, labels: Tensor) -> NDArray[np.int32]:
        """Bring label maps of the mask's or the model's grid to the scan's (``i j k frame``)."""
        wanted = prepared.grid.shape
        frames = []
        for one in labels.cpu():
            for axis, n in enumerate(wanted):  # the mask's grid may be coarser by a whole factor
                one = one.repeat_interleave(n // one.shape[axis], dim=axis)
            frames.append(prepared.classes_to_input(one.numpy(), self.card.labels))
        return np.stack(frames, axis=-1)


def is_regional(card: Card) -> bool:
    """Say whether a model works on crops around a structure rather than on heads."""
    return bool(card.settings["data"]["kind"] == "hippocampus")


def as_volume(image: object) -> Volume:
    """Turn what a caller may hold into a checked scan.

    Raises:
        ScanError: when it is not usable.
        UsageError: when it is of no kind that is known.
    """
    from ddmseg.imaging.nifti import read_volume, volume_from_array, volume_from_nibabel

    if isinstance(image, Volume):
        return image
    if isinstance(image, str | PathLike):
        return read_volume(Path(image))
    if isinstance(image, tuple) and len(image) == 2:
        return volume_from_array(np.asarray(image[0]), np.asarray(image[1]))
    if hasattr(image, "dataobj") and hasattr(image, "affine"):
        return volume_from_nibabel(image)  # type: ignore[arg-type]
    raise UsageError(
        f"image: got {type(image).__name__}; give a path, a nibabel image or (array, affine)"
    )


def find_device(name: str) -> torch.device:
    """Return the device called ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UsageError: for another name, or when there is no CUDA device.
    """
    allowed = ("auto", "cpu", "cuda")
    if name not in allowed:
        raise UsageError(
            f"device: got '{name}'; allowed are {', '.join(allowed)}{did_you_mean(name, allowed)}"
        )
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device: no CUDA device is here; use cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _options(options: SegmentOptions | None, overrides: dict[str, Any]) -> SegmentOptions:
    base = options or SegmentOptions()
    known = asdict(base)
    for name in overrides:
        if name not in known:
            raise SettingsError(
                f"{name}: unknown option; allowed are {', '.join(known)}{did_you_mean(name, known)}"
            )
    return replace(base, **overrides)


def _thousandths(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to 0.001 and keep above 0: digits below that are noise, but would not compress."""
    return np.maximum(np.round(values, 3), 0.0)


def _silent(stage: str, fraction: float) -> None:
    pass


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)
