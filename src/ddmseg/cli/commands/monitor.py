"""``ddmseg monitor``: have scans or results shifted? A page from the store of all runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from ddmseg.errors import OutputError, ScanError, UsageError
from ddmseg.messages import say, show

if TYPE_CHECKING:
    from ddmseg.monitoring.store import Lines


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Compare the newest runs with those before: what shifted, by how much, since when.

    ddmseg segment --monitor STORE adds the runs. Research software: not for diagnosis.
    """

    store: Annotated[Positional[Path], arg(metavar="STORE", help_behavior_hint="")]
    """Folder that ddmseg segment --monitor writes to."""
    output: Annotated[
        Path | None, arg(aliases=("-o",), metavar="PAGE", help_behavior_hint="(no page)")
    ] = None
    """HTML file for the report."""
    window: Annotated[str, arg(metavar="N|Nd")] = "50"
    """The last N scans, or with a d those of the last N days up to the newest run."""
    reference: Annotated[
        str | None, arg(metavar="FROM..TO", help_behavior_hint="(all runs before the window)")
    ] = None
    """Days of the reference, such as 2026-01-01..2026-03-31; either may be left out."""
    model: Annotated[
        str | None, arg(metavar="NAME", help_behavior_hint="(that of the newest run)")
    ] = None
    """Whose runs to compare."""
    reviews: Annotated[Path | None, arg(metavar="OUT", help_behavior_hint="(no edit rate)")] = None
    """Folder that was reviewed with ddmseg review; its logs tell what was corrected."""
    export: Annotated[Path | None, arg(metavar="CSV", help_behavior_hint="(no export)")] = None
    """CSV file for all lines of the store; a JSON file of the same name says what they mean."""
    overwrite: bool = False
    """Replace earlier files."""
    debug: bool = False
    """Show where an unexpected error came from."""


def run(arguments: Arguments) -> int:
    """Write what was asked for; return 0."""
    if arguments.output is None and arguments.export is None:
        raise UsageError("--output or --export is missing; see ddmseg monitor --help")
    _check_places(arguments)
    if not arguments.store.is_dir():
        raise ScanError(
            f"{arguments.store}: no such folder; name the one given to ddmseg segment --monitor"
        )
    from ddmseg.monitoring.store import Store, write_csv

    store = Store(arguments.store)
    found = store.read()
    if arguments.reviews is not None:
        found = _with_reviews(found, arguments.reviews, store.salt())
    for problem in found.problems:
        say(f"warning: {problem}")
    if arguments.export is not None:
        write_csv(arguments.export, found.lines, found.columns)
        show(f"{len(found.lines)} runs  {arguments.export}")
    if arguments.output is not None:
        _write_page(arguments, arguments.output, found)
    return 0


def _check_places(arguments: Arguments) -> None:
    """Refuse places where a file is, or where two files would have one name."""
    from ddmseg.monitoring.store import dictionary_beside
    from ddmseg.outputs.names import check_unused

    table, beside = arguments.export, None
    if table is not None:
        beside = dictionary_beside(table)
        if beside in (table, arguments.output):
            raise UsageError(
                f"--export: got {table}; {beside} says what its columns mean: name the table "
                "otherwise, such as runs.csv"
            )
    for path in filter(None, (arguments.output, table, beside)):
        if path.is_dir():
            raise OutputError(f"{path} is a folder; name a file, such as {path / 'monitor.html'}")
        check_unused([path], overwrite=arguments.overwrite, other="file")


def _with_reviews(found: Lines, folder: Path, salt: bytes) -> Lines:
    """Add what reviewers decided, and what is wrong with their logs."""
    from ddmseg.monitoring.reviews import join_reviews, read_reviews

    decisions, problems = read_reviews(folder)
    return replace(
        found,
        lines=join_reviews(found.lines, decisions, salt),
        columns=list(dict.fromkeys([*found.columns, "review", "edited_ml"])),
        problems=[*found.problems, *problems],
    )


def _write_page(arguments: Arguments, path: Path, found: Lines) -> None:
    from ddmseg.monitoring.compare import compare_runs
    from ddmseg.monitoring.page import render_monitor, status_line
    from ddmseg.monitoring.selection import Choice, select
    from ddmseg.outputs.text import write_text

    choice = Choice(arguments.window, arguments.reference, arguments.model)
    comparison = compare_runs(select(found.lines, choice), found.columns, notes=found.problems)
    write_text(path, render_monitor(comparison))
    show(f"{status_line(comparison)}  {path}")
