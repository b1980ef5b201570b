"""The learning curve: losses and validation Dice over steps, as CSV and PNG."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from ddmseg.models.checkpoint import replace_file
from ddmseg.training.objective import Losses
from ddmseg.training.validation import ValidationScores

COLUMNS = (
    "step",
    "seconds",
    "total",
    "coarse",
    "diffusion",
    "discrepancy",
    "coarse_dice",
    "sampled_dice",
    "sampled_score",
)
EVERY = 25
"""Steps that one row averages over."""
LATE_SHARE = 1 / 3
"""Of the steps, the part in which a training that has converged gains nothing."""


class Curve:
    """Collects rows in memory and writes the whole file each time.

    Args:
        path: of the CSV; the picture lies beside it.
    """

    def __init__(self, path: Path, title: str = "") -> None:
        self.path = path
        self.title = title
        self.rows: list[dict[str, float]] = []
        self._sums = {field.name: 0.0 for field in fields(Losses)}
        self._count = 0

    def clear(self) -> None:
        """Forget everything: a new run begins."""
        self.rows = []

    def add(self, step: int, seconds: float, losses: Losses) -> None:
        """Take in the losses of one step."""
        for name in self._sums:
            self._sums[name] += float(getattr(losses, name).detach())
        self._count += 1
        if step % EVERY == 0:
            means = {name: value / self._count for name, value in self._sums.items()}
            self.rows.append({"step": step, "seconds": round(seconds, 1), **means})
            self._sums = dict.fromkeys(self._sums, 0.0)
            self._count = 0

    def validated(self, step: int, scores: ValidationScores) -> None:
        """Put validation scores beside the losses of the same step."""
        if not self.rows or self.rows[-1]["step"] != step:
            self.rows.append({"step": step})
        self.rows[-1]["coarse_dice"] = scores.coarse_dice
        self.rows[-1]["sampled_dice"] = scores.sampled_dice
        self.rows[-1]["sampled_score"] = scores.sampled_score

    def late_rise(self, step: int) -> float:
        """Return what the last third of so many steps brought, see :func:`late_rise`."""
        # As the file has them, so that a resumed training finds the same.
        found = [
            (int(row["step"]), float(_short(row["sampled_score"])))
            for row in self.rows
            if "sampled_score" in row
        ]
        return late_rise(found, step)

    def read(self, *, up_to: int) -> None:
        """Take over the rows of an earlier run, as far as its state goes."""
        if not self.path.is_file():
            return
        with self.path.open(newline="") as file:
            for raw in csv.DictReader(file):
                row = {name: float(value) for name, value in raw.items() if value}
                if row["step"] <= up_to:
                    self.rows.append(row)

    def write(self) -> None:
        """Write the CSV and, where matplotlib is installed, the picture."""
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        for row in self.rows:
            table.writerow({name: _short(value) for name, value in row.items()})
        replace_file(self.path, text.getvalue().encode())
        self._draw()

    def _draw(self) -> None:
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            return
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(self.title, fontsize="medium")
        left, right = figure.subplots(1, 2)
        for axes, names in ((left, COLUMNS[3:6]), (right, COLUMNS[6:])):
            for name in names:
                points = [(r["step"], r[name]) for r in self.rows if name in r]
                if points:
                    axes.plot(*zip(*points, strict=True), label=name.replace("_", " "))
            axes.set_xlabel("step")
            if axes.lines:
                axes.legend(frameon=False)
        left.set_ylabel("loss")
        left.set_yscale("log")
        right.set_ylabel("validation Dice")
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=110, metadata={"Software": None})
        replace_file(self.path.with_suffix(".png"), image.getvalue())


def late_rise(validated: Sequence[tuple[int, float]], step: int) -> float:
    """Return what the last third of a training brought its best validation score.

    Args:
        validated: steps with their score.
        step: the last one.

    Returns:
        Infinity while there is no validation in that third or none before.
    """
    start = step * (1 - LATE_SHARE)
    early = [score for at, score in validated if at <= start]
    late = [score for at, score in validated if start < at <= step]
    return max(late) - max(early) if early and late else math.inf


def _short(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"
