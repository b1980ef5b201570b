"""How wide an interval of a volume has to be, and whether the discrepancy makes it narrower.

    python -m ddmseg_lab.studies.volumes --data DATA

Whole heads are made up from the label maps, intact or with thick slices, noise, motion or low
resolution, so that every volume is known exactly. The shipped model segments them (mode fast).
Where samples won the contest of this model (``volume_contest``), half of the heads are sampled, by
the settings of the card. Rules (``TITLES``) are fitted on all subjects but one and tested on
that one. Writes ``results/volumes.tsv``, one row per head and structure, and ``.json``. A stopped
run goes on. ``--write-card`` then fits the discrepancy's rule on all heads into the card
beside the weights, that of samples on those that were sampled, and the width above which mode auto
draws samples: after it comes ``make manifest``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ddmseg.inference.scan_encoding import encode_image
from ddmseg.models.checkpoint import Card, load_weights, save_weights
from ddmseg.models.zoo import model_path
from ddmseg.networks.blocks import fold_statistics
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.quality.volume_intervals import (
    LEAST_SPREAD,
    MOST_DOUBT,
    Sizes,
    drawn_to_usual,
    holding_the_found,
)
from ddmseg.quality.volumes import SAMPLE_BOUNDS, USUAL_WIDTH
from ddmseg.training.calibration import draw
from ddmseg.training.volume_calibration import (
    FEWEST_VOXELS,
    SizedCase,
    bounds,
    sample_bounds,
    volume_bounds,
)
from ddmseg_lab import page
from ddmseg_lab.made_up_heads import DEGRADED, INTACT, ROUNDS, SEED, made_up_heads
from ddmseg_lab.page import Chapter, Claim, Summary, claim, table, with_interval
from ddmseg_lab.statistics_text import as_dict, interval, mean_by_group
from ddmseg_lab.studies.interval_scores import CONDITIONS, interval_score
from ddmseg_lab.studies.volume_contest import RECORD as CONTEST
from ddmseg_lab.studies.volume_rivals import (
    CONSTANT,
    SAMPLES,
    Numbers,
    Rows,
    Table,
    records,
    sizes_of,
)
from ddmseg_lab.study import ModelOptions, run_command, say, short_checksum
from ddmseg_lab.table import RawTable, read_summary

COUNTS = ("size", "hits", "missed", "soft")
COLUMNS = (
    *("weights", "split", "number", "subject", "kind", "index"),
    *(*COUNTS, "drawn", "shares", "true"),
)
MOST_USUAL = 0.75
"""Share of the intact heads whose intervals are usual: for wider ones mode auto draws samples."""


@dataclass(frozen=True, kw_only=True)
class Arguments(ModelOptions):
    """Options of this command."""

    write_card: bool = False
    """Fit the bounds on all heads and write them into the card beside the weights."""


@torch.inference_mode()
def segmented(
    model: DiscrepancyDiffusionSegmenter,
    card: Card,
    image: torch.Tensor,
    truth: torch.Tensor,
    seed: int | None,
) -> Iterator[dict[str, Any]]:
    """Segment a made-up head and yield sizes of each structure, in voxels; no seed, no samples."""
    encoding, *_ = encode_image(model, image[None])
    answer = None if seed is None else draw(model, card, encoding, seed=seed)
    true = torch.bincount(truth.flatten(), minlength=len(card.labels)).tolist()
    sizes = sizes_of(model, card, encoding, answer)
    for index, of, voxels in zip(card.labels, sizes, true, strict=True):
        counts = {name: round(getattr(of, name), 2) for name in COUNTS}
        drawn = {"drawn": _spaced(of.drawn, 2), "shares": _spaced(of.shares, 6)}
        yield {"index": index, **counts, **drawn, "true": voxels}


def _spaced(values: Sequence[float], digits: int) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values)


def _sizes(row: Mapping[str, str]) -> Sizes:
    drawn, shares = (tuple(map(float, row[name].split())) for name in ("drawn", "shares"))
    size, hits, missed, soft = (float(row[name]) for name in COUNTS)
    return Sizes(size, hits, missed, soft, drawn, shares)


def samples_won(options: Arguments, card: Card) -> bool:
    """Say whether the contest of these weights was won by samples."""
    found = read_summary(options.output / f"{CONTEST}.json") or {}
    of = found.get("models", {}).get("ddm", {}).get("weights")
    return bool(of == short_checksum(card) and found["winner"] == SAMPLES)


def measure(options: Arguments, table_: RawTable, split: str) -> None:
    """Segment the heads of a split that the table lacks."""
    model, card = load_weights(model_path(options.model))
    fold_statistics(model)
    sampled = samples_won(options, card)
    for head in made_up_heads(options, card, split):
        if table_.has(split=split, number=head.number):
            continue
        at = {"weights": short_checksum(card), "split": split, "number": head.number}
        row = {**at, "subject": head.subject, "kind": head.kind}
        seed = head.number if sampled and head.sampled else None
        table_.add({**row, **one} for one in segmented(model, card, *head.make(), seed))
        say(f"{head.subject}  {head.kind}")


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


def with_bounds(card: Card, rows: Rows) -> Card:
    """Return the card with bounds fitted on all heads, by samples on those that were sampled."""
    kept = {name: of for name, of in card.calibration.items() if name != SAMPLE_BOUNDS}
    card = replace(card, calibration={**kept, **volume_bounds(card, list(heads(rows)))})
    intact = heads([row for row in rows if row["kind"] == INTACT])
    widths = [w for case in intact if (w := case.measured(card).width()) is not None]
    told: dict[str, Any] = {USUAL_WIDTH: round(float(np.quantile(widths, MOST_USUAL)), 3)}
    if asked := [row for row in rows if row["drawn"]]:
        told[SAMPLE_BOUNDS] = sample_bounds(card, list(heads(asked)))
    return replace(card, calibration={**card.calibration, **told})


def heads(rows: Rows) -> Iterator[SizedCase]:
    """Yield the sizes of each head, classes in the order of the card."""
    by_head: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        by_head.setdefault((row["split"], row["number"]), []).append(row)
    for listed in by_head.values():
        sizes = [_sizes(row) for row in listed]
        size, hits, missed, soft = (tuple(getattr(of, name) for of in sizes) for name in COUNTS)
        true = tuple(float(row["true"]) for row in listed)
        drawn = tuple(zip(*(of.drawn for of in sizes), strict=True))
        yield SizedCase(size, hits, missed, soft, true, drawn, tuple(sizes[0].shares))


SCALED = "scaled"
TITLES = {
    CONSTANT: "constant relative width",
    SCALED: "around the soft volume, scaled by the discrepancy",
    SAMPLES: "around the mean of samples, scaled by how they differ",
}
"""Of the rules."""


def scored(rows: Rows, rule: str) -> Table:
    """Return ``score``, ``width`` and whether it is ``inside`` of each volume under a rule.

    With ``subject`` and ``kind``; each is fitted without its subject, and scored in units of the
    volume found.
    """
    by_index: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        if row["index"] != "0" and min(float(row["size"]), float(row["true"])) >= FEWEST_VOXELS:
            by_index.setdefault(row["index"], []).append(row)
    judged = [row for listed in by_index.values() for row in listed]
    ends = [_cross_fitted(listed, rule) for listed in by_index.values()]
    low, high = np.concatenate(ends, axis=1)
    true = np.array([float(row["true"]) / float(row["size"]) for row in judged])
    words = {name: np.array([row[name] for row in judged]) for name in ("subject", "kind")}
    inside = (low <= true) & (true <= high)
    found = {"score": interval_score(low, high, true), "width": high - low, "inside": inside}
    return records({**words, **found})


def _cross_fitted(listed: Rows, rule: str) -> Numbers:
    """Return lower and upper ends of one structure's intervals, as a user gets them."""
    sizes = [_sizes(row) for row in listed]
    subjects = np.array([row["subject"] for row in listed])
    true = np.array(
        [math.log(float(r["true"]) / of.size) for r, of in zip(listed, sizes, strict=True)]
    )
    doubtful = np.array([of.doubt > MOST_DOUBT for of in sizes])
    found = np.zeros((2, len(sizes)))
    for subject in np.unique(subjects):
        here = subjects == subject
        found[:, here] = _ends(rule, sizes, true, ~here & ~doubtful)[:, here]
    found[0, doubtful] = 0.0  # hardly found: it may be as large as what is missed
    found[1, doubtful] = [1 + of.missed / of.size for of in sizes if of.doubt > MOST_DOUBT]
    return found


def _ends(rule: str, sizes: Sequence[Sizes], true: Numbers, among: NDArray[np.bool_]) -> Numbers:
    """Return the ends of all intervals by a rule that is fitted among some heads.

    ``true`` is the log of the true volume over the one found, which always lies within.
    """
    around, unit = np.zeros(len(sizes)), np.ones(len(sizes))
    if rule == SCALED:
        around = np.array([of.log_share(of.soft) for of in sizes])
        unit = np.array([of.doubt for of in sizes])
    elif rule == SAMPLES:
        around = np.array([of.log_share(of.mean) for of in sizes])
        spread = np.array([of.spread for of in sizes])
        usual = max(float(np.median(spread[among])), LEAST_SPREAD)
        unit = np.array([drawn_to_usual(one, usual) for one in spread])
    # Too few heads show no bounds that are finite.
    low, high = bounds(((true - around) / unit)[among]) or (-math.inf, math.inf)
    if rule == SCALED:  # as cards have it, the soft volume lies within, too
        low, high = holding_the_found((low, high))
    return np.exp([np.minimum(around + low * unit, 0.0), np.maximum(around + high * unit, 0.0)])


def summarise(rows: Rows) -> dict[str, Any]:
    """Return score, coverage and width of each rule, and how far the scores differ by subject.

    Under ``sampled`` of the heads with samples alone, both rules fitted on these.
    """
    found = _compared(rows, CONSTANT, SCALED)
    if asked := [row for row in rows if row["drawn"]]:
        found["sampled"] = _compared(asked, SCALED, SAMPLES)
    return found


def _compared(rows: Rows, first: str, second: str) -> dict[str, Any]:
    found = {rule: scored(rows, rule) for rule in (first, second)}
    summary: dict[str, Any] = {"heads": len({(row["split"], row["number"]) for row in rows})}
    for condition in CONDITIONS:
        told, means = summary.setdefault(condition, {}), []
        for rule, every in found.items():
            of = every[(every.kind == INTACT) == (condition == INTACT)]
            means.append(np.array(mean_by_group(of.score.tolist(), of.subject.tolist())))
            told[rule] = {
                "score": float(of.score.mean()),
                "coverage": float(of.inside.mean()),
                "width": float(np.median(of.width)),
            }
        told["gained"] = as_dict(interval((1 - means[1] / means[0]).tolist()))
    return summary


def body(found: Summary) -> list[str]:
    """Scores, coverage and width of the rules, of samples where heads were sampled."""
    words = (
        f"{found['heads']} made-up heads, every volume known; each rule is fitted without the "
        "subject it is tested on. The constant width is around the volume of the labels; the "
        "*soft* volume counts voxels by their probability. *Interval score* is the width plus 40 "
        "times what a true volume lies outside, in units of the volume found: less is better "
        "(Gneiting and Raftery 2007). *Gained* is the share of the score that a rule saves against "
        f"the one above it, mean over subjects with its interval. {page.weights_words(found)}"
    )
    sampled = found.get("sampled")
    if sampled is None:
        return [words, _table(found)]
    asked = (
        f"Of {sampled['heads']} of these heads samples were drawn as well, by the settings of the "
        "card, and both rules fitted on these heads alone. Intervals are read off samples in modes "
        "that draw them, since samples won the contest of these weights."
    )
    return [words, _table(found), asked, _table(sampled)]


def _table(found: Summary) -> str:
    rows = [
        [
            *(condition, TITLES[rule], f"{one['score']:.3f}", f"{one['coverage']:.3f}"),
            *(f"{one['width']:.2f}", with_interval(found[condition]["gained"]) if place else ""),
        ]
        for condition in CONDITIONS
        for place, rule in enumerate(name for name in TITLES if name in found[condition])
        for one in [found[condition][rule]]
    ]
    return table(["heads", "rule", "interval score", "coverage", "median width", "gained"], rows)


def claims(found: Summary) -> list[Claim]:
    """What ships saves on degraded heads at honest coverage, and costs nothing on intact ones."""
    what, by_samples = "volumes: interval score saved on", found.get("sampled")
    inside = "volumes: coverage on degraded heads"
    against = "volumes: saved on degraded heads by samples, against the discrepancy"
    return [
        claim(f"{what} degraded heads", 0.15, found, DEGRADED, "gained"),
        claim(f"{what} intact heads", 0.0, found, INTACT, "gained"),
        claim(inside, 0.93, found, DEGRADED, SCALED, "coverage"),
        claim(against, 0.0, by_samples, DEGRADED, "gained"),
        claim(f"{inside} by samples", 0.93, by_samples, DEGRADED, SAMPLES, "coverage"),
    ]


CHAPTER = Chapter("Volume intervals", page.command_of(__name__), "volumes", body, claims)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
