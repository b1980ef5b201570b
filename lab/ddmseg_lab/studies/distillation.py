"""Students against their teachers: Dice, calibration, size and processor time.

    python -m ddmseg_lab.studies.distillation --students runs/hippocampus_light/best.safetensors

Student and teacher segment the same scans, file to labels on the file's own grid: the test
crops of the hippocampus, or MALC2012 for models of the whole head, which no training has
seen. ``fast`` is the coarse head, ``diffusion`` the steps and samples of each model's own
card. The teacher is the one that the student's card names. Writes
``results/distillation.tsv`` (one row a scan, model and mode) and
``results/distillation.json``; a stopped run goes on. Students of earlier runs stay in both,
unless their teacher has other weights by now or ``--fresh`` is given.
"""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ddmseg.datasets import hippocampus
from ddmseg.datasets.case import Case
from ddmseg.errors import UsageError
from ddmseg.inference.model_stages import ModelStages
from ddmseg.inference.segmenter import Segmenter
from ddmseg.models.checkpoint import Card, load_weights
from ddmseg.models.settings import Settings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.models.zoo import model_path
from ddmseg_lab.bench.summary import median_range
from ddmseg_lab.scans import CROPS, HEADS, ScanSet, calibration_error, mean_dice
from ddmseg_lab.statistics_text import Pairs, group_interval, mean_by_group, mean_interval
from ddmseg_lab.study import (
    SAMPLING_SEED,
    Options,
    describe_machine,
    describe_model,
    run_command,
    say,
    short_checksum,
)
from ddmseg_lab.table import RawTable, numbers, read_summary, write_summary

MODES = ("fast", "diffusion")
COMPARISONS = (("fast", "fast"), ("diffusion", "diffusion"), ("fast", "diffusion"))
"""Mode of the student, and of the teacher that it is held against."""
COLUMNS = (
    *("weights", "set", "split", "case", "person", "mode"),
    *("dice", "ece", "expected_dice", "processor_seconds"),
)


@dataclass(frozen=True, kw_only=True)
class Arguments(Options):
    """Options of this command; ``--cases`` counts in each split."""

    students: tuple[str, ...]
    """Names of shipped models or .safetensors files, each with its card."""


SPLITS = {CROPS.name: {"test": "test"}, HEADS.name: {"development": "validation", "test": "test"}}
"""What each set is measured on: how the record calls a split, and how the split file does."""


@dataclass(frozen=True)
class Model:
    """A student or a teacher, ready to segment."""

    segmenter: Segmenter
    parameters: int

    @classmethod
    def load(cls, name: str) -> Model:
        """Load a shipped model by name or a trained one by path."""
        model, card = load_weights(model_path(name))
        if model.denoiser is None:
            raise UsageError(f"{name}: a plain network without diffusion; distil one with it")
        return cls(Segmenter(ModelStages(model, card)), sum(w.numel() for w in model.parameters()))

    @property
    def card(self) -> Card:
        """Of its weights."""
        return self.segmenter.card

    @property
    def weights(self) -> str:
        """Their checksum, shortened."""
        return short_checksum(self.card)

    def describe(self) -> dict[str, Any]:
        """Return what names the weights, and what they cost to keep."""
        own = settings_from_dict(Settings, self.card.settings).sampling
        sampling = {"steps": own.steps, "samples": own.samples}
        return {**describe_model(self.card), "parameters": self.parameters, **sampling}


def teacher_of(student: Card) -> str:
    """Return the name or path of the teacher, as the student's settings give it."""
    if not student.teacher:
        raise UsageError(f"{student.name}: its card names no teacher; give a distilled model")
    name = settings_from_dict(Settings, student.settings).distillation.teacher
    _, card = load_weights(model_path(name))
    if card.checksum != student.teacher["checksum"]:
        raise UsageError(
            f"{student.name}: was taught by other weights of {student.teacher['name']} "
            f"({student.teacher['checksum'][:12]}) than {name} has now ({card.checksum[:12]}); "
            "distil it anew"
        )
    return name


def scan_set(card: Card) -> ScanSet:
    """Return the scans that a model can be measured on."""
    return CROPS if card.settings["data"]["kind"] == hippocampus.NAME else HEADS


def measure(model: Model, tests: ScanSet, split: str, case: Case, mode: str) -> dict[str, Any]:
    """Segment one scan and score the prediction."""
    truth = tests.truth(case)
    start = time.process_time()
    result = model.segmenter(case.images[0], mode=mode)
    seconds = time.process_time() - start
    # Once more for the probabilities, which a user need not wait for.
    detailed = model.segmenter(case.images[0], mode=mode, raw=True, probabilities=True)
    assert detailed.probabilities is not None  # asked for
    row = {
        "weights": model.weights,
        "set": tests.name,
        "split": split,
        "case": case.identifier,
        "person": case.group,
        "mode": mode,
        "dice": mean_dice(result.labels.data, truth, tests.structures),
        "ece": calibration_error(
            detailed.probabilities, detailed.probability_labels, truth, tests.structures
        ),
        "expected_dice": result.quality.expected_dice,
        "processor_seconds": seconds,
    }
    say(f"{case.identifier}  {model.card.name}  {mode:<9}  {row['dice']:.3f}  {seconds:.1f} s")
    return row


def compare(student: list[dict[str, str]], teacher: list[dict[str, str]]) -> dict[str, Any]:
    """Return a student's figures beside its teacher's on the same scans, by person."""
    ours, theirs = ({row["case"]: row for row in rows} for rows in (student, teacher))
    cases = sorted(ours)
    persons = [ours[case]["person"] for case in cases]

    def by_person(name: str) -> Pairs:
        each = (numbers([of[case] for case in cases], name) for of in (ours, theirs))
        return np.column_stack([mean_by_group(values, persons) for values in each])

    found: dict[str, Any] = {"cases": len(cases)}
    for name in ("dice", "ece"):
        ours_by_person, theirs_by_person = by_person(name).T
        found[f"student_{name}"] = mean_interval(ours_by_person.tolist())
        found[f"teacher_{name}"] = mean_interval(theirs_by_person.tolist())
        found[f"{name}_difference"] = mean_interval((ours_by_person - theirs_by_person).tolist())
    found["share_of_dice"] = group_interval(_share, by_person("dice"), sorted(set(persons)))
    seconds = by_person("processor_seconds")
    for column, who in enumerate(("student", "teacher")):
        found[f"{who}_processor_seconds"] = median_range(seconds[:, column].tolist())
    found["times_cheaper"] = float(np.divide(*np.median(seconds, axis=0)[::-1]))
    return found


def _share(pairs: Pairs) -> float:
    """Mean Dice of the student over that of its teacher."""
    return float(pairs[:, 0].mean() / pairs[:, 1].mean())


def summarise(
    table: RawTable, student: Model, teacher: Model, cases: Sequence[Case]
) -> dict[str, Any]:
    """Return every comparison over some scans, all of them measured."""
    wanted = {case.identifier for case in cases}

    def rows(model: Model, mode: str) -> list[dict[str, str]]:
        found = table.select(weights=model.weights, mode=mode)
        return [row for row in found if row["case"] in wanted]

    return {
        f"{own} against {other}": compare(rows(student, own), rows(teacher, other))
        for own, other in COMPARISONS
    }


def earlier(record: Path, students: Sequence[Model], teachers: Container[str]) -> dict[str, Any]:
    """Return what a record says of other students, as long as these weights taught them.

    A trial is measured once and its weights need not be kept. The students at hand are measured
    now, whatever an earlier record says of their names.
    """
    found = (read_summary(record) or {}).get("students", {})
    now = {student.card.name for student in students}
    return {
        name: one
        for name, one in found.items()
        if name not in now and one["teacher"]["weights"] in teachers
    }


def run(options: Arguments) -> None:
    """Measure students and teachers, then sum up."""
    students = [Model.load(name) for name in options.students]
    names = [teacher_of(student.card) for student in students]
    teachers = {name: Model.load(name) for name in dict.fromkeys(names)}
    path = options.output / "distillation.tsv"
    taught = {teacher.weights for teacher in teachers.values()}
    kept = {} if options.fresh else earlier(path.with_suffix(".json"), students, taught)
    used = [student.weights for student in students] + [*taught]
    used += [one["student"]["weights"] for one in kept.values()]
    table = RawTable(path, COLUMNS, used, fresh=options.fresh)
    for student, name in zip(students, names, strict=True):
        teacher, tests = teachers[name], scan_set(student.card)
        splits = {}
        for split, filed in SPLITS[tests.name].items():
            cases = tests.cases(filed, options.data, options.cases)
            for case in cases:
                _measure_missing(table, (student, teacher), tests, split, case)
            splits[split] = summarise(table, student, teacher, cases)
        kept[student.card.name] = {
            "student": student.describe(),
            "teacher": teacher.describe(),
            "method": student.card.settings["distillation"]["method"],
            "set": tests.name,
            "splits": splits,
        }
    summary = {"machine": describe_machine(), "students": kept}
    write_summary(path.with_suffix(".json"), summary, seed=SAMPLING_SEED)


def _measure_missing(
    table: RawTable, models: Sequence[Model], tests: ScanSet, split: str, case: Case
) -> None:
    for model in models:
        for mode in MODES:
            if not table.has(weights=model.weights, case=case.identifier, mode=mode):
                table.add([measure(model, tests, split, case, mode)])


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
