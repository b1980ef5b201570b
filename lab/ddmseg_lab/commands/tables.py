"""What ``ddmseg compare`` and ``ddmseg ablate`` share: run the rows, show the table."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ddmseg.errors import DdmsegError, SettingsError
from ddmseg.messages import say_error
from ddmseg_lab.folders import RESULTS, ResultsFolder

if TYPE_CHECKING:
    from ddmseg_lab.comparison.plan import Plan
    from ddmseg_lab.comparison.row import Places
    from ddmseg_lab.comparison.runs import Report


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Options of every command that can train rows."""

    rows: Annotated[str, arg(metavar="ROW,ROW", help_behavior_hint="(all)")] = ""
    """Only these rows of a table, names with commas between."""
    results: ResultsFolder = RESULTS
    """Folder that keeps the records; what was recorded with the same settings and weights is not
    repeated."""
    work: Annotated[Path, arg(metavar="DIR")] = Path("runs")
    """Folder for states and weights of rows."""
    data: Annotated[
        Path | None, arg(metavar="DIR", help_behavior_hint="(the variable DDMSEG_DATA)")
    ] = None
    """Folder that holds the data sets, one subfolder each."""
    max_minutes: Annotated[float | None, arg(metavar="N", help_behavior_hint="(no limit)")] = None
    """Save the state and stop training after so many minutes; the same command goes on."""
    show: bool = False
    """Measure and train nothing, only show what has been recorded."""
    debug: bool = False
    """Show where an unexpected error came from."""


@dataclass(frozen=True, kw_only=True)
class TableArguments(TableOptions):
    """Options of a command that fills a table, row by row."""

    table: Annotated[Positional[Path], arg(metavar="TABLE", help_behavior_hint="")]
    """Folder with table.toml and a settings file for each row."""
    nnunet_python: Annotated[
        Path | None, arg(metavar="PYTHON", help_behavior_hint="(the variable DDMSEG_NNUNET_PYTHON)")
    ] = None
    """Python of an environment with nnunetv2, for rows of nnU-Net."""


def run_table(arguments: TableArguments, kind: str) -> int:
    """Run the missing rows of a table of a kind, then print it as Markdown.

    The exit code is 0 when all rows asked for stand, 1 when one failed or time was over.
    """
    from ddmseg.models.available_memory import keep_freed_memory
    from ddmseg_lab.comparison.plan import read_plan
    from ddmseg_lab.comparison.row import Places, is_done, keep_table
    from ddmseg_lab.comparison.table import build_table, markdown

    if arguments.max_minutes is not None and not arguments.max_minutes > 0:
        raise SettingsError(f"max-minutes: got {arguments.max_minutes:g}; it must be above 0")
    plan = read_plan(arguments.table)
    rows = tuple(name.strip() for name in arguments.rows.split(",") if name.strip())
    for row in rows:
        plan.settings(row, plan.folds[0])
    data = str(arguments.data) if arguments.data else None
    places = Places(
        arguments.results / kind / plan.name,
        arguments.work / kind / plan.name,
        arguments.work,
        data,
        str(arguments.nnunet_python) if arguments.nnunet_python else None,
    )
    code = 0
    if not arguments.show:
        keep_freed_memory()
        keep_table(plan, places)
        done = [row for row in rows if all(is_done(plan, row, fold, places) for fold in plan.folds)]
        if done:  # nobody should wait in vain
            print(
                f"recorded already: {', '.join(done)}; to run them again, name an empty folder "
                "with --results and another with --work",
                file=sys.stderr,
            )
        code = _run_rows(plan, rows or tuple(plan.rows), places, arguments.max_minutes)
    print(f"# {plan.table.title}\n")
    print(markdown(build_table(plan.table, places.results), plan.table.references))
    return code


def _run_rows(plan: Plan, rows: tuple[str, ...], places: Places, max_minutes: float | None) -> int:
    from ddmseg_lab.comparison.row import is_done, run_row
    from ddmseg_lab.comparison.runs import Unfinished

    deadline = math.inf if max_minutes is None else time.monotonic() + 60 * max_minutes
    code = 0
    for row in rows:
        for fold in plan.folds:
            if is_done(plan, row, fold, places):
                continue
            left = (deadline - time.monotonic()) / 60
            if left <= 0:
                print("the time is over; the same command goes on", file=sys.stderr)
                return 1
            try:
                with _reporting(plan, row, fold) as report:
                    run_row(plan, row, fold, places, max_minutes=left, report=report)
            except Unfinished as stop:
                print(f"{stop}; the same command goes on", file=sys.stderr)
                return 1
            except DdmsegError as error:  # the other rows do not depend on it
                say_error(error)
                code = 1
                break
    return code


@contextlib.contextmanager
def _reporting(plan: Plan, row: str, fold: str) -> Iterator[Report]:
    """Show the training of a row."""
    from ddmseg.cli.progress import progress_bar

    steps = plan.settings(row, fold).training.steps
    with progress_bar(steps, first_text=f"{row}, {fold}") as bar:
        # nnU-Net counts in iterations of its own: the bar shows the share that is done.
        yield lambda now: bar.update(
            steps * now.step / now.steps, f"{row}, {fold}: step {now.step} of {now.steps}"
        )
