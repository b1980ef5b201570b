"""Three rivals for the interval of a volume: what each says of a scan, and what is fitted to it.

Each says of a structure a volume and a spread, which is how unsure it is in units of its own:

- ``constant``: the volume of the labels, in any scan as sure as in any other;
- ``shipped``: the soft volume, and the doubt that the discrepancy gives;
- ``samples``: mean and deviation of the volumes of samples of the diffusion.

A fourth, ``soft``, is made of the second: the soft volume, in any scan as sure as in any other.
One factor for each structure, by split conformal prediction, makes log intervals of these.

Source: Papadopoulos, Gammerman and Vovk 2008 (normalised conformal scores with a base).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ddmseg.inference.scan_encoding import encode_image
from ddmseg.maths.calibration import conformal_bound
from ddmseg.models.checkpoint import Card
from ddmseg.networks.ensemble import Answer, coarse_answer
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.quality.assessment import assess
from ddmseg.quality.volume_intervals import LEAST_SPREAD, MOST_SPREAD, Sizes, holding_the_found
from ddmseg.training.calibration import draw
from ddmseg.training.volume_calibration import COVERAGE, bounds
from ddmseg_lab.studies.volume_scans import Scan
from ddmseg_lab.study import say, short_checksum
from ddmseg_lab.table import RawTable

CONSTANT, SOFT, SHIPPED, SAMPLES = "constant", "soft", "shipped", "samples"
FEWEST_VOXELS = 50.0
"""Of a structure in truth, on the model grid, from which on its volume is judged."""
KEY = ("set", "number", "index")
WORDS, NUMBERS = (*KEY, "name", "subject", "kind"), ("true", "centre", "spread")
COLUMNS = (
    *("weights", "set", "number", "name", "subject", "kind", "rival", "index"),
    *("centre", "spread", "true", "effective", "seconds"),
)
"""Of a table of answers."""
Rows = Sequence[Mapping[str, str]]
Numbers = NDArray[np.float64]
Table = np.recarray[Any, np.dtype[Any]]
Answers = Table
"""What one rival said: ``WORDS`` and ``NUMBERS`` of each scan and structure, volumes in voxels."""


def sizes_of(
    model: DiscrepancyDiffusionSegmenter,
    card: Card,
    encoding: Encoding,
    answer: Answer | None = None,
) -> list[Sizes]:
    """Return what is known of each class by the coarse head, and by samples where there are any."""
    found = assess(model, card, encoding, coarse_answer(encoding)).expectation
    counts = (found.size, found.hits, found.missed, found.soft)
    sizes = [Sizes(*row) for row in zip(*(of.tolist() for of in counts), strict=True)]
    if answer is None:
        return sizes
    shares, drawn = answer.weights.double().tolist(), answer.sample_volumes.double().T.tolist()
    return [replace(of, drawn=d, shares=shares) for of, d in zip(sizes, drawn, strict=True)]


def answers(
    model: DiscrepancyDiffusionSegmenter, card: Card, scan: Scan
) -> Iterator[dict[str, Any]]:
    """Yield a row for each rival and class of which the true voxels are known.

    The number of the scan fixes its noise; seconds are those beyond one encoding.
    """
    image, true = scan.opened(card, multiple=model.multiple)
    with torch.inference_mode():
        encoding, *_ = encode_image(model, image)
        start = time.perf_counter()
        answer = draw(model, card, encoding, seed=scan.number)
        between = time.perf_counter()
        sizes = sizes_of(model, card, encoding, answer)
    seconds = {SAMPLES: between - start, SHIPPED: time.perf_counter() - between}
    effective = 1 / float(answer.weights.double().square().sum())
    for place, index in enumerate(card.labels):
        if not index or math.isnan(true[place]):
            continue
        of = sizes[place]
        said = {
            CONSTANT: (of.size, 1.0, 1.0),
            SHIPPED: (of.soft, of.doubt, 1.0),
            SAMPLES: (of.mean, of.spread, effective),
        }
        for rival, (centre, spread, count) in said.items():
            yield {
                **{"weights": short_checksum(card), **scan.at, "rival": rival, "index": index},
                **{"true": float(true[place]), "centre": centre, "spread": spread},
                **{"effective": round(count, 4), "seconds": round(seconds.get(rival, 0.0), 3)},
            }


def ask(
    table: RawTable, model: DiscrepancyDiffusionSegmenter, card: Card, scans: Iterable[Scan]
) -> None:
    """Ask the rivals about the scans that the table lacks."""
    for scan in scans:
        if not table.has(set=scan.set, number=scan.number):
            table.add(answers(model, card, scan))
            say(f"{scan.set}  {scan.case.identifier}  {scan.kind}")


def answers_of(rows: Rows) -> dict[str, Answers]:
    """Return the answers of each rival about what all were asked, in the same order for all."""
    tables: dict[str, dict[tuple[str, ...], Mapping[str, str]]] = {}
    for row in rows:
        tables.setdefault(row["rival"], {})[tuple(row[name] for name in KEY)] = row
    shared = [
        key
        for key, row in tables[SHIPPED].items()
        if float(row["true"]) >= FEWEST_VOXELS and all(key in of for of in tables.values())
    ]
    found = {rival: _columns([of[key] for key in shared]) for rival, of in tables.items()}
    soft = found[SHIPPED].copy()
    soft.spread = 1.0
    return {SOFT: soft, **found}


def _columns(rows: Rows) -> Answers:
    columns: dict[str, NDArray[Any]] = {n: np.array([row[n] for row in rows]) for n in WORDS}
    columns |= {name: np.array([float(row[name]) for row in rows]) for name in NUMBERS}
    answers = records(columns)
    answers.centre = np.maximum(answers.centre, 1.0)
    return answers


def records(columns: Mapping[str, NDArray[Any]]) -> Table:
    """Return a table whose columns are attributes, and whose rows are chosen as in an array."""
    kinds = [(name, column.dtype) for name, column in columns.items()]
    return np.rec.fromarrays(list(columns.values()), dtype=kinds)


@dataclass(frozen=True)
class Intervals:
    """Log intervals ``middle -+ reach`` of the volumes of ``answers``."""

    answers: Answers
    middle: Numbers
    reach: Numbers

    def where(self, chosen: NDArray[np.bool_]) -> Intervals:
        """Return some of them."""
        answers: Any = self.answers[chosen]  # still a table, which the types of numpy forget
        return Intervals(answers, self.middle[chosen], self.reach[chosen])


def intervals(rival: str, calibration: Answers, asked: Answers) -> Intervals:
    """Return a rival's intervals by what it said of other scans.

    Structures that too few of these show (19 are needed) have none.
    """
    return _known(asked, *_fitted(rival, calibration, asked))


def cross_fitted(rival: str, said: Answers) -> Intervals:
    """Return the intervals of each subject, fitted on all others."""
    found = np.full((2, len(said)), np.nan)
    for subject in np.unique(said.subject):
        here = said.subject == subject
        found[:, here] = _fitted(rival, said[~here], said[here])
    return _known(said, *found)


def _fitted(rival: str, calibration: Answers, asked: Answers) -> Numbers:
    """Return middle and reach; not finite where a structure has none."""
    fit = as_shipped if rival == SHIPPED else by_usual_spread
    shift, reach = np.full((2, len(asked)), np.nan)
    for index in np.unique(calibration.index):
        of, here = calibration[calibration.index == index], asked.index == index
        ratios = np.log(of.true / of.centre)
        shift[here], reach[here] = fit(ratios, of.spread, asked.spread[here])
    return np.stack([np.log(asked.centre) + shift, reach])


def _known(asked: Answers, middle: Numbers, reach: Numbers) -> Intervals:
    return Intervals(asked, middle, reach).where(np.isfinite(reach))


def by_usual_spread(ratios: Numbers, spread: Numbers, asked: Numbers) -> tuple[Any, Numbers]:
    """Return shift and reach, in logs, for spreads that are asked.

    The shift is the median of logs of true over found volume. The reach is in units of the spread
    drawn towards the median one, to one to four times that, since a few answers hardly tell it.
    """
    bias, usual = float(np.median(ratios)), max(float(np.median(spread)), LEAST_SPREAD)

    def scale(values: Numbers) -> Numbers:
        return np.asarray(np.minimum(values, MOST_SPREAD * usual) + usual)

    factor = conformal_bound(np.abs(ratios - bias) / scale(spread), COVERAGE)
    return bias, factor * scale(asked)


def as_shipped(ratios: Numbers, doubts: Numbers, asked: Numbers) -> tuple[Any, Numbers]:
    """Return the same as cards have it: in units of doubt, holding the volume found itself."""
    low, high = holding_the_found(bounds(ratios / doubts) or (-math.inf, math.inf))
    if math.isinf(high):
        return 0.0, np.full(len(asked), np.inf)
    return (low + high) / 2 * asked, (high - low) / 2 * asked
