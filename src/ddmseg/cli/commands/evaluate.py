"""``ddmseg evaluate``: label maps of any tool against a truth, as tables and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ddmseg.errors import ScanError
from ddmseg.messages import say, say_error, show

if TYPE_CHECKING:
    from ddmseg.evaluation.evaluate import Evaluation
    from ddmseg.evaluation.scores import Summary


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Score label maps of any tool against a truth: per patient and structure, in 3-D.

    Dice, Hausdorff and HD95 in mm, volume similarity and surface Dice at 1 mm, with 95%
    bootstrap intervals over patients. Files are matched by name or BIDS subject.
    """

    predictions: Annotated[Positional[Path], arg(metavar="PREDICTIONS", help_behavior_hint="")]
    """Folder of label maps, such as the output of ddmseg segment, or one NIfTI file."""
    truth: Annotated[Positional[Path], arg(metavar="TRUTH", help_behavior_hint="")]
    """Folder of the true label maps on the same grids, or one NIfTI file."""
    output: Annotated[Path, arg(aliases=("-o",), metavar="OUT")]
    """Folder for scores.tsv, summary.tsv, summary.json and evaluation.html."""
    labels: Annotated[
        str | None, arg(metavar="TABLE", help_behavior_hint="(equal ids are compared)")
    ] = None
    """Which ids belong together: a TSV file with the columns name, prediction and truth (ids
    separated by commas), or hippocampus, ibsr18 or malc2012 for FreeSurfer ids against the
    truth of that set."""
    overwrite: bool = False
    """Replace the results of an earlier run."""
    debug: bool = False
    """Show where an unexpected error came from."""


def run(arguments: Arguments) -> int:
    """Evaluate every pair that can be; return 0, or 1 when some could not."""
    from ddmseg.cli.progress import progress_bar
    from ddmseg.evaluation.evaluate import evaluate
    from ddmseg.evaluation.files import check_folder, write_evaluation
    from ddmseg.evaluation.labels import load_label_table

    check_folder(arguments.output, overwrite=arguments.overwrite)
    table = None if arguments.labels is None else load_label_table(arguments.labels)
    with progress_bar(1.0) as bar:

        def progress(done: int, pairs: int) -> None:
            bar.update(done / pairs if pairs else 1.0, f"{done} of {pairs} pairs scored")

        found = evaluate(arguments.predictions, arguments.truth, table=table, progress=progress)
    for problem in found.problems:
        say_error(ScanError(problem))
    for note in found.notes:
        say(f"warning: {note}")
    if not found.scores:
        raise ScanError(
            "no pair could be evaluated, so nothing was written; see the lines above"
            if found.problems
            else "no label map holds a label above 0, so nothing was written; check the files"
        )
    *_, page = write_evaluation(found, arguments.output, overwrite=arguments.overwrite)
    show(f"{_closing_line(found)}  {page}")
    return 1 if found.problems else 0


def _closing_line(found: Evaluation) -> str:
    """How many patients, and the mean over structures of the two metrics most read."""
    patients = len(found.pairs)
    mean = found.summary["mean"]
    return (
        f"{patients} patient{'s' * (patients != 1)}  "
        f"mean Dice {_with_interval(mean['dice'], 3)}  "
        f"HD95 {_with_interval(mean['hd95_mm'], 2)} mm"
    )


def _with_interval(summary: Summary, digits: int) -> str:
    mean, low, high = (
        f"{value:.{digits}f}"
        for value in (summary.interval.mean, summary.interval.low, summary.interval.high)
    )
    if mean == "nan":
        return "undefined"
    return mean if low == "nan" else f"{mean} ({low} to {high})"
