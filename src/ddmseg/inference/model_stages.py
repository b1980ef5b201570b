"""One model on one scan: prepare, encode, sample, restore."""

from __future__ import annotations

import platform
from dataclasses import asdict, replace
from importlib import metadata
from typing import Any

import torch

from ddmseg.inference.cache import FeatureCache
from ddmseg.inference.memory import plan_memory
from ddmseg.inference.restoring import restored
from ddmseg.inference.sampling_policy import SamplingPolicy
from ddmseg.inference.scan_encoding import content_hash, encode_scan, mean_features, prepare_scan
from ddmseg.inference.scan_stages import ScanRecord
from ddmseg.messages import NOTICE
from ddmseg.models.card import Card
from ddmseg.networks.blocks import fold_statistics
from ddmseg.networks.ensemble import Answer, Drawn
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.quality.segmentation import Quality, Segmentation


class ModelStages:
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

    def segment(self, begun: ScanRecord) -> Segmentation:
        """Take a scan through the three stages, one after the other."""
        return self.restore(self.solve(self.prepare(begun)))

    @torch.inference_mode()
    def prepare(self, begun: ScanRecord) -> ScanRecord:
        """Bring a scan to the model's grid; ScanError when it is not usable."""
        begun.progress("prepare", 0.0)
        with begun.timed("prepare"):
            key = content_hash(begun.scan)
            prepared = prepare_scan(self.card, begun.scan, multiple=self.model.multiple)
        return replace(begun, key=key, prepared=prepared)

    @torch.inference_mode()
    def solve(self, begun: ScanRecord) -> ScanRecord:
        """Encode and denoise; ScanError when the memory does not do: says how much would."""
        begun = self.plan_memory(begun)
        with begun.timed("encode"):
            encoded = self.encode(begun)
            coarse = self.answering.coarse(encoded)
        if begun.deadline is not None:
            begun.deadline.encoded()
        with begun.timed("denoise"):
            answer, assessment = self.answering.answer(encoded, coarse)
        assert encoded.encoding is not None
        return replace(
            encoded,
            encoding=None,
            answer=answer,
            assessment=assessment,
            features=mean_features(encoded.encoding, coarse[1].labels),
            receipt=_receipt(self.card, encoded, answer),
        )

    @torch.inference_mode()
    def restore(self, solved: ScanRecord) -> Segmentation:
        """Bring everything back to the scan's own grid."""
        assert solved.answer is not None
        solved.progress("restore", 0.0)
        with solved.timed("restore"):
            result = restored(self.card, solved)
        told = dict(solved.receipt)
        if solved.deadline is not None:
            told["budget"] = solved.deadline.record(*_spent_on(solved.answer, result.quality))
        return replace(result, receipt=told)

    def plan_memory(self, begun: ScanRecord) -> ScanRecord:
        """Choose the device that the memory at hand allows; ScanError when none does."""
        assert begun.prepared is not None
        device, memory = plan_memory(
            self.card,
            scan_voxels=begun.scan.data.size,
            grid=begun.prepared.image.shape,
            device=self.device,
            probabilities=begun.options.probabilities,
            samples=begun.options.mode != "fast",
        )
        return replace(begun, device=device, memory=memory)

    def encode(self, begun: ScanRecord, *, cached: bool = True) -> ScanRecord:
        """Run f^I on a prepared scan; unless ``cached`` is False, look into the cache first."""
        model = self.model.to(begun.device)
        return encode_scan(model, self.card, begun, cache=self.cache if cached else None)


def _receipt(card: Card, encoded: ScanRecord, answer: Answer) -> dict[str, Any]:
    """Return what was done, with what, to which scan: enough to do it again, ready for JSON."""
    scan = encoded.scan
    assert encoded.prepared is not None
    assert encoded.device is not None
    return {
        "notice": NOTICE,
        "software": {
            "ddmseg": _version("ddmseg"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "input": {
            "name": scan.name,
            "content_sha256": encoded.key,
            "shape": list(scan.shape),
            "spacing_mm": [round(s, 4) for s in scan.spacing_mm],
        },
        "model": {
            "name": card.name,
            "weights_sha256": card.checksum,
            "card_sha256": card.digest,
            "steps": card.trained_steps,
        },
        "settings": asdict(encoded.options),
        "spent": {
            "steps": answer.steps,
            "samples": answer.samples,
            "sample_weights": [round(float(w), 6) for w in answer.weights],
            "device": encoded.device.type,
            "engine": {"name": "torch", "version": torch.__version__},
            "threads": torch.get_num_threads(),
        },
        **({} if answer.choice is None else {"choice": asdict(answer.choice)}),
        "preparation": encoded.prepared.describe(),
        "features_from_cache": encoded.cached,
        "seconds": encoded.seconds,
        "memory": encoded.memory,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _spent_on(answer: Answer, quality: Quality) -> tuple[list[dict[str, Any]], str]:
    """Return the sets of samples behind an answer, and why there are no more."""
    if answer.choice is not None:
        return [asdict(one) for one in answer.choice.drawn], answer.choice.stopped_because
    one = Drawn(answer.steps, answer.samples, quality.expected_dice)
    return ([asdict(one)] if answer.samples else []), "all was run"
