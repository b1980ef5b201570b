"""Dice of every way to segment the hippocampus test crops, beside the plain network.

    python -m ddmseg_lab.studies.hippocampus --model hippocampus --plain PLAIN.safetensors

Each crop goes through the real ``Segmenter``, file to labels on the file's own grid, and
is compared there with the manual labels. Writes ``results/hippocampus.tsv`` (one row a
crop and method) and ``results/hippocampus.json``; a stopped run goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ddmseg.datasets.case import Case
from ddmseg.errors import UsageError
from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.preprocess import prepare
from ddmseg.inference.model_stages import ModelStages
from ddmseg.inference.segmenter import Segmenter
from ddmseg.maths.metrics import evaluate_labels
from ddmseg.models.checkpoint import Card, load_weights
from ddmseg.models.zoo import model_path
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg_lab import page
from ddmseg_lab.figures import BLUE, GREY, ORANGE, interval_bars, name_ticks, new_figure
from ddmseg_lab.page import Chapter, Claim, Summary, basis, claim, picture, table, with_interval
from ddmseg_lab.scans import CROPS, Ids
from ddmseg_lab.statistics_text import mean_interval, paired_tests
from ddmseg_lab.study import SAMPLING_SEED, Options, run_command, say, short_checksum
from ddmseg_lab.table import RawTable, numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = (1, 5, 10, 50)
SAMPLES = 8
REFERENCE = f"ddm_10x{SAMPLES}"
"""The prediction of ``--mode diffusion``: what all others are compared with."""
STRUCTURES = {"anterior": 232, "posterior": 231}
METRICS = tuple(f"{name}_{metric}" for name in STRUCTURES for metric in ("dice", "hd95_mm"))
COLUMNS = ("weights", "case", "method", *METRICS, "dice", "hd95_mm", "expected_dice")


@dataclass(frozen=True, kw_only=True)
class Arguments(Options):
    """Options of this command."""

    model: str = "hippocampus"
    """Name of a shipped model, or a .safetensors file with its card."""
    plain: Path | None = None
    """Weights of the network trained equally without diffusion."""


Prediction = tuple[Ids, float]
"""Labels on the grid of the file, and the Dice that was expected (NaN: none was)."""


class Method(NamedTuple):
    """One way to segment a file, and the card of the weights it uses."""

    card: Card
    segment: Callable[[Path], Prediction]


def ddm_methods(model: DiscrepancyDiffusionSegmenter, card: Card) -> dict[str, Method]:
    """Return the coarse head, joined samples and single samples at each number of steps."""
    joined = Segmenter(ModelStages(model, card))
    alone = Segmenter(ModelStages(model, _without_coarse(card)))

    def method(segmenter: Segmenter, **options: Any) -> Method:
        def segment(path: Path) -> Prediction:
            # Without cleaning, as the rows that are kept were measured; the plain network has none.
            result = segmenter(path, raw=True, **options)
            return result.labels.data, result.quality.expected_dice

        return Method(card, segment)

    methods = {"fast": method(joined, mode="fast")}
    for steps in STEPS:
        options = {"mode": "diffusion", "steps": steps}
        methods[f"ddm_{steps}x{SAMPLES}"] = method(joined, **options, samples=SAMPLES)
        methods[f"sample_{steps}"] = method(alone, **options, samples=1)
    return methods


def _without_coarse(card: Card) -> Card:
    sampling = {**card.settings["sampling"], "coarse_share": 0.0}
    return replace(card, settings={**card.settings, "sampling": sampling})


def plain_method(path: Path) -> Method:
    """Return the plain network as a method; ``Segmenter`` takes none without diffusion."""
    model, card = load_weights(path)
    if card.settings["model"]["diffusion"]:
        raise UsageError(f"{path}: a network with diffusion; --plain takes one without")

    @torch.inference_mode()
    def segment(file: Path) -> Prediction:
        spacing, multiple = card.settings["data"]["spacing_mm"], model.multiple
        scan = read_volume(file)
        prepared = prepare(scan, spacing_mm=spacing, multiple=multiple, crop_to_head=False)
        p = torch.softmax(model(torch.from_numpy(prepared.image)[None, None]), dim=1)[0]
        return prepared.labels_to_input(p, card.labels), math.nan

    return Method(card, segment)


def score(case: Case, prediction: Prediction) -> dict[str, float]:
    """Return Dice and HD95 of both structures and their means, on the grid of the file."""
    labels, expected = prediction
    drawn = CROPS.drawn(case)
    truth = CROPS.freesurfer_ids(drawn.data)
    rows = evaluate_labels(labels, truth, list(STRUCTURES.values()), spacing_mm=drawn.spacing_mm)
    found: dict[str, float] = {"expected_dice": expected}
    for name, row in zip(STRUCTURES, rows, strict=True):
        found |= {f"{name}_dice": row.dice, f"{name}_hd95_mm": row.hd95_mm}
    for metric in ("dice", "hd95_mm"):
        found[metric] = float(np.mean([getattr(row, metric) for row in rows]))
    return found


def measure(cases: list[Case], methods: Mapping[str, Method], table: RawTable) -> None:
    """Score every method on every case that has not been scored."""
    for number, case in enumerate(cases, 1):
        rows = []
        for name, method in methods.items():
            key = {"weights": short_checksum(method.card), "case": case.identifier, "method": name}
            if not table.has(**key):
                rows.append({**key, **score(case, method.segment(case.images[0]))})
        if rows:
            table.add(rows)
            say(f"{number}/{len(cases)}  {case.identifier}  {rows[-1]['dice']:.3f}")


def summarise(table: RawTable, cases: list[str], methods: list[str]) -> dict[str, Any]:
    """Return intervals of every method, and the paired tests on the mean Dice."""

    def column(method: str, name: str) -> list[float]:
        rows = {row["case"]: row for row in table.select(method=method)}
        return numbers([rows[case] for case in cases], name)

    def intervals(method: str) -> dict[str, Any]:
        found = {m: mean_interval(column(method, m)) for m in (*METRICS, "dice", "hd95_mm")}
        promised, true = column(method, "expected_dice"), column(method, "dice")
        error = [abs(a - b) for a, b in zip(promised, true, strict=True)]
        return {**found, "expected_dice_error": mean_interval(error)}

    dice = {method: column(method, "dice") for method in methods}
    against = {m: d for m, d in dice.items() if m != REFERENCE and not m.startswith("sample_")}
    joined = {m: dice[m] for m in (f"ddm_{steps}x{SAMPLES}" for steps in STEPS[1:])}
    alone = {m: dice[m] for m in (f"sample_{steps}" for steps in STEPS[1:])}
    return {
        "cases": len(cases),
        "methods": {method: intervals(method) for method in methods},
        f"against_{REFERENCE}": paired_tests(dice[REFERENCE], against),
        "joined_against_one_step": paired_tests(dice[f"ddm_1x{SAMPLES}"], joined),
        "single_against_one_step": paired_tests(dice["sample_1"], alone),
    }


def run(options: Arguments) -> None:
    """Measure, then sum up."""
    methods = ddm_methods(*load_weights(model_path(options.model)))
    cards = {"ddm": methods["fast"].card}
    if options.plain is not None:
        methods["plain"] = plain_method(options.plain)
        cards["plain"] = methods["plain"].card
    cases = CROPS.cases("test", options.data, options.cases)
    table = options.raw_table("hippocampus", COLUMNS, list(cards.values()))
    measure(cases, methods, table)
    summary = summarise(table, [case.identifier for case in cases], list(methods))
    options.write_summary("hippocampus", cards, summary, seed=SAMPLING_SEED)


PICTURE = "dice_by_steps.png"
WORSE_BY = 0.003  # how much worse more steps may be than one: 0.3 points of Dice
LOST_BY = 0.001  # how much Dice samples may cost against the coarse head
METHOD_NAMES = {
    "plain": "plain network, no diffusion",
    "fast": "`--mode fast`: coarse head of the DDM",
    **{
        f"ddm_{n}x{SAMPLES}": f"`--mode diffusion`: {n} step{'s' * (n > 1)}, {SAMPLES} samples"
        for n in STEPS
    },
    **{f"sample_{n}": f"one sample alone, {n} step{'s' * (n > 1)}" for n in STEPS},
}


def body(found: Summary) -> list[str]:
    """Dice on the test crops, and whether more steps are ever worse."""
    rows = [
        [
            METHOD_NAMES[name],
            *(with_interval(scores[m]) for m in ("anterior_dice", "posterior_dice", "dice")),
            with_interval(scores["hd95_mm"], 2),
            with_interval(scores["expected_dice_error"]),
        ]
        for name, scores in _ordered(found["methods"])
    ]
    header = ["method", "Dice, anterior", "Dice, posterior", "mean Dice", "HD95 in mm"]
    header.append("error of the expected Dice")
    return [
        f"{found['cases']} crops that no training has seen, each a patient, file to labels on "
        f"the file's own grid. {basis(found)}",
        table(header, rows),
        f"Mean Dice less that of 10 steps and {SAMPLES} samples, on the same crops; two-sided "
        "Wilcoxon, Holm-corrected:",
        _tests(found[f"against_{REFERENCE}"]),
        f"Mean Dice less that of one step, joined ({SAMPLES} samples) and single (1 sample alone):",
        _tests({**found["joined_against_one_step"], **found["single_against_one_step"]}),
        picture(PICTURE, "Dice on the hippocampus test crops against sampling steps"),
    ]


def claims(found: Summary) -> list[Claim]:
    """Dice, the gain over the plain network, and that neither samples nor steps cost any.

    Of samples alone nothing is asked: one that may be the truth is no estimate of it.
    """
    against = found.get(f"against_{REFERENCE}", {})
    joined = found.get("joined_against_one_step", {}).values()
    worst = min(joined, key=lambda one: float(one["difference"]), default=None)
    ours = f"hippocampus, mean Dice (10 steps, {SAMPLES} samples)"
    made = [claim(ours, 0.89, found, "methods", REFERENCE, "dice")]
    if plain := against.get("plain"):
        made.append(claim("hippocampus, DDM less the plain network", 0.0, _reversed(plain)))
    what, kept = f"hippocampus, {SAMPLES} samples less the coarse head", against.get("fast")
    made.append(claim(what, -LOST_BY, _reversed(kept), digits=4))
    what = "more steps less one step, joined: the worst of 5, 10, 50"
    return [*made, claim(what, -WORSE_BY, worst, digits=4)]


def _reversed(test: Summary | None) -> dict[str, float] | None:
    if test is None:
        return None
    return {"mean": -test["difference"], "low": -test["high"], "high": -test["low"]}


def _ordered(methods: Summary) -> list[tuple[str, Summary]]:
    return [(name, methods[name]) for name in METHOD_NAMES if name in methods]


def _tests(tests: Summary) -> str:
    rows = [
        [METHOD_NAMES[name], with_interval(test, 4), page.p_value(test["p_holm"])]
        for name, test in _ordered(tests)
    ]
    return table(["method", "difference", "p"], rows) if rows else page.NOT_MEASURED


def dice_by_steps(found: Summary) -> Figure:
    """Mean Dice against sampling steps, with the coarse head and the plain network.

    Bars are intervals of the difference from one step on the same crops: patients differ
    far more among each other than methods do.
    """
    figure, axes = new_figure(6.4, 4.4)
    methods = found["methods"]
    both = f"{SAMPLES} samples and the coarse head"
    for pattern, tests, colour, name in (
        (f"ddm_{{}}x{SAMPLES}", "joined_against_one_step", BLUE, both),
        ("sample_{}", "single_against_one_step", ORANGE, "one sample alone"),
    ):
        named = [pattern.format(n) for n in STEPS]
        dice = [methods[method]["dice"]["mean"] for method in named]
        bars = interval_bars([found[tests].get(method) for method in named])
        axes.errorbar(
            STEPS, dice, yerr=bars, color=colour, marker="o", markersize=4, capsize=3, label=name
        )  # fmt: skip
    for method, style, name in (("fast", "--", "coarse head"), ("plain", ":", "plain network")):
        if method in methods:
            value = methods[method]["dice"]["mean"]
            axes.axhline(value, color=GREY, linestyle=style, label=name)
    axes.set_xscale("log")
    name_ticks(axes, STEPS, [str(n) for n in STEPS])
    axes.set_xlabel("sampling steps")
    axes.set_ylabel("mean Dice of both structures")
    axes.set_title("bars: 95% interval of the difference from one step", fontsize=8)
    figure.legend(fontsize=8, loc="outside lower center", ncols=2)
    return figure


TITLE, COMMAND = "Hippocampus: test crops", page.command_of(__name__)
CHAPTER = Chapter(TITLE, COMMAND, "hippocampus", body, claims, {PICTURE: dice_by_steps})


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
