"""How far a volume may be off, by how far samples of the diffusion differ in it.

The log of the true volume is predicted as ``log m + bias -+ factor s``, where m is the mean volume
of the samples and s the spread of its log among them, drawn towards its usual value ``base``: that
of a few samples is hardly known. The three numbers were measured for each structure
(``sample_intervals`` of a card).

Source: Papadopoulos, Gammerman and Vovk 2008 (normalised conformal scores with a base).
"""

from __future__ import annotations

import math

from torch import Tensor

from ddmseg.models.card import Card
from ddmseg.networks.ensemble import Answer

MOST = 3.0
"""Times the usual spread, above which none is believed: few samples give wild ones."""


def log_spread(volumes: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted standard deviation of the log of volumes, without its bias.

    A volume below one voxel counts as one, so that the log is finite.

    Args:
        volumes: voxels in each sample (``n k``).
        weights: of the samples (``n``), sum 1.
    """
    logs, w = volumes.double().clamp_min(1).log(), weights.double()
    squares = w @ (logs - w @ logs).square()
    alike = float(w.square().sum())  # 1 where one sample has all the weight
    return (squares / max(1 - alike, 1e-9)).sqrt()


def drawn_to_usual(spread: float, base: float) -> float:
    """Return a spread drawn towards the usual one: one to four times that."""
    return min(spread, MOST * base) + base


def usual_width(card: Card, name: str) -> float | None:
    """Return how wide an interval by samples usually is, over the volume; None if not known."""
    known = card.calibration.get("sample_intervals", {}).get(name)
    if known is None:
        return None
    bias, factor, base = known
    reach = factor * drawn_to_usual(base, base)
    return math.exp(max(bias + reach, 0.0)) - math.exp(min(bias - reach, 0.0))


def sampled_bounds(
    card: Card, answer: Answer | None, name: str, ids: tuple[int, ...], found: float
) -> tuple[float, float] | None:
    """Return bounds of the log of true over found volume; they hold 0.

    None where the card does not know them, or there are fewer samples than they were measured
    with.

    Args:
        answer: with the volumes of its samples.
        name: of the structure, the pair or the total.
        ids: that make it.
        found: voxels in the labels, on the grid of the samples, above 0.
    """
    known = card.calibration.get("sample_intervals", {}).get(name)
    if known is None or answer is None or answer.samples < card.settings["sampling"]["samples"]:
        return None
    bias, factor, base = known
    places = [card.labels.index(index) for index in ids]
    volumes = answer.sample_volumes[:, places].sum(1, keepdim=True)
    spread = float(log_spread(volumes, answer.weights))
    mean = max(float(answer.weights.double() @ volumes[:, 0].double()), 1.0)
    middle, reach = math.log(mean / found) + bias, factor * drawn_to_usual(spread, base)
    return min(middle - reach, 0.0), max(middle + reach, 0.0)
