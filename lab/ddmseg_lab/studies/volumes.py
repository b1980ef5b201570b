"""How wide an interval of a volume has to be, and whether the discrepancy makes it narrower.

    python -m ddmseg_lab.studies.volumes --data DATA

Whole heads are made up from the label maps, intact or with thick slices, noise, motion or low
resolution, so that every volume is known exactly. The shipped model segments them (mode fast).
Two rules are fitted on all subjects but one and tested on that one: bounds of a constant
relative width for each structure, and the same bounds times the doubt of the scan
(``ddmseg.quality.volumes``), which the discrepancy gives. Both are split conformal for 95%.
Writes ``results/volumes.tsv``, one row per head and structure, and ``results/volumes.json``. A
stopped run goes on. ``--write-card`` then fits the second rule on all heads into the card
beside the weights, with the width above which mode auto draws samples: after it comes
``make manifest``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ddmseg.inference.scan_encoding import encode_image
from ddmseg.maths.calibration import conformal_bound
from ddmseg.models.checkpoint import Card, load_weights, save_weights
from ddmseg.models.zoo import model_path
from ddmseg.networks.blocks import fold_statistics
from ddmseg.networks.ensemble import coarse_answer
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.quality.assessment import assess
from ddmseg.quality.volume_intervals import MOST_DOUBT, Sizes
from ddmseg.quality.volumes import USUAL_WIDTH
from ddmseg.training.volume_calibration import FEWEST_VOXELS, SizedCase, volume_bounds
from ddmseg_lab.made_up_heads import INTACT, ROUNDS, SEED, made_up_heads
from ddmseg_lab.page import Chapter, Claim, Summary, Target, table, weights_words, with_interval
from ddmseg_lab.statistics_text import interval
from ddmseg_lab.studies.interval_scores import COVERAGE, interval_score
from ddmseg_lab.study import ModelOptions, run_command, say, short_checksum
from ddmseg_lab.table import RawTable

COLUMNS = (
    "weights",
    "split",
    "number",
    "subject",
    "kind",
    "index",
    "size",
    "hits",
    "missed",
    "soft",
    "true",
)
COUNTS = ("size", "hits", "missed", "soft")
MOST_USUAL = 0.75
"""Share of the intact heads whose intervals are usual: for wider ones mode auto draws samples."""
RULES = {
    "constant": "constant relative width",
    "scaled": "around the soft volume, scaled by the discrepancy",
}


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelOptions):
    """Options of this command."""

    write_card: bool = False
    """Fit bounds and usual width on all heads and write them into the card beside the weights."""


@torch.inference_mode()
def segmented(
    model: DiscrepancyDiffusionSegmenter, card: Card, image: torch.Tensor, truth: torch.Tensor
) -> Iterator[dict[str, Any]]:
    """Segment a made-up head and yield sizes of each structure, in voxels."""
    encoding, _ = encode_image(model, image[None])
    found = assess(model, card, encoding, coarse_answer(encoding)).expectation
    true = torch.bincount(truth.flatten(), minlength=len(card.labels))
    columns = (found.size, found.hits, found.missed, found.soft)
    for place, index in enumerate(card.labels):
        size, hits, missed, soft = (round(float(x[place]), 2) for x in columns)
        yield {
            "index": index,
            "size": size,
            "hits": hits,
            "missed": missed,
            "soft": soft,
            "true": int(true[place]),
        }


def measure(options: Arguments, table_: RawTable, split: str) -> None:
    """Segment the heads of a split that the table lacks."""
    model, card = load_weights(model_path(options.model))
    fold_statistics(model)
    for head in made_up_heads(options, card, split):
        if table_.has(split=split, number=head.number):
            continue
        at = {"weights": short_checksum(card), "split": split, "number": head.number}
        row = {**at, "subject": head.subject, "kind": head.kind}
        table_.add({**row, **one} for one in segmented(model, card, *head.make()))
        say(f"{head.subject}  {head.kind}")


def scored(rows: Sequence[Mapping[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield each volume with its interval under each rule, fitted without its subject."""
    by_index: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        if row["index"] != "0" and min(float(row["size"]), float(row["true"])) >= FEWEST_VOXELS:
            by_index.setdefault(row["index"], []).append(row)
    for listed in by_index.values():
        found, true, soft = (
            np.log([float(row[column]) for row in listed]) for column in ("size", "true", "soft")
        )
        doubts = np.array([Sizes(*(float(r[c]) for c in COUNTS)).doubt for r in listed])
        subjects = np.array([r["subject"] for r in listed])
        constant = ("constant", np.ones_like(doubts), found)
        for rule, scale, centre in (constant, ("scaled", doubts, soft)):
            ratios = true - centre
            for subject in np.unique(subjects):
                here = subjects == subject
                fitted = ~here & (scale <= MOST_DOUBT)
                rest = ratios[fitted] / scale[fitted]
                middle = float(np.median(rest))
                reach = conformal_bound(np.abs(rest - middle), COVERAGE)
                ends = min(middle - reach, 0.0), max(middle + reach, 0.0)
                for at in np.flatnonzero(here):
                    shift = float(centre[at] - found[at])
                    low, high = _interval(listed[at], ends, scale[at], shift)
                    yield {
                        **_score(low, high, math.exp(true[at] - found[at])),
                        "rule": rule,
                        **_of(listed[at]),
                    }


def _interval(
    row: Mapping[str, str], ends: tuple[float, float], scale: float, shift: float
) -> tuple[float, float]:
    """Return the ends over the volume found, which lies within, as a user gets them.

    Args:
        shift: log of what the ends are around, over the volume found.
    """
    if scale > MOST_DOUBT:
        return 0.0, 1 + float(row["missed"]) / float(row["size"])
    low, high = (shift + end * scale for end in ends)
    return math.exp(min(low, 0.0)), math.exp(max(high, 0.0))


def _of(row: Mapping[str, str]) -> dict[str, str]:
    return {"subject": row["subject"], "condition": INTACT if row["kind"] == INTACT else "degraded"}


def _score(low: float, high: float, true: float) -> dict[str, float]:
    """Return score, width and whether the truth lies inside, in units of the volume found."""
    return {
        "score": float(interval_score(low, high, true)),
        "width": high - low,
        "inside": low <= true <= high,
    }


def summarise(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return score, coverage and width of each rule, and how far the scores differ by subject."""
    found = list(scored(rows))
    summary: dict[str, Any] = {"heads": len({(r["split"], r["number"]) for r in rows})}
    for condition in (INTACT, "degraded"):
        means: dict[str, dict[str, float]] = {}
        for rule in RULES:
            some = [r for r in found if (r["rule"], r["condition"]) == (rule, condition)]
            subjects = {r["subject"] for r in some}
            means[rule] = {
                s: float(np.mean([r["score"] for r in some if r["subject"] == s])) for s in subjects
            }
            summary.setdefault(condition, {})[rule] = {
                "score": float(np.mean([r["score"] for r in some])),
                "coverage": float(np.mean([r["inside"] for r in some])),
                "width": float(np.median([r["width"] for r in some])),
            }
        gained = [1 - means["scaled"][s] / means["constant"][s] for s in sorted(means["scaled"])]
        mean = interval(gained)
        summary[condition]["gained"] = {
            "mean": mean.mean,
            "low": mean.low,
            "high": mean.high,
            "n": mean.n,
        }
    return summary


def run(options: Arguments) -> None:
    """Measure both splits, sum up, and write the card where that is asked for."""
    path = model_path(options.model)
    model, card = load_weights(path)
    name = "volumes" if card.name == "anatomy" else f"volumes_{card.name}"
    table_ = options.raw_table(name, COLUMNS, [card])
    for split in ROUNDS:
        measure(options, table_, split)
    options.write_summary(name, {"ddm": card}, summarise(table_.rows), seed=SEED)
    if options.write_card:
        save_weights(model, with_bounds(card, table_.rows), path)


def with_bounds(card: Card, rows: Sequence[Mapping[str, str]]) -> Card:
    """Return the card with bounds fitted on all heads, and how wide intervals usually are."""
    found = volume_bounds(card, list(heads(rows)))
    card = replace(card, calibration={**card.calibration, **found})
    intact = heads([row for row in rows if row["kind"] == INTACT])
    widths = [w for case in intact if (w := case.measured(card).width()) is not None]
    usual = round(float(np.quantile(widths, MOST_USUAL)), 3)
    return replace(card, calibration={**card.calibration, USUAL_WIDTH: usual})


def heads(rows: Sequence[Mapping[str, str]]) -> Iterator[SizedCase]:
    """Yield the sizes of each head, classes in the order of the card."""
    by_head: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        by_head.setdefault((row["split"], row["number"]), []).append(row)
    for listed in by_head.values():
        names = (*COUNTS, "true")
        yield SizedCase(*(tuple(float(r[name]) for r in listed) for name in names))


def body(found: Summary) -> list[str]:
    """Scores, coverage and width of both rules."""
    words = (
        f"{found['heads']} made-up heads, every volume known; each rule is fitted without the "
        "subject it is tested on. The constant width is around the volume of the labels; the "
        "*soft* volume counts voxels by their probability. *Interval score* is the width plus 40 "
        "times what a true volume lies outside, in units of the volume found: less is better "
        "(Gneiting and Raftery 2007). *Gained* is the share of the score that the rule which ships "
        f"saves, mean over subjects with its interval. {weights_words(found)}"
    )
    rows = [
        [
            *(condition, title, f"{one['score']:.3f}", f"{one['coverage']:.3f}"),
            *(
                f"{one['width']:.2f}",
                with_interval(found[condition]["gained"]) if rule == "scaled" else "",
            ),
        ]
        for condition in (INTACT, "degraded")
        for rule, title in RULES.items()
        for one in [found[condition][rule]]
    ]
    heads_ = ["heads", "rule", "interval score", "coverage", "median width", "gained"]
    return [words, table(heads_, rows)]


def claims(found: Summary) -> list[Claim]:
    """Scaling saves on degraded heads at honest coverage, and costs nothing on intact ones."""
    degraded, intact = found.get("degraded", {}), found.get(INTACT, {})
    scaled = degraded.get("scaled", {})
    return [
        Claim(
            Target("volumes: interval score saved on degraded heads", 0.15), degraded.get("gained")
        ),
        Claim(Target("volumes: interval score saved on intact heads", 0.0), intact.get("gained")),
        Claim(Target("volumes: coverage on degraded heads", 0.93), scaled.get("coverage")),
    ]


CHAPTER = Chapter(
    "Volume intervals", "python -m ddmseg_lab.studies.volumes --data DATA", "volumes", body, claims
)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
