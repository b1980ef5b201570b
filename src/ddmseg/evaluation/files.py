"""The files of one evaluation: all of them or none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ddmseg import __version__
from ddmseg.errors import OutputError
from ddmseg.evaluation.evaluate import GRID_TOLERANCE, Evaluation
from ddmseg.evaluation.page import render_page
from ddmseg.evaluation.scores import Summary, write_scores, write_table
from ddmseg.maths.case_scores import SURFACE_TOLERANCE_MM
from ddmseg.messages import NOTICE
from ddmseg.outputs.names import check_unused
from ddmseg.outputs.staging import claimed, errors_named, move_in, settle, staging
from ddmseg.outputs.text import write_json, write_text

FILES = ("scores.tsv", "summary.tsv", "summary.json", "evaluation.html")
"""What an evaluation leaves in its folder."""
_STEM = "evaluation"

SUMMARY_COLUMNS = ("structure", "metric", "mean", "low", "high", "n", "undefined", "infinite")


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a place where the results cannot go, by an OutputError, before any work is done."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; the results need a folder: name another place")
    check_unused([folder / name for name in FILES], overwrite=overwrite)


def write_evaluation(
    evaluation: Evaluation, folder: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write the four files and return their paths; the same evaluation gives the same bytes.

    Raises:
        OutputError: when results are there already or cannot be written; older ones are
            then as they were.
    """
    check_folder(folder, overwrite=overwrite)
    with errors_named(folder), claimed(folder, _STEM):
        settle(folder, _STEM)
        with staging(folder, _STEM) as place:
            write_scores(place / "scores.tsv", evaluation.scores)
            write_table(place / "summary.tsv", SUMMARY_COLUMNS, summary_rows(evaluation))
            write_json(place / "summary.json", summary_facts(evaluation))
            write_text(place / "evaluation.html", render_page(evaluation))
            targets = [folder / name for name in FILES]
            move_in([place / name for name in FILES], folder, [t for t in targets if t.exists()])
    return targets


def summary_rows(evaluation: Evaluation) -> Iterator[tuple[object, ...]]:
    """Yield one row per structure and metric, six decimals, in the order of ``SUMMARY_COLUMNS``."""
    for structure, metrics in evaluation.summary.items():
        for metric, summary in metrics.items():
            yield (structure, metric, *(round(one, 6) for one in _figures(summary).values()))


def summary_facts(evaluation: Evaluation) -> dict[str, Any]:
    """Return what ``summary.json`` holds; NaN stands for what is not known."""
    return {
        "notice": NOTICE,
        "ddmseg": __version__,
        "predictions": evaluation.predictions,
        "truth": evaluation.truth,
        "labels": evaluation.labels,
        "settings": {
            "surface_tolerance_mm": SURFACE_TOLERANCE_MM,
            "grid_tolerance_voxels": GRID_TOLERANCE,
            "interval": "95% bootstrap (BCa) over patients, 9999 draws, seed 0",
        },
        "patients": len(evaluation.pairs),
        "pairs": [asdict(pair) for pair in evaluation.pairs],
        "summary": {
            structure: {metric: _figures(summary) for metric, summary in metrics.items()}
            for structure, metrics in evaluation.summary.items()
        },
        "volume_difference": {name: asdict(found) for name, found in evaluation.agreement.items()},
        "problems": evaluation.problems,
        "notes": evaluation.notes,
    }


def _figures(summary: Summary) -> dict[str, float]:
    figures = {name: getattr(summary.interval, name) for name in ("mean", "low", "high", "n")}
    return {**figures, "undefined": summary.undefined, "infinite": summary.infinite}
