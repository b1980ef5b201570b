"""Label maps of any tool against a truth: pairs, label ids, scores and what they add up to."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import DdmsegError, ScanError, UsageError
from ddmseg.evaluation.labels import LabelTable
from ddmseg.evaluation.notes import notes_on_labels, notes_on_rounding, notes_on_scores
from ddmseg.evaluation.pairs import Pair, match_label_maps
from ddmseg.evaluation.scores import Agreement, Summary, agreement, summarise
from ddmseg.imaging.labels import structure
from ddmseg.imaging.nifti import read_label_map
from ddmseg.imaging.volume import LabelMap
from ddmseg.maths.case_scores import Score, score_case

GRID_TOLERANCE = 0.1
"""How far the same voxel may lie apart on two grids, as a share of the smallest voxel edge.

Quaternions in NIfTI headers can be off by some 0.08 mm at the rim of a head.
"""
NEARLY_WHOLE = 0.05
"""How far a label id may lie from a whole number: scaled integers round to near, not to whole."""

_COUNTABLE = 2**20
"""Ids below this are found by counting, which is faster than sorting every voxel."""

Progress = Callable[[int, int], None]
"""Told how many pairs are done, of how many."""


@dataclass(frozen=True)
class Evaluation:
    """Everything that one comparison of two folders found.

    Attributes:
        summary: by structure and metric, ``mean`` last; see ``scores.summarise``.
        agreement: of volumes, by structure.
        problems: one line each for what could not be evaluated.
        notes: one line each for what a reader of the scores must know.
    """

    scores: tuple[Score, ...]
    summary: dict[str, dict[str, Summary]]
    agreement: dict[str, Agreement]
    pairs: tuple[Pair, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    predictions: Path
    truth: Path
    labels: str | None


@dataclass(frozen=True)
class _Scored:
    """What one pair gave: scores, ids that either map holds, how far they were from whole ones."""

    scores: list[Score]
    predicted: list[int]
    true: list[int]
    rounded: dict[Path, float]


def evaluate(
    predictions: Path,
    truth: Path,
    *,
    table: LabelTable | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare the label maps of two folders, or two files, pair by pair.

    Without a table every id above 0 is a structure that any map holds. What fails becomes
    a problem; the other pairs are evaluated all the same.

    Raises:
        ScanError: when either side holds no label map.
    """
    pairs, problems = match_label_maps(predictions, truth)
    done: dict[Pair, _Scored] = {}
    report = progress or (lambda number, of: None)
    for number, pair in enumerate(pairs):
        report(number, len(pairs))
        try:
            done[pair] = _score_pair(pair, table)
        except DdmsegError as error:
            problems.append(f"{pair.case}: {' '.join(str(error).split())}")
    report(len(pairs), len(pairs))
    by_case = {pair.case: scored.scores for pair, scored in done.items()}
    scores = _completed(by_case) if table is None else list(itertools.chain(*by_case.values()))
    predicted = Counter(index for scored in done.values() for index in scored.predicted)
    true = Counter(index for scored in done.values() for index in scored.true)
    rounded = {path: off for scored in done.values() for path, off in scored.rounded.items()}
    notes = [*notes_on_rounding(rounded), *notes_on_labels(predicted, true, table, len(done))]
    return Evaluation(
        scores=tuple(scores),
        summary=summarise(scores),
        agreement=agreement(scores),
        pairs=tuple(done),
        problems=tuple(problems),
        notes=(*notes, *notes_on_scores(scores)),
        predictions=predictions,
        truth=truth,
        labels=None if table is None else table.name,
    )


def check_same_grid(prediction: LabelMap, truth: LabelMap) -> None:
    """Refuse two label maps whose voxels are not the same places, by a ScanError.

    Shapes must be equal, and no voxel may lie further apart than a tenth of the smallest edge.
    """
    advice = "bring the prediction to the grid of the truth first, with nearest neighbours"
    if prediction.shape != truth.shape:
        shapes = [" x ".join(map(str, labels.shape)) for labels in (prediction, truth)]
        raise ScanError(
            f"prediction of {shapes[0]} voxels and truth of {shapes[1]}: different grids; {advice}"
        )
    corners = np.array([(*c, 1) for c in itertools.product(*((0, n - 1) for n in truth.shape))])
    moved = (corners @ (prediction.affine - truth.affine).T)[:, :3]
    apart = float(np.linalg.norm(moved, axis=1).max())
    allowed = GRID_TOLERANCE * min(truth.spacing_mm)
    if apart > allowed:
        raise ScanError(
            f"prediction and truth have affines up to {apart:.3g} mm apart, allowed are "
            f"{allowed:.2g} mm (a tenth of a voxel): different grids; {advice}"
        )


def structure_names(ids: Iterable[int]) -> dict[int, str]:
    """Return a name for each id: FreeSurfer's, or ``label 7`` where these are another's.

    FreeSurfer's volumes never hold 1, with which most other protocols begin, and most of
    their ids are in the table that ddmseg ships.

    >>> structure_names([2, 41, 1002]), structure_names([1, 2])
    ({2: 'Left-Cerebral-White-Matter', 41: 'Right-Cerebral-White-Matter', 1002: 'label 1002'}, \
{1: 'label 1', 2: 'label 2'})
    """
    found, known = sorted(set(ids)), {}
    for index in found:
        with contextlib.suppress(UsageError):
            known[index] = structure(index).name
    if 1 in found or 2 * len(known) <= len(found):
        known = {}
    return {index: known.get(index, f"label {index}") for index in found}


def _score_pair(pair: Pair, table: LabelTable | None) -> _Scored:
    rounded: dict[Path, float] = {}
    prediction, truth = (
        read_label_map(path, within=NEARLY_WHOLE, tell=partial(rounded.__setitem__, path))
        for path in (pair.prediction, pair.truth)
    )
    check_same_grid(prediction, truth)
    reference = truth.data
    predicted, true = _present(prediction.data, "prediction"), _present(reference, "truth")
    score = partial(score_case, pair.case, spacing_mm=truth.spacing_mm)
    if table is None:
        names = {index: str(index) for index in sorted({*predicted, *true})}
        return _Scored(score(prediction.data, reference, names), predicted, true, rounded)
    if table.prepare_truth is not None:
        reference = table.prepare_truth(reference)
        true = _present(reference, "truth")
    rows: dict[str, Score] = {}
    for layer in table.layers():
        ours = _merged(prediction.data, {i: item.index for item in layer for i in item.prediction})
        theirs = _merged(reference, {i: item.index for item in layer for i in item.truth})
        found = score(ours, theirs, {item.index: item.name for item in layer})
        rows |= {row.structure: row for row in found}
    return _Scored([rows[item.name] for item in table.structures], predicted, true, rounded)


def _present(labels: NDArray[Any], side: str) -> list[int]:
    """Return the ids of a label map, background left out; negative ones are refused."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        raise ScanError(f"the {side} holds the label id {low}; ids must be at least 0")
    if high < _COUNTABLE:
        found = np.flatnonzero(np.bincount(labels.ravel(order="K"), minlength=1))
    else:
        found = np.unique(labels)
    return [int(index) for index in found if index]


def _merged(labels: NDArray[Any], mapping: Mapping[int, int]) -> NDArray[np.int64]:
    """Return the image of each id under the mapping; ids that it does not name become 0."""
    sources = np.array(sorted(mapping), dtype=np.int64)
    targets = np.array([mapping[index] for index in sources.tolist()], dtype=np.int64)
    place = np.searchsorted(sources, labels).clip(max=len(sources) - 1)
    return np.where(sources[place] == labels, targets[place], 0)


def _completed(cases: Mapping[str, Sequence[Score]]) -> list[Score]:
    """Join the scores of all cases, name the structures and add those absent from a case.

    A structure that only other patients have is in neither map here: it is undefined.
    """
    names = structure_names(score.index for scores in cases.values() for score in scores)
    full = []
    for case, scores in cases.items():
        found = {score.index: score for score in scores}
        for index, name in names.items():
            absent = Score(case, name, index, *(math.nan,) * 5, 0.0, 0.0)
            full.append(replace(found.get(index, absent), structure=name))
    return full
