"""Students against their teachers: Dice, calibration, size and processor time.

    python -m ddmseg_lab.accuracy.distillation --students runs/hippocampus_light/best.safetensors

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
import torch
from numpy.typing import NDArray

from ddmseg.datasets import Case, hippocampus, malc2012, split_cases
from ddmseg.errors import UsageError
from ddmseg.imaging.labels import HIPPOCAMPUS_LABELS, protocol_map, remap
from ddmseg.imaging.nifti import read_label_map
from ddmseg.inference.model_stages import ModelStages
from ddmseg.inference.segmenter import Segmenter
from ddmseg.maths.metrics import dice
from ddmseg.maths.uncertainty import expected_calibration_error
from ddmseg.models.checkpoint import Card, load_weights
from ddmseg.models.settings import Settings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.models.zoo import model_path
from ddmseg_lab.bench.summary import median_range
from ddmseg_lab.measuring import (
    SAMPLING_SEED,
    Options,
    describe_machine,
    describe_model,
    run_command,
    say,
    short_checksum,
)
from ddmseg_lab.records import RawTable, numbers, read_summary, write_summary
from ddmseg_lab.summaries import (
    Pairs,
    group_interval,
    mean_by_group,
    mean_interval,
)

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


@dataclass(frozen=True)
class ScanSet:
    """Scans with a truth, and what of it is scored.

    Attributes:
        name: of the data set.
        splits: how the page calls each split, and how the split file does.
        structures: FreeSurfer ids whose Dice is averaged.
    """

    name: str
    splits: dict[str, str]
    structures: tuple[int, ...]

    def cases(self, split: str, root: str | None) -> list[Case]:
        """Return the scans of a split."""
        listing = {hippocampus.NAME: hippocampus, malc2012.NAME: malc2012}[self.name]
        listed: list[Case] = listing.list_cases(root)
        chosen: list[Case] = split_cases(listed, self.name).require(self.splits[split])
        return chosen

    def truth(self, case: Case) -> NDArray[np.int32]:
        """Return the manual labels of a scan as FreeSurfer ids."""
        assert case.labels is not None  # both sets have labels throughout
        labels = read_label_map(case.labels).data
        if self.name == malc2012.NAME:
            return malc2012.freesurfer_ids(labels)
        return remap(labels, protocol_map(self.name))


CROPS = ScanSet(hippocampus.NAME, {"test": "test"}, HIPPOCAMPUS_LABELS[1:])
HEADS = ScanSet(
    malc2012.NAME, {"development": "validation", "test": "test"}, malc2012.EVALUATION_LABELS
)


@dataclass(frozen=True)
class Model:
    """A student or a teacher, ready to segment."""

    segmenter: Segmenter
    parameters: int

    @classmethod
    def load(cls, name: str) -> Model:
        """Load a shipped model by name or a trained one by path.

        Raises:
            UsageError: for a plain network, which has no discrepancy to judge itself by.
        """
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
        return {
            **describe_model(self.card),
            "parameters": self.parameters,
            "steps": own.steps,
            "samples": own.samples,
        }


def teacher_of(student: Card) -> str:
    """Return the name or path of the teacher, as the student's settings give it.

    Raises:
        UsageError: when the model is no student, or those are other weights by now.
    """
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


def mean_dice(labels: NDArray[Any], truth: NDArray[Any], structures: Sequence[int]) -> float:
    """Return the mean Dice of the structures that either has."""
    return float(np.nanmean([dice(labels == i, truth == i) for i in structures]))


def calibration_error(
    p: NDArray[np.float32], ids: Sequence[int], truth: NDArray[Any], structures: Sequence[int]
) -> float:
    """Return the ECE of the largest probability where answer or truth is a structure scored.

    The background that both agree on would hide everything else.

    Args:
        p: class probabilities (``i j k class``).
        ids: FreeSurfer id of each class.
        truth: FreeSurfer ids.
        structures: ids that are scored.
    """
    named = np.asarray(ids)[p.argmax(-1)]
    judged = np.isin(named, structures) | np.isin(truth, structures)
    confidence = torch.from_numpy(p.max(-1)[judged]).clamp(0, 1)
    return expected_calibration_error(confidence, torch.from_numpy((named == truth)[judged]))


def measure(model: Model, tests: ScanSet, split: str, case: Case, mode: str) -> dict[str, Any]:
    """Segment one scan and score the answer."""
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
        pairs = by_person(name)
        found[f"student_{name}"] = mean_interval(pairs[:, 0].tolist())
        found[f"teacher_{name}"] = mean_interval(pairs[:, 1].tolist())
        found[f"{name}_difference"] = mean_interval((pairs[:, 0] - pairs[:, 1]).tolist())
    found["share_of_dice"] = group_interval(_share, by_person("dice"), sorted(set(persons)))
    seconds = by_person("processor_seconds")
    found["student_processor_seconds"] = median_range(seconds[:, 0].tolist())
    found["teacher_processor_seconds"] = median_range(seconds[:, 1].tolist())
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
    """Return what a record says of other students, as long as it is of the same teachers.

    A trial is measured once and its weights need not be kept.

    Args:
        record: of an earlier run; it may be missing.
        students: measured now, whatever the record says of their names.
        teachers: weights of those that teach today.
    """
    found = (read_summary(record) or {}).get("students", {})
    now = {student.card.name for student in students}
    return {
        name: one
        for name, one in found.items()
        if name not in now and one["teacher"]["weights"] in teachers
    }


def run(arguments: Arguments) -> None:
    """Measure students and teachers, then sum up."""
    students = [Model.load(name) for name in arguments.students]
    names = [teacher_of(student.card) for student in students]
    teachers = {name: Model.load(name) for name in dict.fromkeys(names)}
    path = arguments.output / "distillation.tsv"
    taught = {teacher.weights for teacher in teachers.values()}
    kept = {} if arguments.fresh else earlier(path.with_suffix(".json"), students, taught)
    used = [student.weights for student in students] + [*taught]
    used += [one["student"]["weights"] for one in kept.values()]
    table = RawTable(path, COLUMNS, used, fresh=arguments.fresh)
    summary: dict[str, Any] = {"machine": describe_machine(), "students": kept}
    for student, name in zip(students, names, strict=True):
        teacher, tests = teachers[name], scan_set(student.card)
        splits = {}
        for split in tests.splits:
            cases = tests.cases(split, arguments.data)[: arguments.cases]
            for case in cases:
                _measure_missing(table, (student, teacher), tests, split, case)
            splits[split] = summarise(table, student, teacher, cases)
        summary["students"][student.card.name] = {
            "student": student.describe(),
            "teacher": teacher.describe(),
            "method": student.card.settings["distillation"]["method"],
            "set": tests.name,
            "splits": splits,
        }
    write_summary(path.with_suffix(".json"), summary, seed=SAMPLING_SEED)


def _measure_missing(
    table: RawTable, models: Sequence[Model], tests: ScanSet, split: str, case: Case
) -> None:
    for model in models:
        for mode in MODES:
            if not table.has(weights=model.weights, case=case.identifier, mode=mode):
                table.add([measure(model, tests, split, case, mode)])


COMMAND = "python -m ddmseg_lab.accuracy.distillation --students STUDENT --data DATA"
SPLIT, DIFFUSION, FAST = "test", "diffusion against diffusion", "fast against fast"


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
