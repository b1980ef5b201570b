"""Train and test one row of a table in one fold, resumable at any time."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ddmseg.models.checkpoint import replace_file
from ddmseg_lab.comparison.foreign_python import NNUNET, require_python
from ddmseg_lab.comparison.inter_intra import row_source
from ddmseg_lab.comparison.nnunet.adapter import NnunetRow
from ddmseg_lab.comparison.plan import TABLE_FILE, Plan
from ddmseg_lab.comparison.predict import Tested, score_apart
from ddmseg_lab.comparison.record import CURVE_FILE, Record, read_record, write_record
from ddmseg_lab.comparison.runs import Report, plain_settings, reads_as, trained_run
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
        for member in plan.lenders(row)
        if member in lent
    )


def run_row(
    plan: Plan, row: str, fold: str, places: Places, *, max_minutes: float = math.inf,
    report: Report | None = None,
) -> Record:  # fmt: skip
    """Train what the row needs and has not, predict and score its test subjects."""
    settings = plan.settings(row, fold)
    if settings.row.adapter:
        python = require_python(NNUNET, places.nnunet_python)
        nnunet = NnunetRow(settings, places.work / row / fold, places.data, python)
        found = nnunet.run(f"{row}, {fold}", max_minutes=max_minutes, report=report)
    else:
        found = _by_networks(plan, row, fold, places, max_minutes, report)
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


def _by_networks(
    plan: Plan, row: str, fold: str, places: Places, minutes: float, report: Report | None
) -> Tested:
    """Train and test networks of this package: the row's own, borrowed, or several."""
    deadline = time.monotonic() + 60 * minutes
    settings = plan.settings(row, fold)
    lenders = plan.lenders(row)
    trained = {member: plan.settings(member, fold) for member in lenders or (row,)}
    runs = []
    for member, own in trained.items():
        left, folder = (deadline - time.monotonic()) / 60, places.work / member / fold
        runs.append(
            trained_run(own, folder, places.others, places.data, max_minutes=left, report=report)
        )
    # Members answer by their own settings; borrowed weights by the borrower's.
    answering = list(trained.values()) if settings.row.members else [settings] * len(runs)
    result = score_apart(
        [run.weights for run in runs],
        [json.dumps(plain_settings(one)) for one in answering],
        places.data,
        settings.training.threads,
    )
    seconds = sum(run.seconds for run in runs) + result.preparation_seconds
    threads = settings.training.threads or torch.get_num_threads()
    if lenders:
        lent = {TRAINED_AS: {member: plain_settings(one) for member, one in trained.items()}}
        return Tested(result, 0, 0, None, seconds, threads, None, notes=lent)
    (run,) = runs
    seen, curve = run.steps * settings.training.batch, run.weights.with_name(CURVE_FILE)
    return Tested(result, run.best_step, seen, run.best, seconds, threads, curve)
