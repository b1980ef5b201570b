"""What every study shares: its options, its raw rows and its record.

A measurement is one file in ``studies``: the question, how it is measured, its table, picture
and sentences, and what was aimed at. It takes one of two forms. A :class:`~ddmseg_lab.page.Chapter`
makes its page from a summary and is measured by ``python -m ddmseg_lab.studies.NAME``; a
:class:`Study` makes it from raw rows and is measured by ``ddmseg study NAME``. Both keep rows by
weights and go on where they stopped.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from ddmseg.datasets.case import DATA_VARIABLE
from ddmseg.datasets.source import LabelledSource
from ddmseg.datasets.sources import labelled_source
from ddmseg.datasets.subject import Subject
from ddmseg.errors import CheckpointError, DdmsegError, ScanError, UsageError
from ddmseg.evaluation.scores import per_patient
from ddmseg.inference.options import SegmentOptions
from ddmseg.maths.case_scores import score_case
from ddmseg.models.available_memory import keep_freed_memory
from ddmseg.models.checkpoint import Card, load_weights
from ddmseg.models.settings import Settings
from ddmseg.models.settings_reader import settings_from_dict, settings_to_dict
from ddmseg.models.zoo import model_path
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.randomness import seeded
from ddmseg_lab.folders import RESULTS, Output
from ddmseg_lab.page import Claim
from ddmseg_lab.provenance import commit, versions
from ddmseg_lab.provenance import describe_machine as describe_machine
from ddmseg_lab.provenance import describe_model as describe_model
from ddmseg_lab.rows import Row, Rows, read_typed
from ddmseg_lab.table import (
    LETTERS,
    SUBJECT,
    WEIGHTS,
    RawTable,
    read_records,
    write_record,
    write_summary,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from torch import Generator

T = TypeVar("T")
SAMPLING_SEED = SegmentOptions.seed  # of the noise of samples
SEED = 0  # of all noise of a :class:`Study`; subject number n draws from ``seeded(SEED, n)``
RAW_FILE, RECORD_FILE = "raw.tsv", "run.json"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that every measuring command has."""

    data: str | None = None
    """Folder that holds the data sets (else the variable DDMSEG_DATA)."""
    output: Output = RESULTS
    """Folder for the raw figures and their summary."""
    cases: int | None = None
    """Measure only the first so many cases of each set."""
    fresh: bool = False
    """Measure everything anew instead of going on where an earlier run stopped."""

    def raw_table(self, name: str, columns: Sequence[str], cards: Sequence[Card]) -> RawTable:
        """Open ``results/NAME.tsv`` with the rows of these weights."""
        weights = [short_checksum(card) for card in cards]
        return RawTable(self.output / f"{name}.tsv", columns, weights, fresh=self.fresh)

    def write_summary(
        self,
        name: str,
        cards: Mapping[str, Card],
        summary: Mapping[str, Any],
        *,
        seed: int | None = None,
    ) -> None:
        """Write ``results/NAME.json``: weights, machine, and what the rows add up to."""
        models = {key: describe_model(card) for key, card in cards.items()}
        whole = {"models": models, "machine": describe_machine(), **summary}
        write_summary(self.output / f"{name}.json", whole, seed=seed)


@dataclass(frozen=True, kw_only=True)
class ModelOptions(Options):
    """Options of a command that measures one model."""

    model: str = "anatomy"
    """Name of a shipped model, or a .safetensors file with its card."""


def run_command(options: type[T], run: Callable[[T], None], *, description: str) -> None:
    """Read the options, run, and turn one of our errors into one line and an exit code."""
    import tyro

    chosen = tyro.cli(options, description=description)
    commit()  # of the code as it was loaded, whatever is committed meanwhile
    keep_freed_memory()
    try:
        run(chosen)
    except DdmsegError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def data_at_hand(data: str | None) -> str | None:
    """Return the folder of the data sets: the one named, else what DDMSEG_DATA says, else None."""
    return data or os.environ.get(DATA_VARIABLE) or None


def say(line: str) -> None:
    """Print how far the run is."""
    print(line, flush=True)


def short_checksum(card: Card) -> str:
    """Return enough of the weights' checksum to tell models apart."""
    return card.checksum[:LETTERS]


@dataclass(frozen=True)
class Trained:
    """A trained model with diffusion in eval mode, its card, and the scans to measure it on."""

    model: DiscrepancyDiffusionSegmenter
    card: Card
    settings: Settings
    source: LabelledSource

    def score(self, subject: Subject, labels: NDArray[Any]) -> dict[str, float]:
        """Return ``dice`` and ``hd95_mm``, means over structures, and how many are ``missed``.

        A missed structure counts as Dice 0 and is left out of the distance.
        """
        name, truth, spacing = subject.identifier, subject.labels.numpy(), subject.spacing_mm
        scores = score_case(name, labels, truth, self.source.structures, spacing_mm=spacing)
        found = {metric: per_patient(scores, metric)[name] for metric in ("dice", "hd95_mm")}
        return {**found, "missed": float(sum(score.hd95_mm == float("inf") for score in scores))}


def open_model(name: str, data: str | None) -> Trained:
    """Load a model with diffusion, by name or path, and the test scans it is for."""
    path = model_path(name)
    model, card = load_weights(path)
    if model.denoiser is None:
        raise CheckpointError(f"{path}: a plain network without diffusion; give one with it")
    if model.dims != 3:
        raise CheckpointError(f"{path}: a network of slices; give one in 3-D")
    settings = settings_from_dict(Settings, card.settings)
    return Trained(model, card, settings, labelled_source(settings.data, data))


Measure = Callable[[Trained, Subject, int], Iterator[Row]]
"""``measure(trained, subject, number)`` yields the rows of one subject."""
Report = Callable[[int, int], None]  # gets how many subjects are done, of how many


@dataclass(frozen=True)
class Study:
    """One question and how it is answered, from the rows of each subject to page and picture."""

    name: str
    question: str
    words: tuple[str, ...]
    """Columns of the rows that hold words, the conditions."""
    numbers: tuple[str, ...]
    """Columns that hold numbers; NaN where there is nothing to measure."""
    measure: Measure
    parts: tuple[Callable[[Rows], Iterator[str]], ...]
    """What yields the paragraphs and tables of the page, in this order."""
    draw: Callable[[Rows, Figure], None]
    caption: str
    inches: tuple[float, float] = (9.0, 3.8)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the rows depend on beside the weights; when it changes, they are old."""
    claims: Callable[[Rows], list[Claim]] = lambda _: []
    """What was aimed at; beside nothing where there are no rows."""

    def page(self, rows: Rows) -> str:
        """Return what the rows say, as Markdown."""
        return "\n\n".join(text for part in self.parts for text in part(rows))

    def file(self, results: Path, name: str = RAW_FILE) -> Path:
        """Return the file of the study's rows below a folder of results, or of its record."""
        return results / "study" / self.name / name

    def table(self, results: Path) -> RawTable:
        """Open the rows of all models, to go on with them."""
        columns = (WEIGHTS, SUBJECT, *self.words, *self.numbers)
        return RawTable(self.file(results), columns, weights=None)

    def rows(self, results: Path, card: Card) -> Rows:
        """Return the rows that were measured with the weights of a card."""
        rows = read_typed(self.file(results), self.words, self.numbers)
        return rows.where(**{WEIGHTS: short_checksum(card)})


def noise_of(number: int) -> Generator:
    """Return the generator of a subject's noise; every condition of it starts from the same."""
    return seeded(SEED, number)


def measure_study(
    study: Study,
    trained: Trained,
    results: Path,
    *,
    cases: int | None = None,
    report: Report | None = None,
) -> list[str]:
    """Measure the test subjects that have no rows yet, the first ``cases`` or all.

    Rows measured with other settings of the study are dropped first. Returns one line for each
    subject that could not be measured.
    """
    if cases is not None and cases < 1:
        raise UsageError(f"cases: got {cases}; it must be at least 1")
    weights, record = short_checksum(trained.card), study.file(results, RECORD_FILE)
    sampling = settings_to_dict(trained.settings.sampling)
    kept = {"study": dict(study.settings), "sampling": sampling, "seed": SEED}
    settings = json.loads(json.dumps(kept))  # as they come back from the file
    done = set(study.rows(results, trained.card).subjects)
    raw = study.table(results)
    if read_records(record).get(weights, {}).get("settings") != settings:
        raw.forget(weights)
        done = set()
    names = trained.source.split()["test"][:cases]
    if all(name in done for name in names):
        return []
    write_record(record, weights, _record(study, trained, settings))
    problems = []
    # The number fixes the noise, whatever was measured before.
    for number, subject in islice(enumerate(trained.source.subjects("test")), cases):
        if subject.identifier in done:
            continue
        try:
            with torch.inference_mode():
                rows = list(study.measure(trained, subject, number))
        except ScanError as error:
            problems.append(f"{subject.identifier}: {error}")
            continue
        raw.add({WEIGHTS: weights, SUBJECT: subject.identifier, **row} for row in rows)
        if report is not None:
            report(number + 1, len(names))
    return problems


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
