"""``ddmseg cohort``: one table and page of many results, and files for Snakemake and Slurm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from ddmseg.errors import ScanError, UsageError
from ddmseg.messages import say, say_error, show

if TYPE_CHECKING:
    from ddmseg.cohort.bids_choice import Choice


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Merge results of many scans to one table and page, or write files for Snakemake and Slurm.

    Research software: not a medical device and not for diagnosis.
    """

    action: Annotated[
        Positional[Literal["group", "init"]], arg(metavar="ACTION", help_behavior_hint="")
    ]
    """group merges results; init writes Snakefile, Slurm profile and a template for sbatch."""
    folders: Annotated[Positional[tuple[Path, ...]], arg(metavar="DIR", help_behavior_hint="")]
    """group: folders of results. init: the BIDS folder, then the folder for the results."""
    output: Annotated[
        Path | None, arg(aliases=("-o",), metavar="OUT", help_behavior_hint="(required)")
    ] = None
    """group: folder for table and page. init: folder for the files."""
    scans_per_job: Annotated[int, arg(metavar="N")] = 25
    """init: subjects of a job; weights are loaded once for them. 20 to 50 do well."""
    partition: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(the default)")] = None
    """init: partition of Slurm."""
    overwrite: bool = False
    """init: replace files that were written before."""
    debug: bool = False
    """Show where an unexpected error came from."""


def run(arguments: Arguments) -> int:
    """Do one of both; return 0, or 1 when a result could not be read."""
    if not arguments.folders:
        raise UsageError("DIR is missing; see ddmseg cohort --help")
    if arguments.output is None:
        raise UsageError("--output is missing; see ddmseg cohort --help")
    if arguments.action == "group":
        return merge_group(arguments.folders, arguments.output)
    return _init(arguments, arguments.output)


def merge_group(folders: Sequence[Path], output: Path, choice: Choice | None = None) -> int:
    """Write table and page of all results below some folders; return 1 when some were damaged.

    The choice is that of the BIDS folder that they were made from, where that is known.

    Raises:
        DdmsegError: when there is no result, or nothing can be written.
    """
    from ddmseg.cohort.group import PAGE, missing, read_group, write_tables
    from ddmseg.cohort.group_page import mixtures, render_group
    from ddmseg.outputs.names import check_place
    from ddmseg.outputs.text import write_text

    check_place(output, "")
    group = read_group(folders)
    for problem in group.problems:
        say_error(problem)
    if not group.rows:
        listed = ", ".join(map(str, folders))
        raise ScanError(f"{listed}: no result that can be read; segment some scans first")
    absent: dict[str, str] = {}
    if choice is not None:
        waiting = missing([scan.stem for scan in choice.scans], group)
        absent |= choice.passed_over
        absent |= {one.path.name: str(one.error) for one in choice.refused}
        absent |= dict.fromkeys(waiting, "not segmented yet, or failed: run participant again")
    notes = mixtures(group)
    for line in (*(f"without a result: {name} ({why})" for name, why in absent.items()), *notes):
        say(line)
    notes += [str(problem) for problem in group.problems]
    page = render_group(group, output, absent, notes)
    write_tables(group, output)
    write_text(output / PAGE, page)
    show(f"{len(group.rows)} scans  {output / PAGE}")
    return 1 if group.problems else 0


def _init(arguments: Arguments, output: Path) -> int:
    from ddmseg.cohort.bids_choice import Wanted, check_bids, choose_scans
    from ddmseg.cohort.workflow import write_workflow

    if len(arguments.folders) != 2:
        raise UsageError("init: give the BIDS folder and the folder for the results, and -o")
    root, results = arguments.folders
    check_bids(root)
    choice = choose_scans(root, Wanted())
    for line in choice.lines():
        say(line)
    names = ("scans_per_job", "partition", "overwrite")
    options = {name: getattr(arguments, name) for name in names}
    for path in write_workflow(root, choice.scans, results, output, **options):
        show(str(path))
    return 0
