"""The last stage before writing: an answer on the model's grid, back to the scan's own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ddmseg.imaging.grid import Grid
from ddmseg.imaging.labels import count_voxels
from ddmseg.imaging.postprocess import clean_labels
from ddmseg.imaging.preprocess import Prepared
from ddmseg.imaging.volume import LabelMap, Volume
from ddmseg.inference.scan_stages import ScanRecord
from ddmseg.models.checkpoint import Card
from ddmseg.quality.assessment import judge, uncertainty_map
from ddmseg.quality.plausibility import empty_slices, implausible, turned, unlike
from ddmseg.quality.quantities import not_measured, pairs, structures, totals
from ddmseg.quality.reasons import reason_code
from ddmseg.quality.segmentation import Segmentation
from ddmseg.quality.standing_out import StandingOut, standing_out
from ddmseg.quality.training_range import (
    Profile,
    intensity_statistics,
    outside_training,
    training_distance,
)
from ddmseg.quality.volumes import Measured


def restored(card: Card, solved: ScanRecord) -> Segmentation:
    """Bring everything back to the scan's own grid; clean, measure and judge it.

    Returns:
        The segmentation, its receipt still empty.
    """
    scan, options, prepared = solved.scan, solved.options, solved.prepared
    answer, assessment = solved.answer, solved.assessment
    assert prepared is not None
    assert answer is not None
    assert assessment is not None
    p = answer.probabilities[0].float().cpu()
    labels = prepared.labels_to_input(p, card.labels)
    cleaned, cleaning = clean_labels(labels, voxel_ml=scan.voxel_ml)
    if options.raw:
        cleaning = cleaning.not_applied()
    else:
        labels = cleaned
    D = assessment.discrepancy[0, 0].float().cpu().numpy()
    fields: dict[str, Any] = {}
    if options.probabilities:
        fields["probabilities"] = prepared.probabilities_to_input(p)
        fields["probability_labels"] = card.labels
    if options.trace and answer.step_labels is not None:
        fields["sample_labels"] = _frames(card, prepared, answer.sample_labels)
        fields["step_labels"] = _frames(card, prepared, answer.step_labels)
    discrepancy = _thousandths(prepared.map_to_input(D))
    found_ml = {index: n * scan.voxel_ml for index, n in count_voxels(labels).items()}
    voxel_ml, expected = prepared.grid.voxel_ml, assessment.expectation
    measured = Measured(card, found_ml, expected, expected_voxel_ml=voxel_ml, answer=answer)
    volumes = [measured.row(one) for one in structures(card.labels)]
    with ThreadPoolExecutor(1) as beside:
        standing = beside.submit(_standing_out, card, scan, labels, discrepancy)
        odd = implausible(card, scan, labels, volumes, cleaning)
        uncertainty = _thousandths(prepared.map_to_input(uncertainty_map(answer)))
        out = standing.result()
    cut = any((reason_code(reason) or {}).get("code") == "brain_cut" for reason in odd)
    left_out = not_measured(scan, labels, card.labels, cut=cut)
    both = pairs(card.labels)
    sums = [one for one in (*both, *totals(card.labels)) if one.name not in left_out]
    sides = [measured.asymmetry(one) for one in both]
    seen = [
        *scan.notes,
        *turned(prepared.steps),
        *empty_slices(prepared.steps),
        *odd,
        *outside_training(card, profile_of(card, solved)),
        *([] if out is None else unlike(out)),
    ]
    distance = training_distance(card, solved.features)
    return Segmentation(
        scan=scan,
        labels=LabelMap(labels, scan.affine, scan.name, scan.header),
        uncertainty=uncertainty,
        discrepancy=discrepancy,
        volumes=volumes,
        quality=judge(card, answer, assessment, seen=seen, cleaning=cleaning, distance=distance),
        receipt={},
        totals=[measured.row(one) for one in sums],
        asymmetries=[side for side in sides if side is not None],
        not_measured=left_out,
        standing_out=out,
        features=solved.features,
        **fields,
    )


def _standing_out(
    card: Card, scan: Volume, labels: NDArray[np.int32], discrepancy: NDArray[np.float32]
) -> StandingOut | None:
    """Return what stands out; None where the card does not say what is usual."""
    usual = card.calibration.get("standing_out")
    if not usual:
        return None
    sigma_D, grid = float(card.settings["loss"]["temperature"]), Grid(scan.shape, scan.affine)
    return standing_out(discrepancy, scan.data, labels, usual, grid, temperature=sigma_D)


def _frames(card: Card, prepared: Prepared, labels: Tensor) -> NDArray[np.int32]:
    """Bring label maps of the mask's or the model's grid to the scan's (``i j k frame``)."""
    frames = []
    for one in labels.cpu():
        # the mask's grid may be coarser by a whole factor
        for axis, n in enumerate(prepared.grid.shape):
            one = one.repeat_interleave(n // one.shape[axis], dim=axis)
        frames.append(prepared.classes_to_input(one.numpy(), card.labels))
    return np.stack(frames, axis=-1)


def _thousandths(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to 0.001 and keep above 0: digits below that are noise, but would not compress."""
    return np.maximum(np.round(values, 3), 0.0)


def profile_of(card: Card, solved: ScanRecord) -> Profile:
    """Return what a scan looks like to the model."""
    assert solved.prepared is not None
    assert solved.assessment is not None
    classes = solved.assessment.labels[0].cpu().numpy()
    return Profile(intensity_statistics(card, solved.prepared.image, classes), solved.features)
