"""How wide an interval of a volume has to be, and whether the discrepancy makes it narrower.

    python -m ddmseg_lab.studies.volumes --data DATA

Whole heads are made up from the label maps, intact or with thick slices, noise, motion or low
resolution, so that every volume is known exactly. The shipped model segments them (mode fast).
Where samples won the contest of this model (``volume_contest``), half of the heads are sampled, by
the settings of the card. Rules (``volume_rules``) are fitted on all subjects but one and tested on
that one.
Writes ``results/volumes.tsv``, one row per head and structure, and ``results/volumes.json``. A
stopped run goes on. ``--write-card`` then fits the discrepancy's rule on all heads into the card
beside the weights, that of samples on those that were sampled, and the width above which mode auto
draws samples: after it comes ``make manifest``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ddmseg.inference.scan_encoding import encode_image
from ddmseg.models.checkpoint import Card, load_weights, save_weights
from ddmseg.models.zoo import model_path
from ddmseg.networks.blocks import fold_statistics
from ddmseg.networks.ensemble import coarse_answer
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.quality.assessment import assess
from ddmseg.quality.volumes import SAMPLE_BOUNDS, USUAL_WIDTH
from ddmseg.training.calibration import draw
from ddmseg.training.volume_calibration import SizedCase, sample_bounds, volume_bounds
from ddmseg_lab import page
from ddmseg_lab.made_up_heads import INTACT, ROUNDS, SEED, made_up_heads
from ddmseg_lab.page import Chapter, Claim, Summary, claim, table, with_interval
from ddmseg_lab.studies.volume_contest import RECORD as CONTEST
from ddmseg_lab.studies.volume_intervals import SAMPLES
from ddmseg_lab.studies.volume_rules import COUNTS, TITLES, Rows, numbers_of, summarise
from ddmseg_lab.study import ModelOptions, run_command, say, short_checksum
from ddmseg_lab.table import RawTable, read_summary

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
    encoding, _ = encode_image(model, image[None])
    found = assess(model, card, encoding, coarse_answer(encoding)).expectation
    answer = None if seed is None else draw(model, card, encoding, seed=seed)
    true = torch.bincount(truth.flatten(), minlength=len(card.labels))
    sampled = {"drawn": "", "shares": ""}
    for place, index in enumerate(card.labels):
        sizes = {name: round(float(getattr(found, name)[place]), 2) for name in COUNTS}
        if answer is not None:
            sampled["drawn"] = _spaced(answer.sample_volumes[:, place], 2)
            sampled["shares"] = _spaced(answer.weights, 6)
        yield {"index": index, **sizes, **sampled, "true": int(true[place])}


def _spaced(values: torch.Tensor, digits: int) -> str:
    return " ".join(f"{value:.{digits}f}" for value in values.tolist())


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
        size, hits, missed, soft, true = (
            tuple(float(r[name]) for r in listed) for name in (*COUNTS, "true")
        )
        drawn = tuple(zip(*(numbers_of(r["drawn"]) for r in listed), strict=True))
        shares = numbers_of(listed[0]["shares"])
        yield SizedCase(size, hits, missed, soft, true, drawn, shares)


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
        for condition in (INTACT, "degraded")
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
        claim(f"{what} degraded heads", 0.15, found, "degraded", "gained"),
        claim(f"{what} intact heads", 0.0, found, INTACT, "gained"),
        claim(inside, 0.93, found, "degraded", "scaled", "coverage"),
        claim(against, 0.0, by_samples, "degraded", "gained"),
        claim(f"{inside} by samples", 0.93, by_samples, "degraded", "samples", "coverage"),
    ]


CHAPTER = Chapter("Volume intervals", page.command_of(__name__), "volumes", body, claims)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
