"""Whose 95% interval of a volume is best: the present rule's, or that of one of its rivals?

    python -m ddmseg_lab.studies.volume_contest --data DATA

Rivals (``volume_rivals``, ``volume_heads``) say of each scan a volume and a spread; each gets one
factor per structure by split conformal prediction (``volume_intervals``). Scans are made-up heads
with exact truth and MALC2012 with volumes drawn by hand, intact and degraded (``volume_scans``).
Writes ``results/volume_contest.tsv``, one row per scan, rival and structure, and ``.json``; a
stopped run goes on. The trained heads are kept in the file ``--heads`` and not committed. The
winner is chosen on degraded made-up heads and then measured on MALC2012.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddmseg.errors import UsageError
from ddmseg.imaging.labels import structure
from ddmseg.models.checkpoint import Card, load_weights
from ddmseg.models.zoo import model_path
from ddmseg.networks.blocks import fold_statistics
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg_lab import page
from ddmseg_lab.figures import COLOURS, GREY, name_places, new_figure
from ddmseg_lab.made_up_heads import INTACT
from ddmseg_lab.page import Chapter, Claim, Summary, claim, inner, picture, table
from ddmseg_lab.page import with_interval as shown
from ddmseg_lab.statistics_text import Pairs, group_interval, listed
from ddmseg_lab.studies.volume_heads import STEPS, heads_of, trained_rivals
from ddmseg_lab.studies.volume_intervals import (
    BOTH,
    CONSTANT,
    FEWEST_VOXELS,
    SAMPLED,
    SAMPLES,
    SHIPPED,
    SOFT,
    Answers,
    Intervals,
    answers_of,
    cross_fitted,
    drawn_intervals,
    rescan_intervals,
)
from ddmseg_lab.studies.volume_rivals import COLUMNS, PERTURBED, RIVALS, EncodedHead, Rival, answers
from ddmseg_lab.studies.volume_scans import (
    DEVELOPMENT,
    MADE_UP,
    ROUNDS,
    SEED,
    TEST,
    Scan,
    opened,
    scans,
)
from ddmseg_lab.study import Options, run_command, say
from ddmseg_lab.table import numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORD = "volume_contest"
TITLES = {
    CONSTANT: "constant relative width",
    SOFT: "constant width around the soft volume",
    SHIPPED: "doubt by the discrepancy (ships)",
    SAMPLES: "samples of the diffusion",
    BOTH: "samples and discrepancy together",
    SAMPLED: "doubt by the discrepancy, after sampling",
    "perturbed": "perturbed scans",
    "dropout": "head with dropout",
    "ensemble": "ensemble of heads",
    "ssn": "low-rank Gaussian over logits",
}
DEGRADED = "degraded"
CONDITIONS = (INTACT, DEGRADED)
RESCAN = "rescan"
SETS = {
    MADE_UP: "made-up heads",
    TEST: "MALC2012 test scans, volumes drawn by hand",
    RESCAN: "other scan of the same person",
}
OFFSETS = {MADE_UP: 0, DEVELOPMENT: 1000, TEST: 2000}
"""Of the numbers that fix what is drawn for a scan."""


@dataclass(frozen=True, kw_only=True)
class Arguments(Options):
    """Options of this command."""

    model: str = "anatomy_fast"
    """Name of a shipped model, or a .safetensors file with its card."""
    heads: Path = Path("volume_heads.safetensors")
    """Where the trained rival heads are kept; they are trained where there is no such file."""
    trained: bool = True
    """Ask the rivals that are trained, too."""


@torch.inference_mode()
def measure(
    model: DiscrepancyDiffusionSegmenter,
    card: Card,
    scan: Scan,
    rivals: Mapping[str, Rival],
    data: str | None,
) -> Iterator[dict[str, Any]]:
    """Ask some rivals about one scan and yield a row for each and structure."""
    image, true = opened(scan, card, data, multiple=model.multiple)
    head = EncodedHead(model, card, image, OFFSETS[scan.set] + scan.number)
    yield from answers(head, rivals, [math.nan, *true.tolist()[1:]], vars(scan))


def run(options: Arguments) -> None:
    """Ask every rival about every scan, then sum up."""
    model, card = load_weights(model_path(options.model))
    fold_statistics(model)
    table_ = options.raw_table(RECORD, COLUMNS, [card])
    rivals = dict(RIVALS)
    if options.trained:
        rivals.update(trained_rivals(heads_of(model, card, options.data, options.heads)))
    for scan in scans(options.data, options.cases):
        at = {"set": scan.set, "number": scan.number}
        todo = {name: r for name, r in rivals.items() if not table_.has(**at, rival=name)}
        if todo:
            table_.add(measure(model, card, scan, todo, options.data))
            say(f"{scan.set}  {scan.name}  {scan.kind}  {', '.join(todo)}")
    options.write_summary(RECORD, {"ddm": card}, summarise(table_.rows), seed=SEED)


def summarise(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return the scores of all rivals in each set and condition, and who wins.

    Raises:
        UsageError: when the made-up heads are too few to fit an interval.
    """
    said = answers_of(rows)
    found: dict[str, Any] = {"scans": _counts(said[SHIPPED]), "rivals": _costs(rows)}
    kept: dict[str, dict[str, list[Intervals]]] = {MADE_UP: {}, TEST: {}, RESCAN: {}}
    for rival, one in said.items():
        kept[MADE_UP][rival] = list(cross_fitted(rival, one.where(one.set == MADE_UP)))
        if {DEVELOPMENT, TEST} <= set(one.set):
            protocol, drawn = drawn_intervals(rival, one)
            kept[TEST][rival], kept[RESCAN][rival] = [drawn], [rescan_intervals(rival, one)]
            found.setdefault("widened", {})[rival] = protocol.factor
    found["sets"] = {name: condition_scores(by) for name, by in kept.items() if by}
    degraded = found["sets"][MADE_UP].get(DEGRADED)
    if not degraded:
        raise UsageError(
            f"cases: got {found['scans'][MADE_UP]['subjects']} label maps; a 95% interval is "
            "fitted on 19 heads of other maps, so take at least 11"
        )
    structures = {rival: _by_structure(parts) for rival, parts in kept[MADE_UP].items()}
    return {**found, "steps": STEPS, "winner": winner(degraded), "structures": structures}


def winner(scored: Mapping[str, Mapping[str, Any]]) -> str:
    """Return who wins among rivals scored under one condition.

    Who has the lowest score, where the interval of what it saves on what ships excludes 0; else
    what ships.
    """
    best = min(scored, key=lambda rival: scored[rival]["score"])
    clear = best != SHIPPED and (scored[best]["gained_on_shipped"]["low"] or 0.0) > 0
    return best if clear else SHIPPED


def _counts(answers: Answers) -> dict[str, dict[str, int]]:
    return {
        str(name): {
            "scans": len(set(answers.number[answers.set == name])),
            "subjects": len(set(answers.subject[answers.set == name])),
        }
        for name in np.unique(answers.set)
    }


def _costs(rows: Sequence[Mapping[str, str]]) -> dict[str, dict[str, float]]:
    """Return median seconds beyond one pass of f^I, and effective number of answers."""
    found: dict[str, dict[str, float]] = {SOFT: {"seconds": 0.0, "effective": 1.0}}
    for rival in dict.fromkeys(row["rival"] for row in rows):
        of = [row for row in rows if row["rival"] == rival]
        costs = ("seconds", "effective")
        found[rival] = {name: float(np.median(numbers(of, name))) for name in costs}
    if SAMPLES in found:
        both = found[SAMPLES]["seconds"] + found[SHIPPED]["seconds"]
        found[BOTH] = {**found[SAMPLES], "seconds": both}
        if SAMPLED in found:  # which takes the samples drawn already
            found[SAMPLED]["seconds"] += found[SAMPLES]["seconds"]
    return found


def condition_scores(by_rival: Mapping[str, list[Intervals]]) -> dict[str, dict[str, Any]]:
    """Return means over structures, then scans, and the score saved against constant width."""
    found: dict[str, dict[str, Any]] = {}
    for condition in CONDITIONS:
        lines = {rival: _by_scan(parts, condition) for rival, parts in by_rival.items()}
        if not len(lines[CONSTANT][1]):
            continue
        held_against = {"gained": CONSTANT, "gained_on_shipped": SHIPPED}
        found[condition] = {}
        for rival, (means, subjects) in lines.items():
            one: dict[str, Any] = {name: float(values.mean()) for name, values in means.items()}
            one["coverage"] = group_interval(_mean, means["coverage"][:, None], subjects)
            for name, other in held_against.items():
                pairs = np.stack([means["score"], lines[other][0]["score"]], axis=1)
                one[name] = group_interval(_gained, pairs, subjects)
            found[condition][rival] = one
    return found


def _mean(rows: Pairs) -> float:
    return float(rows[:, 0].mean())


def _gained(pairs: Pairs) -> float:
    return float(1 - pairs[:, 0].mean() / pairs[:, 1].mean())


def _by_scan(parts: Sequence[Intervals], condition: str) -> tuple[dict[str, Any], list[str]]:
    means: dict[str, list[float]] = {"score": [], "crps": [], "width": [], "coverage": []}
    subjects = []
    for part in parts:
        of = part.answers
        keys = np.char.add(np.char.add(of.set.astype(str), "/"), of.number.astype(str))
        for key in np.unique(keys):
            here = keys == key
            if (of.kind[here][0] == INTACT) == (condition == INTACT):
                subjects.append(str(of.subject[here][0]))
                for name, values in part.scores.items():
                    means[name].append(float(values[here].mean()))
    return {name: np.array(values) for name, values in means.items()}, subjects


def _by_structure(parts: Sequence[Intervals]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for index in np.unique(np.concatenate([part.answers.index for part in parts])):
        values: dict[str, list[float]] = {"score": [], "coverage": [], "width": []}
        for part in parts:
            here = (part.answers.index == index) & (part.answers.kind != INTACT)
            for name, kept in values.items():
                kept += part.scores[name][here].tolist()
        name = structure(int(index)).name
        found[name] = {column: float(np.mean(kept)) for column, kept in values.items()}
    return found


GAINED_PICTURE, STRUCTURES_PICTURE = "volume_contest.png", "volume_contest_structures.png"


def body(found: Summary) -> list[str]:
    """How it was measured, the table of each set, pictures, what the winner would take."""
    parts = [_how(found), _cuts(found), _verdict(found)]
    for name, title in SETS.items():
        for condition, scored in found["sets"].get(name, {}).items():
            parts += [f"**{title[0].upper()}{title[1:]}, {condition}**", score_table(scored)]
    parts += [
        picture(GAINED_PICTURE, "Interval score saved against a constant relative width"),
        picture(STRUCTURES_PICTURE, "Interval score of each structure on degraded made-up heads"),
        _cost_table(found),
    ]
    return parts


def _how(found: Summary) -> str:
    count = found["scans"]
    drawn = (
        f" On MALC2012 ({count[TEST]['scans']} scans of {count[TEST]['subjects']} persons, intact "
        "and degraded) the protocol's bias per structure, and one more factor for all structures, "
        f"come from {count[DEVELOPMENT]['scans']} development scans of "
        f"{count[DEVELOPMENT]['subjects']} persons. *Other scan*: the interval of one scan, as "
        "fitted on made-up heads, against the volume that the same rival finds in the other, "
        "intact scan of the person."
        if TEST in count
        else ""
    )
    return (
        f"{count[MADE_UP]['scans']} made-up heads of {count[MADE_UP]['subjects']} label maps, half "
        "of them degraded (thick slices of 3 to 6 mm, noise, motion, low resolution); each rival "
        "gets one factor per structure by split conformal prediction, fitted without the subject "
        f"it is tested on.{drawn} Scores are in units of the true volume, means over structures, "
        "then scans: the *interval score* is the width plus 40 times what a volume lies outside, "
        "the CRPS takes the interval for that of a log-normal distribution; less is better. "
        "*Saved* is the share of the interval score against a constant relative width. Intervals "
        f"are 95% bootstrap intervals over subjects. {page.weights_words(found)}"
    )


def _cuts(found: Summary) -> str:
    trained = (
        f" Trained heads had {found['steps']} steps of one patch each and correct the coarse head "
        "where it is not sure."
        if "ssn" in found["rivals"]
        else ""
    )
    return (
        "What was cut to end within an hour on a shared core: the model at 2 mm in place of that "
        f"at 1 mm, {PERTURBED} perturbed copies beside the scan, "
        f"{2 * ROUNDS} heads per label map. Of the "
        f"label maps all but two were trained on, in other images.{trained} Volumes are counted "
        f"on the model's grid, of structures with at least {FEWEST_VOXELS:.0f} of its voxels in "
        "truth. The spread of rivals is drawn towards its median, to one to four times that: few "
        f"answers tell it badly. What ships and *{TITLES[SOFT]}* count voxels by their "
        f"probability. *{TITLES[BOTH]}*: the volume of the samples, and the geometric mean of both "
        f"spreads. *{TITLES[SAMPLED]}*: the rule that ships, on the answer of samples and coarse "
        "head. Both were added after the others had been seen."
    )


def _verdict(found: Summary) -> str:
    winner, parts = found["winner"], []
    for name, title in ((MADE_UP, "made-up heads"), (TEST, "MALC2012 test scans")):
        scored = found["sets"].get(name, {}).get(DEGRADED)
        if scored:
            clear = [r for r, one in scored.items() if (one["gained_on_shipped"]["low"] or 0) > 0]
            least = min(scored, key=lambda rival: scored[rival]["score"])
            named = listed([TITLES[rival] for rival in clear]) if clear else ""
            parts.append(
                f"On degraded {title} the lowest score is that of: {TITLES[least]}; "
                f"clearly better than what ships: {named or 'none'}."
            )
    ships = "Intervals are read off them in modes that draw samples. " if winner == SAMPLES else ""
    return (
        f"The winner: {TITLES[winner]}. It is chosen on degraded made-up heads: the lowest score "
        "wins where it saves on what ships by an interval above 0, else what ships does. "
        f"{ships}"
        f"{' '.join(parts)}"
    )


def score_table(scored: Summary, titles: Mapping[str, str] = TITLES) -> str:
    """Return a line for each rival under one condition."""
    rows = [
        [
            *(titles[rival], f"{one['score']:.3f}", f"{one['crps']:.4f}"),
            *(shown(one["coverage"]), f"{one['width']:.2f}"),
            "" if rival == CONSTANT else shown(one["gained"]),
            "" if rival == SHIPPED else shown(one["gained_on_shipped"]),
        ]
        for rival, one in scored.items()
    ]
    head = ["rival", "interval score", "CRPS", "coverage", "width", "saved", "saved on what ships"]
    return table(head, rows)


def _cost_table(found: Summary) -> str:
    rows = []
    for rival, one in found["rivals"].items():
        factor = found.get("widened", {}).get(rival)
        widened = "" if factor is None else f"{factor:.2f}"
        rows.append([TITLES[rival], f"{one['seconds']:.1f}", f"{one['effective']:.2f}", widened])
    head = ["rival", "seconds beyond f^I", "effective answers", "widened on MALC2012 by"]
    return table(head, rows)


def claims(found: Summary) -> list[Claim]:
    """The winner saves 15% on degraded scans at honest coverage, and loses nothing on intact."""
    made = []
    for name, title in ((MADE_UP, "made-up heads"), (TEST, "MALC2012 test scans")):
        made += interval_claims(title, inner(found, "sets", name), found.get("winner", ""))
    return made


def interval_claims(title: str, conditions: Summary | None, winner: str) -> list[Claim]:
    """Return what is asked of the winner on one set of scans."""
    degraded, intact = (inner(conditions, one, winner) for one in (DEGRADED, INTACT))
    what, share = f"volumes, {title}", f"volumes, {title}: coverage, degraded"
    saved = f"{what}: interval score saved by the winner"
    return [
        claim(f"{saved}, degraded", 0.15, degraded, "gained"),
        claim(f"{what}: lower end of its interval", 0.0, degraded, "gained", "low"),
        claim(f"{saved}, intact", 0.0, intact, "gained"),
        claim(share, 0.93, degraded, "coverage"),
        claim(share, 0.97, degraded, "coverage", at_least=False),
    ]


def gained_figure(found: Summary) -> Figure:
    """Draw the score saved by each rival, a panel for each set."""
    sets = {name: of for name, of in found["sets"].items() if name != RESCAN}
    figure, _ = new_figure(4.6 * len(sets), 3.6, panels=len(sets))
    for axes, (name, of) in zip(figure.axes, sets.items(), strict=True):
        for offset, (condition, scored) in zip((0.15, -0.15), of.items(), strict=False):
            rivals = [rival for rival in scored if rival != CONSTANT]
            colour = COLOURS[CONDITIONS.index(condition)]
            for place, rival in enumerate(rivals):
                one, y = scored[rival]["gained"], len(rivals) - place + offset
                axes.plot([one["low"], one["high"]], [y, y], color=colour, linewidth=1.2)
                label = condition if place == 0 else None
                axes.plot([one["mean"]], [y], "o", color=colour, markersize=5, label=label)
            name_places(axes, rivals)
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set_title(SETS[name], fontsize=9)
        axes.set_xlabel("share of the interval score saved", fontsize=9)
    figure.axes[0].legend(fontsize=8)
    return figure


def structures_figure(found: Summary) -> Figure:
    """Draw the score of each structure, for the constant width, what ships and the winner."""
    figure, axes = new_figure(6.8, 7.4)
    rivals = list(dict.fromkeys((CONSTANT, SHIPPED, found["winner"])))
    names = sorted(found["structures"][CONSTANT])
    for rival, colour in zip(rivals, (GREY, *COLOURS), strict=False):
        scores = [found["structures"][rival][name]["score"] for name in names]
        places = name_places(axes, names, fontsize=8)
        axes.plot(scores, places, "o", color=colour, markersize=5, label=TITLES[rival])
    axes.set_xscale("log")
    axes.set_xlabel("interval score on degraded made-up heads, in units of the true volume")
    axes.legend(fontsize=8)
    return figure


PICTURES = {GAINED_PICTURE: gained_figure, STRUCTURES_PICTURE: structures_figure}
TITLE, COMMAND = "Volume intervals: a contest", page.command_of(__name__)
CHAPTER = Chapter(TITLE, COMMAND, RECORD, body, claims, PICTURES)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
