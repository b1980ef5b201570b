"""Train and test one row of a table in one fold, resumable at any time."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ddmseg.models.checkpoint import replace_file
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg_lab.comparison.foreign_python import NNUNET, require_python
from ddmseg_lab.comparison.mapped import row_source
from ddmseg_lab.comparison.nnunet.adapter import NnunetRow
from ddmseg_lab.comparison.plan import TABLE_FILE, Plan
from ddmseg_lab.comparison.predict import RowResult, score_apart
from ddmseg_lab.comparison.record import Record, read_record, write_record
from ddmseg_lab.comparison.runs import Report, Unfinished, plain_settings, reads_as, trained_run
from ddmseg_lab.provenance import commit, versions

TRAINED_AS = "trained_as"
"""Note of a record that uses other rows' weights: the settings they were trained with."""
LEFT_OUT = "left_out"
"""Note of a record of a set some of whose cases are in no split: the reason of each."""


@dataclass(frozen=True)
class Places:
    """Where a table reads and writes.

    Attributes:
        results: records are kept here, small text files; ``results / row / fold``.
        work: states and weights, large; ``work / row / fold``.
        others: states and weights of all tables; an equal training there is not repeated.
        data: folder of the data sets, None for the environment's.
        nnunet_python: Python that has nnunetv2, None for the environment's.
    """

    results: Path
    work: Path
    others: Path
    data: str | None
    nnunet_python: str | None = None


def keep_table(plan: Plan, places: Places) -> None:
    """Put the table's own settings beside its records: the page is made of results alone."""
    replace_file(places.results / TABLE_FILE, (plan.folder / TABLE_FILE).read_bytes())


def is_done(plan: Plan, row: str, fold: str, places: Places) -> bool:
    """Say whether a row has been run with the settings that it and its lenders have now."""
    found = read_record(places.results / row / fold)
    if found is None or not reads_as(found[0].settings, plan.settings(row, fold)):
        return False
    lent = found[0].notes.get(TRAINED_AS, {})
    return all(
        reads_as(lent[member], plan.settings(member, fold))
        for member in _lenders(plan, row)
        if member in lent
    )


def run_row(
    plan: Plan,
    row: str,
    fold: str,
    places: Places,
    *,
    max_minutes: float = math.inf,
    report: Report | None = None,
) -> Record:
    """Train what the row needs and has not, predict and score its test subjects."""
    settings = plan.settings(row, fold)
    answer = _by_nnunet if settings.row.adapter else _by_networks
    found = answer(plan, row, fold, places, max_minutes, report)
    source = row_source(settings.data, places.data)
    left_out = {LEFT_OUT: dict(source.left_out)} if source.left_out else {}
    record = Record(
        table=plan.name,
        row=row,
        fold=fold,
        settings=plain_settings(settings),
        split=source.split(),
        versions={**versions(), **found.versions},
        commit=commit(),
        threads=found.threads,
        parameters=found.result.parameters,
        trained_steps=found.trained_steps,
        samples_seen=found.samples_seen,
        validation_dice=found.validation_dice,
        train_seconds=round(found.train_seconds, 1),
        seconds_a_scan=round(found.result.seconds_a_scan, 4),
        peak_memory_mb=found.result.peak_memory_mb,
        notes={**found.notes, **left_out},
    )
    write_record(places.results / row / fold, record, found.result.scores, found.curve)
    return record


@dataclass(frozen=True)
class _Tested:
    """A row trained and tested; what its record is made of, under the names it has there."""

    result: RowResult
    trained_steps: int
    samples_seen: int
    validation_dice: float | None
    train_seconds: float
    threads: int
    curve: Path | None
    versions: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def _by_networks(
    plan: Plan, row: str, fold: str, places: Places, minutes: float, report: Report | None
) -> _Tested:
    """Train and test networks of this package: the row's own, borrowed, or several."""
    deadline = time.monotonic() + 60 * minutes
    settings = plan.settings(row, fold)
    lenders = _lenders(plan, row)
    members = lenders or (row,)
    runs = []
    for member in members:
        left = (deadline - time.monotonic()) / 60
        folder, own_settings = places.work / member / fold, plan.settings(member, fold)
        runs.append(
            trained_run(
                own_settings, folder, places.others, places.data, max_minutes=left, report=report
            )
        )
    # Members answer by their own settings; borrowed weights by the borrower's.
    answering = [plan.settings(m, fold) if settings.row.members else settings for m in members]
    result = score_apart(
        [run.weights for run in runs],
        [json.dumps(settings_to_dict(one)) for one in answering],
        places.data,
        settings.training.threads,
    )
    own = None if lenders else runs[0]
    lent = {member: plain_settings(plan.settings(member, fold)) for member in lenders}
    return _Tested(
        result,
        trained_steps=own.best_step if own else 0,
        samples_seen=own.steps * settings.training.batch if own else 0,
        validation_dice=own.best if own else None,
        train_seconds=sum(run.seconds for run in runs) + result.preparation_seconds,
        threads=settings.training.threads or torch.get_num_threads(),
        curve=own.weights.with_name("curve.csv") if own else None,
        notes={TRAINED_AS: lent} if lent else {},
    )


def _by_nnunet(
    plan: Plan, row: str, fold: str, places: Places, minutes: float, report: Report | None
) -> _Tested:
    """Have nnU-Net train and test in its own Python."""
    settings = plan.settings(row, fold)
    python = require_python(NNUNET, places.nnunet_python)
    nnunet = NnunetRow(settings, places.work / row / fold, places.data, python)
    training = nnunet.train(max_minutes=minutes, report=report)
    if not training.finished:
        raise Unfinished(
            f"{row}, {fold}: iteration {training.step} of {training.schedule.iterations}"
        )
    return _Tested(
        nnunet.test(),
        trained_steps=training.best_step,
        samples_seen=training.schedule.examples,
        validation_dice=training.best,
        train_seconds=training.seconds,
        threads=training.threads,
        curve=training.curve,
        versions={"nnunetv2": training.versions["nnunetv2"]},
        notes=training.notes,
    )


def _lenders(plan: Plan, row: str) -> tuple[str, ...]:
    """Return the rows whose weights a row uses, none when it has its own."""
    own = plan.rows[row].row
    return own.members or ((own.weights_of,) if own.weights_of else ())
