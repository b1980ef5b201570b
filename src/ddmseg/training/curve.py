"""The learning curve as CSV and PNG, the learning rate over the steps, and when a training ends."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from ddmseg.models.checkpoint import replace_file
from ddmseg.models.settings import Settings
from ddmseg.training.objective import Losses
from ddmseg.training.validation import ValidationScores

LOSSES = ("total", "coarse", "diffusion", "discrepancy")
SCORES = ("coarse_dice", "sampled_dice", "sampled_score")
COLUMNS = ("step", "seconds", *LOSSES, *SCORES)
EVERY = 25
"""Steps that one row averages over."""
LATE_SHARE = 1 / 3
"""Of the steps, the part in which a training that has converged gains nothing."""

LEAST_LEGS = 3
"""Before a curve is called flat: its last third is a whole leg then."""
DECAY_SHARE = 1 / 3
"""Of a leg, its last part, in which the learning rate falls to zero."""


class Curve:
    """Collects rows and writes the whole CSV each time; a picture lies beside it."""

    def __init__(self, path: Path, title: str = "") -> None:
        self.path = path
        self.title = title
        self.rows: list[dict[str, float]] = []
        self._sums = dict.fromkeys(LOSSES, 0.0)
        self._count = 0

    def add(self, step: int, seconds: float, losses: Losses) -> None:
        """Take in the losses of one step."""
        for name in LOSSES:
            self._sums[name] += float(getattr(losses, name).detach())
        self._count += 1
        if step % EVERY == 0:
            means = {name: value / self._count for name, value in self._sums.items()}
            self.rows.append({"step": step, "seconds": round(seconds, 1), **means})
            self._sums = dict.fromkeys(LOSSES, 0.0)
            self._count = 0

    def validated(self, step: int, scores: ValidationScores) -> None:
        """Put validation scores beside the losses of the same step."""
        if not self.rows or self.rows[-1]["step"] != step:
            self.rows.append({"step": step})
        self.rows[-1] |= {name: getattr(scores, name) for name in SCORES}

    def late_rise(self, step: int) -> float:
        """Return what the last third of so many steps brought, see :func:`late_rise`."""
        # As the file has them, so that a resumed training finds the same.
        rows = [row for row in self.rows if "sampled_score" in row]
        found = [(int(row["step"]), float(_short(row["sampled_score"]))) for row in rows]
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
        for axes, names in ((left, LOSSES[1:]), (right, SCORES)):
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

    Infinity while there is no validation in that third or none before.

    Args:
        validated: steps with their score.
        step: the last one.
    """
    start = step * (1 - LATE_SHARE)
    early = [score for at, score in validated if at <= start]
    late = [score for at, score in validated if start < at <= step]
    return max(late) - max(early) if early and late else math.inf


def learning_rate_factor(step: int, warmup: int, steps: int, leg: int = 0) -> float:
    """Return the share of the learning rate at a step: linear rise, then half a cosine.

    Source: Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5, without restarts. In legs:
    linear rise, constant, linear fall, as in Hu et al. 2024, arXiv 2404.06395, section 4.

    Args:
        step: from 0.
        warmup: steps of the rise.
        leg: steps of a leg; 0 for a training without legs.
    """
    if leg:
        step %= leg
        left = (leg - step) / max(1.0, DECAY_SHARE * leg)
        return min(1.0, (step + 1) / max(1, warmup), left)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def is_done(settings: Settings, step: int, curve: Curve) -> bool:
    """Say whether a training of these settings ends with this step."""
    training = settings.training
    if step >= training.steps:
        return True
    if not training.least_rise or step < LEAST_LEGS * training.leg_steps:
        return False
    if step % training.leg_steps:
        return False
    return curve.late_rise(step) < training.least_rise


def _short(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"
