"""What a reader of the page of results asks first: five questions, and one picture.

Every figure is one of a record; a record that is not there leaves *not measured*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ddmseg_lab.figures import BLUE, ORANGE
from ddmseg_lab.page import Claim, Summaries, Target, inner, models_of, picture, table
from ddmseg_lab.statistics_text import counted
from ddmseg_lab.studies import hippocampus
from ddmseg_lab.studies.anatomy import ALL, ASKED, dice_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FURTHER = ("anatomy_fast",)  # records that have no page of their own and that a headline rests on
MODELS = {"anatomy": "`anatomy`, the default", "anatomy_fast": "`anatomy_fast`"}
"""Records of the same measurement, and the model that each is of."""
TEST = ("splits", "test", "fast")
"""Where the records of MALC2012 have the test scans in ``--mode fast``."""
PICTURE = "headline_dice.png"
CAPTION = "Dice of each group of structures on the MALC2012 test scans"


@dataclass(frozen=True)
class Headline:
    """One figure: the target, the record it is read from, names that lead to it there, the page.

    ``{model}`` and ``{threads}`` in the target are the record's. ``over`` names another record:
    the figure is then the mean here as a share of the mean there.
    """

    target: Target
    record: str
    path: Sequence[str]
    page: str
    over: str = ""

    def claim(self, summaries: Summaries) -> Claim:
        """Return the target beside the figure; beside nothing without a record of it."""
        record = summaries.get(self.record)
        models = [f"`{model['name']}`" for model in models_of(record or {})]
        threads = counted(inner(record, "machine", "threads") or 1, "thread")
        what = self.target.what.format(model=next(iter(models), "the model"), threads=threads)
        return Claim(replace(self.target, what=what), self._measured(summaries))

    def _measured(self, summaries: Summaries) -> Any:
        if not self.over:
            return inner(summaries.get(self.record), *self.path)
        here, there = (
            inner(summaries.get(name), *self.path, "mean") for name in (self.record, self.over)
        )
        return None if None in (here, there) else here / there


def _figure(
    what: str, bound: float, record: str, *path: str, page: str = "", over: str = "", **more: Any
) -> Headline:
    return Headline(Target(what, bound, **more), record, path, page or record, over)


def _of_both(what: str, bounds: tuple[float, float], *path: str, **more: Any) -> list[Headline]:
    """Return the same figure of the default and of the fast model, on the test scans."""
    return [
        _figure(f"{title}: {what}", bound, record, *TEST, *path, page="anatomy", **more)
        for (record, title), bound in zip(MODELS.items(), bounds, strict=True)
    ]


_MOST: dict[str, Any] = {"at_least": False, "digits": 2}
_SECONDS = "seconds from file to report, whole head, {threads}"
_SHARE = "`anatomy_fast`: share of the Dice of `anatomy`"
_PARTS = "`hippocampus`: mean Dice of both parts, test crops"
_CORRUPTED = "{model}: the same, corrupted masks among them"
QUESTIONS: dict[str, list[Headline]] = {
    "How good are labels of real scans that no training has seen?": [
        *_of_both("mean Dice, MALC2012 test scans", (ASKED[ALL], 0.75), "groups", ALL),
        _figure(_SHARE, 0.96, "anatomy_fast", *TEST, "groups", ALL, page="anatomy", over="anatomy"),
    ],
    "And the hippocampus?": [
        _figure(_PARTS, 0.89, "hippocampus", "methods", hippocampus.REFERENCE, "dice")
    ],
    "How long does a head take, and how much memory?": [
        *(
            _figure(
                f"{MODELS[name]}: {_SECONDS}", bound, "speed_segment",
                *("scans", scan, "seconds", "fast"), unit=" s", **_MOST,
            )
            for name, scan, bound in (
                ("anatomy", "whole head, default model", 5.0),
                ("anatomy_fast", "whole head", 2.0),
            )
        ),
        _figure(
            "{model}: peak memory of a whole head", 2.5, "memory",
            *("runs", "whole head, fast", "peak_gb"), unit=" GB", **_MOST,
        ),
    ],
    "Does the expected Dice tell the true one?": [
        *_of_both("error of it, test scans", (0.05, 0.05), "expected_dice_error", at_least=False),
        _figure(
            _CORRUPTED, 0.05, "discrepancy_anatomy", "sets", "malc2012", "mae_calibrated",
            at_least=False,
        ),
    ],
    "Do 95% intervals hold the true volume?": [
        *_of_both("share of volumes drawn by hand in theirs", (0.95, 0.95), "covered"),
        _figure(
            "{model}: the same of made-up degraded heads", 0.93,
            *("volumes", "degraded", "scaled", "coverage"),
        ),
    ],
}  # fmt: skip
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
            link = f"[{one.page}](studies/{one.page}.md)" if summaries.get(one.page) else ""
            rows.append([f"**{question}**" * (number == 0), *one.claim(summaries).row(), link])
    heads = ["question", "figure", "target", "measured", "outcome", "more"]
    drawn = [picture(PICTURE, CAPTION, up="")] if _both(summaries) else []
    return [table(heads, rows), WORDS, *drawn]


def _both(summaries: Summaries) -> dict[str, Any]:
    """Return Dice by group of both models; empty unless both were measured."""
    found = {name: inner(summaries.get(name), *TEST, "groups") for name in MODELS}
    return found if all(found.values()) else {}


def headline_figure(summaries: Summaries) -> Figure | None:
    """Draw Dice by group of structures, both models side by side; None unless both are there."""
    found = _both(summaries)
    if not found:
        return None
    colours = dict(zip(found, (BLUE, ORANGE), strict=True))
    return dice_bars({name: (colours[name], one) for name, one in found.items()}, (6.8, 4.2))
