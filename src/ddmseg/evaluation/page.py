"""The page of one evaluation: scores of every patient, volumes, tables and what went wrong.

One HTML file that needs nothing else. It holds no time of any kind, so that the same
scores give the same page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from string import Template
from typing import TYPE_CHECKING

from ddmseg import __version__
from ddmseg.evaluation.plots import colour_text, dice_plot, interval_text, volume_plot
from ddmseg.evaluation.scores import MEAN, METRICS, Agreement, Summary, per_patient
from ddmseg.maths.case_scores import Score
from ddmseg.outputs.report.page import fact_list, folded, template_text

if TYPE_CHECKING:
    from ddmseg.evaluation.evaluate import Evaluation

TITLES = {
    "dice": ("Dice", "", 3),
    "surface_dice": ("Surface Dice, 1 mm", "", 3),
    "hd95_mm": ("HD95", "mm", 2),
    "hausdorff_mm": ("Hausdorff", "mm", 2),
    "volume_similarity": ("Volume similarity", "", 3),
}
"""Name, unit and digits of each metric, in the order shown."""

SHOWN_VOLUMES = 9
"""Bland-Altman plots that are open; the others are folded away."""
SHOWN_PATIENTS = 15
SHOWN_NOTES = 8


def render_page(evaluation: Evaluation) -> str:
    """Return the page as one self-contained HTML text; what comes from outside is escaped."""
    rows = _ordered(evaluation)
    places = {case: n for n, case in enumerate(dict.fromkeys(s.case for s in evaluation.scores))}
    dice = {name: evaluation.summary[name]["dice"] for name in rows}
    return Template(template_text("evaluation.html")).substitute(
        title=escape(evaluation.predictions.name or str(evaluation.predictions)),
        style=template_text("report.css", "evaluation.css"),
        script=template_text("evaluation.js"),
        facts=_facts(evaluation, len(rows)),
        problems=_lines("Not evaluated", "fail", evaluation.problems),
        tiles="".join(_tile(metric, evaluation.summary[MEAN][metric]) for metric in TITLES),
        notes=_lines("Know before you read the numbers", "warn", evaluation.notes),
        dice=dice_plot(rows, dice, places),
        structures=_structure_table(rows, evaluation.summary),
        volumes=_volume_plots(rows, evaluation.agreement, places),
        patients=_patient_table(evaluation.scores, places),
        receipt=_receipt(evaluation),
    )


def _ordered(evaluation: Evaluation) -> dict[str, list[Score]]:
    """The scores by structure, best mean Dice first; those without one last."""
    rows: dict[str, list[Score]] = {}
    for score in evaluation.scores:
        rows.setdefault(score.structure, []).append(score)

    def merit(name: str) -> float:
        mean = evaluation.summary[name]["dice"].interval.mean
        return -math.inf if math.isnan(mean) else mean

    return {name: rows[name] for name in sorted(rows, key=merit, reverse=True)}


def _facts(evaluation: Evaluation, structures: int) -> str:
    facts = {
        "Patients": str(len(evaluation.pairs)),
        "Structures": str(structures),
        "Truth": evaluation.truth.name,
        "Labels": (evaluation.labels or "equal ids").replace("\\", "/").rsplit("/", 1)[-1],
        "Not evaluated": str(len(evaluation.problems) or ""),
    }
    return fact_list(facts)


def _lines(title: str, kind: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = [f"<li>{escape(line)}</li>" for line in lines]
    listed = folded(items, SHOWN_NOTES, "more", ("<ul>", "</ul>"))
    return f'<section class="card lines {kind}"><h2>{title}</h2>{listed}</section>'


def _tile(metric: str, summary: Summary) -> str:
    name, unit, digits = TITLES[metric]
    interval = summary.interval
    if math.isnan(interval.mean):
        value, limits = "–", "nothing to score"
    else:
        value = f"{interval.mean:.{digits}f}"
        limits = "one patient: no interval"
        if not math.isnan(interval.low):
            limits = f"{interval.low:.{digits}f} – {interval.high:.{digits}f}"
    left_out = f"<em>{summary.infinite} infinite left out</em>" if summary.infinite else ""
    unit = f"<i>{unit}</i>" if unit else ""
    return (
        f'<div class="tile"><small>{name}</small><b>{value}{unit}</b><span>{limits}</span>'
        f"{left_out}</div>"
    )


def _structure_table(
    rows: Mapping[str, Sequence[Score]], summary: Mapping[str, Mapping[str, Summary]]
) -> str:
    heads = "".join(
        f'<th scope="col">{name}{f", {unit}" if unit else ""}</th>'
        for name, unit, _ in TITLES.values()
    )
    body = [_structure_row(MEAN, None, summary[MEAN])]
    body += [_structure_row(name, found[0], summary[name]) for name, found in rows.items()]
    return (
        '<table class="scores"><thead><tr><th scope="col">Structure</th><th scope="col">n</th>'
        f'{heads}<th scope="col">Infinite</th><th scope="col">Undefined</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


def _structure_row(name: str, score: Score | None, metrics: Mapping[str, Summary]) -> str:
    if score is None:
        head, kind = "Mean of structures", ' class="mean-row"'
    else:
        swatch = f'<i class="swatch" style="--c:{colour_text(score)}"></i>'
        head, kind = f"{swatch}{escape(name)}", ""
    cells = "".join(_interval_cell(metrics[metric], TITLES[metric][2]) for metric in TITLES)
    counts = (metrics["hd95_mm"].infinite, metrics["dice"].undefined)
    counted = "".join(f'<td class="count">{count or "·"}</td>' for count in counts)
    return f'<tr{kind}><th scope="row">{head}</th><td>{metrics["dice"].n}</td>{cells}{counted}</tr>'


def _interval_cell(summary: Summary, digits: int) -> str:
    mean, _, limits = interval_text(summary, digits).partition(" (")
    return f"<td><b>{mean}</b>{f'<small>{limits[:-1]}</small>' if limits else ''}</td>"


def _volume_plots(
    rows: Mapping[str, Sequence[Score]], found: Mapping[str, Agreement], places: Mapping[str, int]
) -> str:
    """All plots, the largest bias for its volume first."""

    def weight(name: str) -> float:
        total = sum(score.truth_ml + score.prediction_ml for score in rows[name]) / 2
        return abs(found[name].bias_ml) * found[name].n / total if total > 0 else -1.0

    order = sorted(rows, key=weight, reverse=True)
    plots = [volume_plot(name, rows[name], found[name], places) for name in order]
    return folded(plots, SHOWN_VOLUMES, "more structures", ('<div class="agreements">', "</div>"))


def _patient_table(scores: Sequence[Score], places: Mapping[str, int]) -> str:
    """One row per patient, the lowest mean Dice first; those with nothing to score last."""
    means = {metric: per_patient(scores, metric) for metric in METRICS}
    dice = means["dice"]
    order = sorted(dice, key=lambda case: math.inf if math.isnan(dice[case]) else dice[case])
    body = [
        _patient_row(
            case,
            places[case],
            {metric: means[metric][case] for metric in METRICS},
            [score for score in scores if score.case == case],
        )
        for case in order
    ]
    head = (
        '<thead><tr><th scope="col">Patient</th><th scope="col" class="axis"><span>0</span>'
        '<span>Dice 1</span></th><th scope="col">Dice</th><th scope="col">Surface Dice</th>'
        '<th scope="col">HD95, mm</th><th scope="col">Lowest structure</th>'
        '<th scope="col">In one map only</th></tr></thead>'
    )
    table = (f'<table class="scores patients">{head}<tbody>', "</tbody></table>")
    return folded(body, SHOWN_PATIENTS, "more patients", table)


def _patient_row(case: str, place: int, means: Mapping[str, float], scores: Sequence[Score]) -> str:
    known = [score for score in scores if math.isfinite(score.dice)]
    lowest = min(known, key=lambda score: score.dice, default=None)
    named = f"{escape(lowest.structure)} <small>{lowest.dice:.3f}</small>" if lowest else "–"
    missed = sum(math.isinf(score.hausdorff_mm) for score in scores)
    share = 0.0 if math.isnan(means["dice"]) else 100 * means["dice"]
    cells = "".join(
        f"<td>{_number(means[metric], digits)}</td>"
        for metric, digits in (("dice", 3), ("surface_dice", 3), ("hd95_mm", 2))
    )
    return (
        f'<tr data-case="{place}"><th scope="row">{escape(case)}</th><td class="axis">'
        f'<div class="bar"><i style="width:{share:.1f}%"></i></div></td>{cells}'
        f'<td class="name-cell">{named}</td><td class="count">{missed or "·"}</td></tr>'
    )


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _receipt(evaluation: Evaluation) -> str:
    rows = {
        "ddmseg": __version__,
        "predictions": str(evaluation.predictions),
        "truth": str(evaluation.truth),
        "labels": evaluation.labels or "equal ids",
    }
    rows |= {pair.case: f"{pair.prediction} ~ {pair.truth}" for pair in evaluation.pairs}
    return "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in rows.items()
    )
