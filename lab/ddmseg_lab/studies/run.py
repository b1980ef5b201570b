"""Measure a study, subject by subject and resumable, and write its page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ddmseg.datasets.subject import Subject
from ddmseg.errors import ScanError, UsageError
from ddmseg.models.checkpoint import Card, replace_file
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg_lab.provenance import commit, versions
from ddmseg_lab.studies import DEFAULT_MODEL
from ddmseg_lab.studies.figures import save_figure
from ddmseg_lab.studies.findings import counted
from ddmseg_lab.studies.raw import (
    CHECKSUM_LETTERS,
    RAW_FILE,
    RECORD_FILE,
    RawFile,
    read_records,
    write_record,
)
from ddmseg_lab.studies.rows import Rows
from ddmseg_lab.studies.study import SEED, Study, Trained

Report = Callable[[int, int], None]
"""Gets how many subjects are done, of how many."""


@dataclass(frozen=True)
class StudyPlaces:
    """Where a study reads and writes.

    Attributes:
        results: rows and record are kept in ``results / study / NAME``.
        docs: the page and its picture in ``docs / studies``.
    """

    results: Path
    docs: Path

    def raw(self, study: Study) -> RawFile:
        """Open the rows of a study.

        Raises:
            UsageError: when the file there is of another kind.
        """
        path = self.results / "study" / study.name / RAW_FILE
        return RawFile(path, study.words, study.numbers)

    def record(self, study: Study) -> Path:
        """Return the file of a study's record."""
        return self.results / "study" / study.name / RECORD_FILE


def key_of(card: Card) -> str:
    """Return what rows of these weights are kept under."""
    return card.checksum[:CHECKSUM_LETTERS]


def measure_study(
    study: Study,
    trained: Trained,
    places: StudyPlaces,
    *,
    cases: int | None = None,
    report: Report | None = None,
) -> list[str]:
    """Measure the test subjects that have no rows yet.

    Rows measured with other settings of the study are dropped first.

    Args:
        study: what to measure.
        trained: on what.
        places: where the rows are kept.
        cases: only the first so many subjects, at least 1; None takes all.
        report: sees how far it is.

    Returns:
        One line for each subject that could not be measured.

    Raises:
        UsageError: when files in the way are damaged.
        OutputError: when rows cannot be written.
    """
    if cases is not None and cases < 1:
        raise UsageError(f"cases: got {cases}; it must be at least 1")
    weights = key_of(trained.card)
    raw = places.raw(study)
    settings = plain_settings(study, trained)
    before = read_records(places.record(study)).get(weights)
    if before is None or before.get("settings") != settings:
        raw.forget(weights)
    done = set(raw.rows(weights).subjects)
    names = trained.source.split()["test"][:cases]
    missing = [name for name in names if name not in done]
    if not missing:
        return []
    write_record(places.record(study), weights, _record(study, trained, settings))
    problems = []
    for number, subject in _numbered(trained, cases):
        if subject.identifier in done:
            continue
        try:
            with torch.inference_mode():
                rows = list(study.measure(trained, subject, number))
        except ScanError as error:
            problems.append(f"{subject.identifier}: {error}")
            continue
        raw.add(weights, subject.identifier, rows)
        if report is not None:
            report(number + 1, len(names))
    return problems


def plain_settings(study: Study, trained: Trained) -> dict[str, Any]:
    """Return what the rows depend on beside the weights, as JSON gives it back."""
    sampling = settings_to_dict(trained.settings.sampling)
    kept = {"study": dict(study.settings), "sampling": sampling, "seed": SEED}
    plain: dict[str, Any] = json.loads(json.dumps(kept))
    return plain


def write_page(study: Study, card: Card, places: StudyPlaces) -> tuple[Path, str]:
    """Write page and picture from the rows that there are; return the page's path and text.

    Raises:
        UsageError: when nothing has been measured with these weights.
        MissingExtraError: without matplotlib.
    """
    rows = places.raw(study).rows(key_of(card))
    if not len(rows):
        raise UsageError(
            f"{study.name}: nothing has been measured with {card.name} ({key_of(card)}) yet; "
            "leave out --show"
        )
    record = read_records(places.record(study)).get(key_of(card), {})
    folder = places.docs / "studies"
    save_figure(folder / f"{study.name}.png", study.inches, lambda figure: study.draw(rows, figure))
    text = page_text(study, card, rows, record)
    path = folder / f"{study.name}.md"
    replace_file(path, text.encode())
    return path, text


def page_text(study: Study, card: Card, rows: Rows, record: dict[str, Any]) -> str:
    """Return the page: question, where the figures are from, picture, findings."""
    command = f"ddmseg study {study.name}"
    if card.name != DEFAULT_MODEL:
        command += f" --model {card.name}"
    sampling = card.settings["sampling"]
    where = (
        f"Measured on {counted(len(rows.subjects), 'test subject')} of "
        f"`{card.settings['data']['kind']}` with the weights `{card.name}` ({key_of(card)}, "
        f"{card.trained_steps} steps), whose own settings are {sampling['sampler']}, "
        f"{counted(sampling['steps'], 'step')}, {counted(sampling['samples'], 'sample')} and a "
        f"share of {sampling['coarse_share']:g} for the coarse head. Commit "
        f"{record.get('commit', 'unknown')}. Intervals are 95% bootstrap intervals over patients; "
        "p-values are of paired Wilcoxon tests, Holm-corrected. This page is made from "
        f"`results/study/{study.name}/{RAW_FILE}`, with `{RECORD_FILE}` beside it, by"
    )
    parts = [
        f"# Study: {study.name}",
        study.question,
        where,
        f"```\n{command}\n```",
        f"![{study.caption}]({study.name}.png)\n\n_{study.caption}_",
        study.page(rows),
    ]
    return "\n\n".join(parts) + "\n"


def _record(study: Study, trained: Trained, settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "study": study.name,
        "question": study.question,
        "model": trained.card.name,
        "weights": trained.card.checksum,
        "trained_steps": trained.card.trained_steps,
        "settings": settings,
        "split": trained.source.split(),
        "versions": versions(),
        "commit": commit(),
        "threads": torch.get_num_threads(),
    }


def _numbered(trained: Trained, cases: int | None) -> Iterator[tuple[int, Subject]]:
    """Number the test subjects; the number fixes the noise, whatever was measured before."""
    return islice(enumerate(trained.source.subjects("test")), cases)
