"""Does the verdict on the anatomy see pathology, and leave intact heads alone?

    python -m ddmseg_lab.studies.anomalies --data DATA

Heads with masses, cavities and real disease (``painted_heads``) are segmented by the real
``Segmenter`` with its own options. The score is what the verdict rests on, in units of its limits:
the largest piece that looks unlike its structure, or that misses tissue of the other half.
Limits on the cards come from the development scans of MALC2012, so each of these is held against
limits of the other persons. Writes
``results/anomalies.tsv``, one row per scan and model, and ``.json``; a stopped run goes on.
``--test`` adds the test scans of MALC2012, which are scored once for each model that ships.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ddmseg.imaging.grid import Grid
from ddmseg.imaging.labels import structure
from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.volume import Volume
from ddmseg.inference.segmenter import HEAD_MODEL, Segmenter
from ddmseg.models.card import Card
from ddmseg.models.checkpoint import read_card
from ddmseg.models.zoo import model_path
from ddmseg.quality.missing_tissue import missing_tissue
from ddmseg.quality.plausibility import MISSING_ML, UNLIKE_ML
from ddmseg.quality.reasons import ANATOMY, reason_code
from ddmseg.quality.segmentation import Segmentation
from ddmseg.quality.standing_out import highest, measures, standing_out, usual_limits
from ddmseg_lab import page
from ddmseg_lab.figures import BLUE, GREY, new_figure
from ddmseg_lab.page import Chapter, Claim, Summary, claim, picture, table, with_interval
from ddmseg_lab.scans import HEADS, Ids
from ddmseg_lab.statistics_text import auroc_of, exact_share, group_interval
from ddmseg_lab.studies import painted_heads as heads
from ddmseg_lab.studies.painted_heads import EMPTIED, INTACT, KINDS, PAINTED, REAL, SIZES_ML, TEST
from ddmseg_lab.study import Options, run_command, say, short_checksum
from ddmseg_lab.table import numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORD = "anomalies"
PICTURE = "anomalies.png"
MODELS = ("anatomy_fast", "anatomy")
COLUMNS = (
    *("weights", "set", "head", "person", "kind", "ml"),
    *("unlike_ml", "structure", "missing_ml", "reasons"),
)
LIMITS_ML = {"unlike_ml": UNLIKE_ML, "missing_ml": MISSING_ML}
"""From which each measure is a reason."""
Rows = Sequence[Mapping[str, str]]


@dataclass(frozen=True, kw_only=True)
class Arguments(Options):
    """Options of this command."""

    test: bool = False
    """Measure the MALC2012 test scans, too."""


class Judge:
    """A model with limits that no scan of the same person has set."""

    def __init__(self, model: str, data: str | None) -> None:
        self.segmenter, self.data = Segmenter.load(model, device="cpu"), data

    @cached_property
    def usual(self) -> dict[str, list[dict[str, dict[str, float]]]]:
        """What each development head shows at most, by person."""
        found: dict[str, list[dict[str, dict[str, float]]]] = {}
        for case in HEADS.cases("validation", self.data):
            one = self.segmenter(read_volume(case.images[0]))
            ids, spacing = one.labels.data, one.scan.spacing_mm
            seen = highest(measures(one.discrepancy, one.scan.data, ids, spacing), ids)
            found.setdefault(case.group, []).append(seen)
        return found

    def unlike(self, result: Segmentation, person: str) -> tuple[float, int]:
        """Return volume and structure of the largest piece that looks unlike its structure."""
        found = result.standing_out
        if person in self.usual:
            others = [one for p, seen in self.usual.items() if p != person for one in seen]
            scan, ids, limits = result.scan, result.labels.data, usual_limits(others)
            grid = Grid(scan.shape, scan.affine)
            found = standing_out(result.discrepancy, scan.data, ids, limits, grid)
        assert found is not None  # cards of whole heads say what is usual
        return found.unlike_ml, found.unlike_index


def key_of(scan: heads.Scan) -> dict[str, Any]:
    """Return the columns that name a scan."""
    return {name: value for name, value in vars(scan).items() if name in COLUMNS}


def measure(judge: Judge, scan: heads.Scan, volume: Volume) -> dict[str, Any]:
    """Segment one scan and return its row."""
    result, card = judge.segmenter(volume), judge.segmenter.card
    codes = [str(told["code"]) for r in result.quality.reasons if (told := reason_code(r))]
    ml, index = judge.unlike(result, scan.person)
    named = f"{card.name:<13}{scan.set:<8}{scan.head:<12}{scan.kind:<20}{scan.ml:>3g}"
    say(f"{named}{ml:8.2f}  {codes}")
    return {
        **{"weights": short_checksum(card), **key_of(scan), "unlike_ml": ml},
        "structure": structure(index).name if index else "",
        "missing_ml": missing_tissue(result.labels.data, result.scan.spacing_mm)[0],
        "reasons": " ".join(code for code in codes if code in ANATOMY),
    }


def run(options: Arguments) -> None:
    """Measure each scan with each model, then sum up."""
    cards = {name: read_card(model_path(name).with_suffix(".json")) for name in MODELS}
    table_ = options.raw_table(RECORD, COLUMNS, list(cards.values()))
    judges = {name: Judge(name, options.data) for name in MODELS}
    painter, labels = Segmenter.load(HEAD_MODEL, device="cpu"), {}
    for scan in list(heads.scans(options.data, test=options.test))[: options.cases]:
        key = key_of(scan)
        todo = [n for n in judges if not table_.has(weights=short_checksum(cards[n]), **key)]

        def label(volume: Volume, head: str = scan.head) -> Ids:
            if head not in labels:
                labels[head] = painter(volume, mode="fast").labels.data
            return labels[head]

        if todo:
            volume = heads.opened(scan, label)
            table_.add([measure(judges[name], scan, volume) for name in todo])
    options.write_summary(RECORD, cards, summarise(table_.rows, cards), seed=heads.SEED)


def summarise(rows: Rows, cards: Mapping[str, Card]) -> dict[str, Any]:
    """Return, for each model, AUROCs of what was painted, and what intact and real scans get."""
    found = {}
    for name, card in cards.items():
        if own := [row for row in rows if row["weights"] == short_checksum(card)]:
            found[name] = _of_model(own)
    return {"limits_ml": LIMITS_ML, "results": found}


def _of_model(rows: Rows) -> dict[str, Any]:
    intact = _where(rows, PAINTED, INTACT)
    painted = {
        kind: {
            f"{ml:g}": _painted(intact, of)
            for ml in SIZES_ML
            if (of := [row for row in _where(rows, PAINTED, kind) if float(row["ml"]) == ml])
        }
        for kind in KINDS
    }
    real = [row for row in rows if row["set"] == REAL or row["kind"] == EMPTIED]
    test = _where(rows, TEST, INTACT)
    return {
        "intact": _told(intact),
        "painted": painted,
        "real": [{name: row[name] for name in COLUMNS[2:]} for row in real],
        **({"test": _told(test)} if test else {}),
    }


def _where(rows: Rows, of: str, kind: str) -> Rows:
    return [row for row in rows if row["set"] == of and row["kind"] == kind]


def scores(rows: Rows, columns: Sequence[str] = tuple(LIMITS_ML)) -> list[float]:
    """Return the largest measure of each row, in units of its limit: from 1 it is told."""
    in_units = [np.array(numbers(rows, name)) / LIMITS_ML[name] for name in columns]
    found: list[float] = np.max(in_units, axis=0).tolist()
    return found


def _told(rows: Rows) -> dict[str, Any]:
    score = scores(rows)
    told = sum(one >= 1 for one in score)
    return {
        "persons": len({row["person"] for row in rows}),
        "told": told,
        "share": asdict(exact_share(told, len(rows))),
        "any_reason": sum(bool(row["reasons"]) for row in rows),
        "scores": score,
    }


def _painted(intact: Rows, painted: Rows) -> dict[str, Any]:
    """Return the same with AUROCs against intact heads; whole persons are drawn."""

    both = [*intact, *painted]
    is_painted = [0.0] * len(intact) + [1.0] * len(painted)
    persons = [row["person"] for row in both]
    measured = {
        name: group_interval(auroc_of, np.stack([score, is_painted], axis=1), persons)
        for name, score in (("auroc", scores(both)), ("by_looks", scores(both, ["unlike_ml"])))
    }
    return {**_told(painted), **measured}


def body(found: Summary) -> list[str]:
    """How it was measured, then for each model what was painted, and real scans."""
    parts = [_how(found), picture(PICTURE, "Score of the anatomy, heads intact and painted")]
    for name, of in found["results"].items():
        parts += [f"**`{name}`, painted**", _painted_table(of), f"**`{name}`, real**"]
        parts += [_real_table(of)]
    return parts


def _how(found: Summary) -> str:
    first, limits = next(iter(found["results"].values()))["intact"], found["limits_ml"]
    return (
        f"{len(first['scores'])} T1 heads of {first['persons']} persons (the development scans of "
        "MALC2012, colin27, chris), intact and with one thing painted wholly into a cerebral "
        "hemisphere: a *mass* with texture between grey matter and fluid, a *ring* that enhances "
        "around a dark core, or a *cavity* of fluid. Nothing is pushed aside, as real masses do. "
        "The score is the larger of two volumes in units of their limits, and from 1 a scan is "
        f"*told*: the largest piece that looks unlike its structure ({limits['unlike_ml']:g} ml) "
        "and the largest core where tissue is missing that the other half has "
        f"({limits['missing_ml']:g} ml). Development scans are held against limits of the other "
        "persons, all else against those of the card. *Any reason* counts verdicts on the anatomy "
        "other than pass, with the limits of the card. AUROC is against the intact heads, with a "
        "95% bootstrap interval over persons, which has no width where every draw of so few is "
        "perfect; *by looks alone* leaves missing tissue out. The rule for missing tissue was "
        f"made on these heads and the training label maps. {page.weights_words(found)}"
    )


def _painted_table(of: Summary) -> str:
    lines = _lines(of) | ({"MALC2012 test scans": of["test"]} if "test" in of else {})
    rows = [
        [
            *(what, f"{one['told']} of {len(one['scores'])}", f"{one['any_reason']}"),
            "{1:.2f} ({0:.2f} to {2:.2f})".format(*np.quantile(one["scores"], (0, 0.5, 1))),
            *(with_interval(one[name]) if name in one else "" for name in ("auroc", "by_looks")),
        ]
        for what, one in lines.items()
    ]
    head = ["painted", "told", "any reason", "score, median (range)", "AUROC", "by looks alone"]
    return table(head, rows)


def _lines(of: Summary) -> dict[str, Summary]:
    painted = of["painted"].items()
    return {"intact": of["intact"]} | {f"{k}, {ml} ml": by[ml] for k, by in painted for ml in by}


def _real_table(of: Summary) -> str:
    rows = [
        [
            *(row["head"], row["kind"], f"{float(row['unlike_ml']):.2f}", row["structure"]),
            *(f"{float(row['missing_ml']):.2f}", row["reasons"].replace("_", " ") or "none"),
        ]
        for row in of["real"]
    ]
    head = ["head", "what", "unlike, ml", "mostly", "missing, ml", "reasons about the anatomy"]
    return table(head, rows)


def claims(found: Summary) -> list[Claim]:
    """What is painted with 10 ml is seen, and at most one intact head of twenty is told of."""
    made = []
    for name in MODELS:
        at = ("results", name)
        for kind in KINDS:
            what = f"`{name}`: AUROC of a painted {kind} of 10 ml"
            made.append(claim(what, 0.95, found, *at, "painted", kind, "10", "auroc"))
        for key, of in (("intact", "intact heads"), ("test", "MALC2012 test scans")):
            what = f"`{name}`: share of {of} told of"
            made.append(claim(what, 0.05, found, *at, key, "share", at_least=False))
    return made


def figure(found: Summary) -> Figure:
    """Draw the score of every head, a panel for each model."""
    drawn, _ = new_figure(5.2 * len(found["results"]), 3.8, panels=len(found["results"]))
    for axes, (name, of) in zip(drawn.axes, found["results"].items(), strict=True):
        lines = {what: one["scores"] for what, one in _lines(of).items()}
        for place, values in enumerate(reversed(lines.values())):
            axes.plot(values, [place] * len(values), "o", color=BLUE, markersize=4, alpha=0.6)
        axes.set_yticks(range(len(lines)), list(reversed(lines)), fontsize=8)
        axes.axvline(1, color=GREY, linewidth=0.8)
        axes.set_xscale("symlog", linthresh=0.1)
        axes.set_xlim(left=0)
        axes.set_xlabel("score, in units of the limit", fontsize=9)
        axes.set_title(name, fontsize=9)
    return drawn


TITLE = "Pathology: does the verdict on the anatomy see it?"
CHAPTER = Chapter(TITLE, page.command_of(__name__), RECORD, body, claims, {PICTURE: figure})


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
