"""The files of one evaluation: all of them or none."""

from __future__ import annotations

import contextlib
import tempfile
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
from ddmseg.outputs.staging import move_in
from ddmseg.outputs.text import write_json, write_text

FILES = ("scores.tsv", "summary.tsv", "summary.json", "evaluation.html")
"""What an evaluation leaves in its folder."""

SUMMARY_COLUMNS = ("structure", "metric", "mean", "low", "high", "n", "undefined", "infinite")


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a place where the results cannot go, before any work is done.

    Raises:
        OutputError: when it is a file, or results are there and may not be replaced.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; the results need a folder: name another place")
    existing = [folder / name for name in FILES if (folder / name).exists()]
    if existing and not overwrite:
        raise OutputError(
            f"{existing[0]} exists already; pass --overwrite to replace it, or name another folder"
        )


def write_evaluation(
    evaluation: Evaluation, folder: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write the four files and return their paths; the same evaluation gives the same bytes.

    Raises:
        OutputError: when results are there already or cannot be written; older ones are
            then as they were.
    """
    check_folder(folder, overwrite=overwrite)
    with _staging(folder) as staging:
        write_scores(staging / "scores.tsv", evaluation.scores)
        write_table(staging / "summary.tsv", SUMMARY_COLUMNS, summary_rows(evaluation))
        write_json(staging / "summary.json", summary_facts(evaluation))
        write_text(staging / "evaluation.html", render_page(evaluation))
        existing = [folder / name for name in FILES if (folder / name).exists()]
        move_in([staging / name for name in FILES], folder, existing)
    return [folder / name for name in FILES]


def summary_rows(evaluation: Evaluation) -> Iterator[tuple[object, ...]]:
    """Yield one row per structure and metric, six decimals, in the order of ``SUMMARY_COLUMNS``."""
    for structure, metrics in evaluation.summary.items():
        for metric, summary in metrics.items():
            figures = _figures(summary).values()
            yield (structure, metric, *(round(figure, 6) for figure in figures))


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
    interval = summary.interval
    return {
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
        "undefined": summary.undefined,
        "infinite": summary.infinite,
    }


@contextlib.contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A hidden folder inside the output folder; a folder made for nothing is taken back."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    done = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".evaluation-", dir=folder) as staging:
            try:
                yield Path(staging)
            except OutputError as error:
                # the user knows a file by the place where it was to be
                raise OutputError(str(error).replace(staging, str(folder))) from error
        done = True
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write {folder}: {reason}; mend that or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            for path in [] if done else missing:
                path.rmdir()
