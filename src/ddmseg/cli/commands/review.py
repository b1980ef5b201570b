"""``ddmseg review``: look at results in the browser, accept, reject or correct them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ddmseg.errors import OutputError, ScanError, UsageError
from ddmseg.messages import say, say_error, show


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Look at results in the browser: accept, reject or correct them, on this machine only.

    Research software: not a medical device and not for diagnosis.
    """

    folder: Annotated[Positional[Path], arg(metavar="OUT", help_behavior_hint="")]
    """Folder that ddmseg segment wrote."""
    scans: Annotated[
        Path | None, arg(metavar="DIR", help_behavior_hint="(only OUT itself is searched)")
    ] = None
    """Folder that holds the scans; they are found by name and believed by their hash."""
    port: Annotated[int, arg(metavar="N", help_behavior_hint="(0: any free one)")] = 0
    """Port to listen on."""
    reviewer: Annotated[str, arg(metavar="NAME", help_behavior_hint="(none)")] = ""
    """Who decides, for the log."""
    browser: bool = False
    """Open the page in the browser at once."""
    verify_log: bool = False
    """Only check review_log.jsonl and the labels of its decisions, and name what is wrong first."""
    debug: bool = False
    """Show where an unexpected error came from."""


def run(arguments: Arguments) -> int:
    """Serve the page until Ctrl-C, or check the log; return 1 when the log is broken."""
    if not arguments.folder.is_dir():
        raise ScanError(
            f"{arguments.folder}: no such folder; name the one that ddmseg segment wrote"
        )
    if arguments.verify_log:
        return _verify(arguments.folder)
    return _serve(arguments)


def _verify(folder: Path) -> int:
    from ddmseg.review.log import LOG
    from ddmseg.review.verification import verify_review

    found = verify_review(folder)
    if found.problem:
        say_error(OutputError(f"{folder / LOG}: {found.problem}"))
        return 1
    if not found.entries:
        show(f"{folder}: no decision has been logged yet")
        return 0
    if found.doubt:
        say(f"warning: {folder / LOG}: {found.doubt}")
    entries = "entry" if found.entries == 1 else "entries"
    told = f"{found.entries} {entries}, unbroken; the last has {found.last_sha256}"
    show(f"{folder / LOG}: {told}")
    return 0


def _serve(arguments: Arguments) -> int:
    from ddmseg.review.launch import check_packages, serve

    check_packages()
    if arguments.scans is not None and not arguments.scans.exists():
        raise UsageError(f"scans: got {arguments.scans}; there is no such folder")
    from ddmseg.review.session import Review

    scans = [] if arguments.scans is None else [arguments.scans]
    review = Review(arguments.folder, scans=scans, reviewer=arguments.reviewer)
    unsealed = review.log.account.trouble()
    if unsealed:
        say(f"warning: decisions are not sealed: {unsealed}")
    try:
        serve(review, port=arguments.port, report=_print_link, browser=arguments.browser)
    except KeyboardInterrupt:
        print("review ended")
    return 0


def _print_link(link: str) -> None:
    print(f"open {link}\nResearch use, not for diagnosis. Ctrl-C ends the review.", flush=True)
