"""What a reader of the page of results asks first: five questions, and one picture.

Questions, figures and targets stand in ``headlines.toml``. Every figure is one of a record; a
record that is not there leaves *not measured*.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from ddmseg_lab.figures import BLUE, ORANGE
from ddmseg_lab.page import Claim, Summaries, Target, inner, models_of, picture, table
from ddmseg_lab.statistics_text import counted
from ddmseg_lab.studies.anatomy import dice_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FURTHER = ("anatomy_fast",)  # records that have no page of their own and that a headline rests on
MODELS = ("anatomy", "anatomy_fast")  # records of the same measurement, each of a model
PICTURE = "headline_dice.png"
CAPTION = "Dice of each group of structures on the MALC2012 test scans"
QUESTIONS: dict[str, list[dict[str, Any]]] = tomllib.loads(
    (resources.files("ddmseg_lab") / "headlines.toml").read_text(encoding="utf-8")
)
"""Rows of each question's figures."""
WORDS = (
    "Intervals are 95% bootstrap intervals over patients; those of seconds are the range. Figures "
    "are of `--mode fast` on the CPU of one machine; those of `hippocampus` of 10 steps and 8 "
    "samples. Volumes drawn by hand also differ from the model's by the protocol of drawing."
)


def headlines(summaries: Summaries) -> list[str]:
    """Return the table of the five questions, how to read it, and the picture."""
    rows = []
    for question, figures in QUESTIONS.items():
        for number, one in enumerate(figures):
            page = one.get("page", one["record"])
            link = f"[{page}](studies/{page}.md)" if summaries.get(page) else ""
            claim = headline(one, summaries)
            rows.append([f"**{question}**" * (number == 0), *claim.row(), link])
    heads = ["question", "figure", "target", "measured", "outcome", "more"]
    drawn = [picture(PICTURE, CAPTION, up="")] if _both(summaries) else []
    return [table(heads, rows), WORDS, *drawn]


def headline(row: Mapping[str, Any], summaries: Summaries) -> Claim:
    """Return a row's target beside the figure; beside nothing without a record of it."""
    record = summaries.get(row["record"])
    models = [f"`{model['name']}`" for model in models_of(record or {})]
    threads = counted(inner(record, "machine", "threads") or 1, "thread")
    what = row["what"].format(model=next(iter(models), "the model"), threads=threads)
    named = {name: row[name] for name in ("at_least", "unit", "digits") if name in row}
    target = Target(what, row["bound"], **named)
    if "over" not in row:
        return Claim(target, inner(record, *row["path"]))
    here, there = (
        inner(found, *row["path"], "mean") for found in (record, summaries.get(row["over"]))
    )
    return Claim(target, None if None in (here, there) else here / there)


def _both(summaries: Summaries) -> dict[str, Any]:
    """Return Dice by group of both models; empty unless both were measured."""
    found = {n: inner(summaries.get(n), "splits", "test", "fast", "groups") for n in MODELS}
    return found if all(found.values()) else {}


def headline_figure(summaries: Summaries) -> Figure | None:
    """Draw Dice by group of structures, both models side by side; None unless both are there."""
    found = _both(summaries)
    if not found:
        return None
    colours = dict(zip(found, (BLUE, ORANGE), strict=True))
    return dice_bars({name: (colours[name], one) for name, one in found.items()}, (6.8, 4.2))
