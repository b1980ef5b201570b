"""nnU-Net from the settings of a row to its scores, resumable at each stage and epoch.

Its training is cut to the budget of the other rows; its stages run in its own Python.
"""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ddmseg.datasets.sources import labelled_source
from ddmseg.errors import TrainingError
from ddmseg.maths.case_scores import Score, score_case
from ddmseg.models.checkpoint import replace_file
from ddmseg.models.device import find_device
from ddmseg.models.settings import Settings
from ddmseg.training.precision import find_precision
from ddmseg.training.trainer import Progress
from ddmseg_lab.comparison.foreign_python import (
    NNUNET,
    DriverError,
    Listener,
    foreign_environment,
    read_versions,
    run_driver,
)
from ddmseg_lab.comparison.nnunet.raw_data import NnunetFolder, read_predictions, write_raw_data
from ddmseg_lab.comparison.plan import OF_IMAGES
from ddmseg_lab.comparison.predict import RowResult, Tested
from ddmseg_lab.comparison.runs import Report, Unfinished

FOLDER = "nnunet"
"""Of all that nnU-Net leaves, below the row's own."""
BEGUN_FILE = "begun.json"
CURVE_FILE = "curve.csv"
ITERATIONS_PER_EPOCH = 10
"""nnU-Net's own 250 would be one epoch or none; its learning rate falls once per epoch."""
VALIDATION_SHARE = 5
"""nnU-Net validates on a batch for every five it trains on (250 and 50)."""
OWN_ITERATIONS = 1000 * 250
"""What nnU-Net does by default."""
DRIVER = Path(__file__).with_name("driver.py")
LOG_FILE = "nnunet.log"
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
"""What ``keep_freed_memory`` does for the other rows, for a training yet to start.

Source: mallopt(3), environment variables.
"""


@dataclass(frozen=True)
class Schedule:
    """A training cut short: iterations of each epoch, and batches that each is validated on."""

    batch: int
    epochs: tuple[int, ...]
    validation_iterations: int

    @property
    def iterations(self) -> int:
        """Of the whole training."""
        return sum(self.epochs)

    @property
    def examples(self) -> int:
        """Seen in the whole training."""
        return self.iterations * self.batch


def cut_schedule(examples: int, batch: int) -> Schedule:
    """Return the longest training that sees no more than so many examples, one batch at least.

    Epochs differ by one iteration at most.

    >>> schedule = cut_schedule(3000, 9)
    >>> schedule.iterations, schedule.examples, len(schedule.epochs), max(schedule.epochs)
    (333, 2997, 33, 11)
    """
    iterations = max(1, examples // batch)
    count = max(1, iterations // ITERATIONS_PER_EPOCH)
    ends = [iterations * n // count for n in range(count + 1)]
    epochs = tuple(end - start for start, end in pairwise(ends))
    return Schedule(batch, epochs, -(-max(epochs) // VALIDATION_SHARE))


def run_stage(
    python: str, stage: str, job: Mapping[str, Any], folder: Path, variables: Mapping[str, str],
    listener: Listener | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run a stage of the driver, ``prepare``, ``train`` or ``predict``; return what it found.

    What nnU-Net prints goes to ``nnunet.log`` in the folder of the row.

    Raises:
        TrainingError: when the stage fails.
    """
    threads, log = int(job["threads"]), folder / LOG_FILE
    environment = foreign_environment(threads) | {"nnUNet_compile": "F", "nnUNet_n_proc_DA": "1"}
    environment |= variables
    if threads:
        environment["nnUNet_def_n_proc"] = str(threads)
    if stage == "train":
        environment |= KEEP_FREED_MEMORY
    try:
        return run_driver([python, str(DRIVER), stage], job, log, environment, listener)
    except DriverError as error:
        raise TrainingError(f"nnU-Net: {stage} {error}; {log} has the whole story") from error


class NnunetRow:
    """One row in one fold, by a Python that has nnunetv2.

    Its large files go to ``nnunet`` in the row's folder.
    """

    def __init__(self, settings: Settings, folder: Path, data: str | None, python: str) -> None:
        self.settings = settings
        self.versions = read_versions(NNUNET, python)
        self._python = python
        self._source = labelled_source(settings.data, data)
        self._folder = NnunetFolder(folder / FOLDER, f"Dataset001_{settings.data.kind}")

    def run(self, name: str, *, max_minutes: float, report: Report | None = None) -> Tested:
        """Do what is left of preparing and training, at least one epoch; then test.

        Raises:
            Unfinished: when the time was over before the training, with the row's name.
        """
        deadline = time.monotonic() + 60 * max_minutes
        plan, training = self._prepared(), self.settings.training
        schedule = cut_schedule(training.steps * training.batch, plan["batch"])
        found = self._left_by("train")
        if found is None or found["step"] < schedule.iterations:
            found = self._train(schedule, deadline, report)
        if found["step"] < schedule.iterations:
            raise Unfinished(f"{name}: iteration {found['step']} of {schedule.iterations}")
        return Tested(
            self._test(found["parameters"]),
            trained_steps=found["best_step"],
            samples_seen=schedule.examples,
            validation_dice=found["best"],
            train_seconds=found["seconds"],
            threads=found["threads"],
            curve=_write_curve(self._folder.path / CURVE_FILE, found["curve"]),
            versions={"nnunetv2": self.versions["nnunetv2"]},
            notes={"nnunet": self._notes(plan, schedule, found)},
        )

    def _prepared(self) -> dict[str, Any]:
        """Return nnU-Net's plan, after writing its data and having it made where need be."""
        identity = self._identity()
        path = self._folder.path
        if self._left_by("begun") != identity:
            shutil.rmtree(path, ignore_errors=True)
            replace_file(path / BEGUN_FILE, (json.dumps(identity, indent=1) + "\n").encode())
        plan = self._left_by("prepare")
        if plan is None:
            write_raw_data(self._source, self._folder)
            plan = self._run("prepare", {})
        return plan

    def _identity(self) -> dict[str, Any]:
        """What a training that is gone on with must share, as JSON gives it back."""
        training = self.settings.training
        identity = {
            "images": {name: getattr(self.settings.data, name) for name in OF_IMAGES},
            "split": self._source.split(),
            "configuration": self.settings.row.configuration,
            "examples": training.steps * training.batch,
            "seed": training.seed,
            "versions": self.versions,
        }
        plain: dict[str, Any] = json.loads(json.dumps(identity))
        return plain

    def _train(self, schedule: Schedule, deadline: float, report: Report | None) -> dict[str, Any]:
        left = max(deadline - time.monotonic(), 0.0) / 60
        # the precision of the training so far, or what this machine is faster at
        before = (self._left_by("train") or {}).get("precision")
        training = self.settings.training
        job = {
            "epochs": schedule.epochs,
            "validation_iterations": schedule.validation_iterations,
            "precision": find_precision(
                training.precision, find_device(training.device), before=before
            ),
            "minutes": None if math.isinf(left) else left,
        }

        def forward(now: dict[str, Any]) -> None:
            if report is not None:
                report(Progress(now["step"], now["steps"], now["loss"], None))

        return self._run("train", job, forward)

    def _test(self, parameters: int) -> RowResult:
        """Predict and score the test subjects with the best weights."""
        found = self._run("predict", {})
        scores: list[Score] = []
        for subject, labels in read_predictions(self._source, self._folder):
            scores += score_case(
                subject.identifier, labels, subject.labels.numpy(), self._source.structures,
                spacing_mm=subject.spacing_mm,
            )  # fmt: skip
        return RowResult(scores, found["seconds_a_scan"], found["peak_memory_mb"], parameters)

    def _run(
        self, stage: str, more: dict[str, Any], listener: Listener | None = None
    ) -> dict[str, Any]:
        training = self.settings.training
        job = {
            "dataset": self._folder.dataset,
            "configuration": self.settings.row.configuration,
            "threads": training.threads,
            "device": training.device,
            "seed": training.seed,
            **more,
        }
        variables = self._folder.variables()
        return run_stage(self._python, stage, job, self._folder.path, variables, listener)

    def _left_by(self, stage: str) -> dict[str, Any] | None:
        """Return what a stage found in an earlier run."""
        path = self._folder.path / f"{stage}.json"
        if not path.is_file():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def _notes(
        self, plan: dict[str, Any], schedule: Schedule, found: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "configuration": self.settings.row.configuration,
            "versions": self.versions,
            "plan": {name: value for name, value in plan.items() if name != "seconds"},
            "planning_seconds": plan["seconds"],
            "iterations": schedule.iterations,
            "iterations_uncut": OWN_ITERATIONS,
            "epochs": len(schedule.epochs),
            "validation_iterations_an_epoch": schedule.validation_iterations,
            "device": found["device"],
            "precision": found["precision"],
            "selection": "checkpoint_best: highest smoothed pseudo Dice on patches of the "
            "validation subjects",
            "test_time": "tiles that share half, weighted, mirrored along every axis",
        }


def _write_curve(path: Path, epochs: list[dict[str, float]]) -> Path:
    text = io.StringIO()
    table = csv.DictWriter(text, list(epochs[0]), lineterminator="\n")
    table.writeheader()
    table.writerows({name: f"{value:.6g}" for name, value in epoch.items()} for epoch in epochs)
    replace_file(path, text.getvalue().encode())
    return path
