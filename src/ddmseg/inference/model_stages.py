"""One model on one scan: prepare, encode, sample, restore."""

from __future__ import annotations

import platform
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ddmseg.imaging.volume import Volume
from ddmseg.inference.budget import Deadline
from ddmseg.inference.cache import FeatureCache
from ddmseg.inference.memory.plan import MemoryPlan, plan_memory
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.restoring import restored
from ddmseg.inference.sampling_policy import SamplingPolicy
from ddmseg.inference.scan_encoding import (
    EncodedScan,
    content_hash,
    encode_scan,
    mean_features,
    prepare_scan,
)
from ddmseg.inference.scan_stages import (
    FinishedScan,
    PreparedScan,
    Progress,
    ScanStages,
    SolvedScan,
    StageClock,
)
from ddmseg.messages import NOTICE
from ddmseg.models.card import Card
from ddmseg.networks.blocks import fold_statistics
from ddmseg.networks.ensemble import Answer, Drawn
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.quality.assessment import Assessment
from ddmseg.quality.segmentation import Quality, Segmentation


class ModelStages(ScanStages):
    """A model ready to segment scans on its grid.

    Args:
        cache: of features, so that another run with other steps skips the encoder.
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
        fold_statistics(self.model)
        self.card = card
        self.cache = cache
        self.answering = SamplingPolicy(self.model, card)

    @torch.inference_mode()
    def prepare(
        self,
        scan: Volume,
        options: SegmentOptions,
        progress: Progress,
        deadline: Deadline | None = None,
    ) -> PreparedScan:
        """Bring a scan to the model's grid: the first of three stages."""
        progress("prepare", 0.0)
        clock = StageClock()
        with clock("prepare"):
            key = content_hash(scan)
            prepared = prepare_scan(self.card, scan, multiple=self.model.multiple)
        return PreparedScan(scan, options, progress, prepared, key, clock.seconds, deadline)

    @torch.inference_mode()
    def solve(self, begun: PreparedScan) -> SolvedScan | FinishedScan:
        """Encode and denoise: the stage that uses the network."""
        memory = self.plan_memory(begun)
        clock = StageClock(begun.seconds)
        with clock("encode"):
            encoded = self.encode(begun, memory)
            coarse = self.answering.coarse(encoded)
        if begun.deadline is not None:
            begun.deadline.encoded()
        with clock("denoise"):
            found = self.answering.answer(encoded, begun, coarse)
        features = mean_features(encoded.encoding, coarse[1].labels)
        return self.solved(begun, encoded, *found, memory, features)

    def solved(
        self,
        begun: PreparedScan,
        encoded: EncodedScan,
        answer: Answer,
        assessment: Assessment,
        memory: MemoryPlan,
        features: NDArray[np.float32] | None,
    ) -> SolvedScan:
        """Gather what the last stage needs, and not the encoder's features."""
        told = {**_receipt(self.card, begun, encoded, answer, memory), "memory": memory.record}
        return SolvedScan(begun, encoded.prepared, answer, assessment, features, told)

    @torch.inference_mode()
    def restore(self, solved: SolvedScan | FinishedScan) -> Segmentation:
        """Bring everything back to the scan's own grid: the last stage."""
        if isinstance(solved, FinishedScan):
            return solved.result
        solved.begun.progress("restore", 0.0)
        clock = StageClock(solved.begun.seconds)
        with clock("restore"):
            result = restored(self.card, solved)
        told = {**solved.receipt, "seconds": clock.seconds}
        if solved.begun.deadline is not None:
            told["budget"] = solved.begun.deadline.record(*spent_on(solved.answer, result.quality))
        return replace(result, receipt=told)

    def plan_memory(self, begun: PreparedScan) -> MemoryPlan:
        """Choose the device that the memory at hand allows.

        Raises:
            ScanError: when none does.
        """
        assert begun.prepared is not None
        return plan_memory(
            self.card,
            scan_voxels=begun.scan.data.size,
            grid=begun.prepared.image.shape,
            device=self.device,
            probabilities=begun.options.probabilities,
            samples=begun.options.mode != "fast",
        )

    def encode(
        self, begun: PreparedScan, memory: MemoryPlan, *, cached: bool = True
    ) -> EncodedScan:
        """Run f^I on a prepared scan, or take its features from the cache.

        Args:
            memory: where.
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
        )


def _receipt(
    card: Card, begun: PreparedScan, encoded: EncodedScan, answer: Answer, memory: MemoryPlan
) -> dict[str, Any]:
    """Return what was done, with what, to which scan: enough to do it again, ready for JSON."""
    scan = begun.scan
    return {
        "notice": NOTICE,
        "software": {
            "ddmseg": _version("ddmseg"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "input": {
            "name": scan.name,
            "content_sha256": begun.key,
            "shape": list(scan.shape),
            "spacing_mm": [round(s, 4) for s in scan.spacing_mm],
        },
        "model": {
            "name": card.name,
            "weights_sha256": card.checksum,
            "card_sha256": card.digest,
            "steps": card.trained_steps,
        },
        "settings": asdict(begun.options),
        "spent": {
            "steps": answer.steps,
            "samples": answer.samples,
            "sample_weights": [round(float(w), 6) for w in answer.weights],
            "device": memory.device.type,
            "engine": {"name": "torch", "version": torch.__version__},
            "threads": torch.get_num_threads(),
        },
        **({} if answer.choice is None else {"choice": asdict(answer.choice)}),
        "preparation": encoded.prepared.describe(),
        "features_from_cache": encoded.cached,
        "seconds": begun.seconds,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def spent_on(answer: Answer, quality: Quality) -> tuple[list[dict[str, Any]], str]:
    """Return the sets of samples behind an answer, and why there are no more."""
    if answer.choice is not None:
        return [asdict(one) for one in answer.choice.drawn], answer.choice.stopped_because
    one = Drawn(answer.steps, answer.samples, quality.expected_dice)
    return ([asdict(one)] if answer.samples else []), "all was run"
