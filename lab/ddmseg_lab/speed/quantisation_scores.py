"""How an encoding by another engine, or in eight bits, differs from torch's and from the truth.

Against torch all is counted on the model's grid, against the truth on the scan's own, as
``ddmseg_lab.studies`` does. There only structures count that both draw, and for the
calibration the voxels that either gives to one of them: the background that both agree on
would hide everything else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddmseg.datasets import malc2012
from ddmseg.datasets.case import nifti_stem
from ddmseg.errors import UsageError
from ddmseg.imaging.nifti import read_label_map, read_volume
from ddmseg.imaging.preprocess import Prepared
from ddmseg.inference.scan_encoding import prepare_scan
from ddmseg.maths.metrics import dice
from ddmseg.models.checkpoint import Card
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg_lab.scans import calibration_error, mean_dice
from ddmseg_lab.speed.brain import development_brain

SCORES = ("true_dice", "ece")


@dataclass(frozen=True)
class Truth:
    """What a scan truly shows.

    Attributes:
        ids: FreeSurfer id of each voxel of the scan.
        structures: ids that are scored.
        prepared: the scan on the model's grid, and how to undo that.
    """

    ids: NDArray[np.int32]
    structures: tuple[int, ...]
    prepared: Prepared

    def scores(self, encoding: Encoding, labels: tuple[int, ...]) -> dict[str, float]:
        """Return Dice and ECE of what the coarse head says.

        Args:
            encoding: of the prepared scan.
            labels: FreeSurfer id of each class.
        """
        on_grid = torch.softmax(encoding.coarse_logits, dim=1)[0]
        p = self.prepared.probabilities_to_input(on_grid)
        named = np.asarray(labels)[p.argmax(-1)]
        return {
            "true_dice": mean_dice(named, self.ids, self.structures),
            "ece": calibration_error(p, labels, self.ids, self.structures),
        }


@dataclass(frozen=True)
class MeasuredScan:
    """A scan on the model's grid (``b c i j k``), with its truth where there is one."""

    name: str
    image: Tensor
    truth: Truth | None = None

    def scores(self, encoding: Encoding, labels: tuple[int, ...]) -> dict[str, float]:
        """Return the scores against the truth; NaN where it is not known."""
        if self.truth is None:
            return dict.fromkeys(SCORES, math.nan)
        return self.truth.scores(encoding, labels)


def find_scan(
    card: Card, scan: Path | None, labels: Path | None, data: str | None, *, multiple: int
) -> MeasuredScan:
    """Read the scan to measure on and bring it to the model's grid.

    Args:
        card: of the weights.
        scan: a file; None takes a development scan of MALC2012, or the demo scan where no
            data sets are at hand.
        labels: its label map of FreeSurfer ids, on the scan's grid.
        data: folder of the data sets.
        multiple: of which each side of the grid must be one.

    Raises:
        UsageError: for labels without a scan.
    """
    if labels is not None and scan is None:
        raise UsageError("labels: got a label map without its scan; name the scan with --scan")
    of_set = ""
    if scan is not None:
        ids = None if labels is None else read_label_map(labels).data
    elif data is not None:
        of_set, (scan, ids) = f"{malc2012.NAME} ", development_brain(data)
    else:
        scan, ids = Path(str(files("ddmseg") / "demo" / "colin27_t1.nii.gz")), None
    prepared = prepare_scan(card, read_volume(scan), multiple=multiple)
    truth = None if ids is None else truth_of(card, prepared, ids)
    image = torch.from_numpy(prepared.image)[None, None]
    return MeasuredScan(f"{of_set}{nifti_stem(scan)}", image, truth)


def truth_of(card: Card, prepared: Prepared, ids: NDArray[Any]) -> Truth:
    """Return the truth of a scan; scored is what it shows and the model draws.

    Raises:
        UsageError: when the label map is not on the scan's grid.
    """
    if ids.shape != prepared.input_grid.shape:
        raise UsageError(
            f"labels: got a label map of shape {ids.shape}; the scan has "
            f"{prepared.input_grid.shape}; give one on the scan's grid"
        )
    shown = set(np.unique(ids).tolist())
    scored = tuple(index for index in card.labels[1:] if index in shown)
    return Truth(ids.astype(np.int32), scored, prepared)


def differences(
    model: DiscrepancyDiffusionSegmenter, ours: Encoding, theirs: Encoding
) -> dict[str, float]:
    """Return how two encodings of one scan differ in what is made of them.

    ``probability_change`` is the mean change of the winning class's probability over the
    structures; ``discrepancy_change`` the mean change of D there over its mean.
    """
    p, q = (torch.softmax(encoding.coarse_logits, dim=1) for encoding in (ours, theirs))
    labels, others = p.argmax(1), q.argmax(1)
    scores = [
        dice((labels == index).numpy(), (others == index).numpy())
        for index in labels.unique().tolist()  # type: ignore[no-untyped-call]
        if index
    ]
    inside = labels > 0
    won = p.gather(1, labels[:, None])[:, 0]
    change = (won - q.gather(1, labels[:, None])[:, 0]).abs()[inside]
    D, E = (model.discrepancy_map(encoding, labels)[:, 0][inside] for encoding in (ours, theirs))
    return {
        "labels_as_torch": float((labels == others).double().mean()),
        "dice": float(np.mean(scores)) if scores else 1.0,
        "lowest_dice": min(scores, default=1.0),
        "probability_change": float(change.mean()) if inside.any() else 0.0,
        "discrepancy_change": float((D - E).abs().mean() / D.mean()) if inside.any() else 0.0,
    }
