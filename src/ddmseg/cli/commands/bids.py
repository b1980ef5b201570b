"""``ddmseg bids``: a BIDS folder in, BIDS derivatives out, as BIDS apps are called."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from ddmseg.cli.commands import segment
from ddmseg.cli.commands.cohort import merge_group
from ddmseg.cohort import bids_choice
from ddmseg.cohort.derivatives import describe_derivative
from ddmseg.errors import ScanError
from ddmseg.messages import say


@dataclass(frozen=True, kw_only=True)
class _Folders:
    bids_dir: Annotated[Positional[Path], arg(metavar="BIDS_DIR", help_behavior_hint="")]
    """Folder of the scans, as BIDS has it; nothing is written there."""
    output: Annotated[Positional[Path], arg(metavar="OUT", help_behavior_hint="")]
    """Folder for the results, such as BIDS_DIR/derivatives/ddmseg."""
    level: Annotated[
        Positional[Literal["participant", "group"]], arg(metavar="LEVEL", help_behavior_hint="")
    ]
    """participant segments the scans; group makes table and page of what is there."""
    participant_label: Annotated[
        tuple[str, ...], arg(aliases=("--participant_label",), metavar="LABEL")
    ] = ()
    """Subjects, with or without sub-; all without this."""
    session_label: Annotated[
        tuple[str, ...], arg(aliases=("--session_label",), metavar="LABEL")
    ] = ()
    """Sessions, with or without ses-; all without this."""
    suffix: Annotated[
        Literal["T1w", "FLAIR", "T2w"] | None, arg(help_behavior_hint="(the first that is there)")
    ] = None
    """Contrast to segment; without this T1w before FLAIR before T2w, session by session."""
    bids_filter_file: Annotated[Path | None, arg(metavar="JSON", help_behavior_hint="")] = None
    """What the entities of the images must be, such as {"t1w": {"acquisition": "mprage"}}."""
    skip_bids_validation: bool = False
    """Take the folder without a look at its dataset_description.json."""
    work_dir: Annotated[
        Path | None, arg(aliases=("-w",), metavar="DIR", help_behavior_hint="(the cache)")
    ] = None
    """Folder for the features that later runs can use again; it may be removed at any time."""


@dataclass(frozen=True, kw_only=True)
class Arguments(segment.RunOptions, _Folders):
    """Segment a BIDS folder: derivatives for each subject, then one table and page of all.

    Research software: not a medical device and not for diagnosis.
    """


def run(arguments: Arguments) -> int:
    """Do one level; return 0, or 1 when something of it could not be done."""
    segment.check_options(arguments)
    if not arguments.bids_dir.is_dir() or not arguments.skip_bids_validation:
        bids_choice.check_bids(arguments.bids_dir)
    file = arguments.bids_filter_file
    wanted = bids_choice.Wanted(
        participants=arguments.participant_label,
        sessions=arguments.session_label,
        contrasts=(arguments.suffix,) if arguments.suffix else bids_choice.CONTRASTS,
        filters={} if file is None else bids_choice.read_filters(file),
    )
    choice = bids_choice.choose_scans(arguments.bids_dir, wanted)
    if arguments.level == "group":
        return merge_group([arguments.output], arguments.output, choice)
    return _segment(arguments, choice)


def _segment(arguments: Arguments, choice: bids_choice.Choice) -> int:
    from ddmseg.inference.cache import CACHE_VARIABLE
    from ddmseg.models.card import trained_on
    from ddmseg.outputs.names import check_place

    trained_on(arguments.model)  # a wrong name is told before anything is written
    check_place(arguments.output, "")
    for line in choice.lines():
        say(line)
    if not choice.scans and not choice.refused:
        raise ScanError(f"{arguments.bids_dir}: no image to segment; the lines above say why")
    describe_derivative(arguments.output, arguments.bids_dir)
    if arguments.work_dir is not None:
        os.environ[CACHE_VARIABLE] = str(arguments.work_dir / "features")
    shared = {one.name: getattr(arguments, one.name) for one in fields(segment.RunOptions)}
    options = segment.Arguments(scans=(), output=arguments.output, **shared)
    return segment.segment_found(choice.scans, choice.refused, options)
