"""``ddmseg replay``: a result again from its receipt: the same labels, or what differs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ddmseg.errors import ScanError
from ddmseg.messages import say, show
from ddmseg.models.device import DeviceName


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Segment a scan again as a receipt says; exit code 0 for the same labels, 1 for others.

    Research software: not a medical device and not for diagnosis.
    """

    receipt: Annotated[Positional[Path], arg(metavar="RECEIPT", help_behavior_hint="")]
    """The _receipt.json of a result."""
    scans: Annotated[
        tuple[Path, ...], arg(metavar="DIR", help_behavior_hint="(where BIDS says, or here)")
    ] = ()
    """Folders or files among which the scan is; it is found by name and believed by its hash."""
    model: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(the receipt's)")] = None
    """Name of a shipped model, or the .safetensors file of one that you trained."""
    device: DeviceName = "auto"
    """Where to compute; auto takes a CUDA GPU where there is one, mps is the GPU of a Mac."""
    threads: Annotated[int | None, arg(metavar="N", help_behavior_hint="(the receipt's)")] = None
    """CPU threads."""
    debug: bool = False
    """Show where an unexpected error came from."""


def run(arguments: Arguments) -> int:
    """Make the labels again and compare them."""
    from ddmseg.cohort.replay import differences, places_of_scans, read_replay, surroundings
    from ddmseg.cohort.source_scan import find_source_scan
    from ddmseg.models.zoo import model_path

    replay = read_replay(arguments.receipt)
    name = arguments.model or replay.model
    model_path(name)  # a wrong name must not cost the search
    places = places_of_scans(replay, arguments.scans)
    scan = find_source_scan(replay.stem, dict(replay.told), places)
    if scan is None:
        listed = ", ".join(str(place.absolute()) for place in places)
        raise ScanError(
            f"{arguments.receipt}: its scan is not in {listed}; name the folder with --scans"
        )
    import torch

    from ddmseg.inference.segmenter import Segmenter

    threads = arguments.threads or replay.told.get("spent", {}).get("threads")
    if isinstance(threads, int) and threads > 0:
        torch.set_num_threads(threads)
    segmenter = Segmenter.load(name, device=arguments.device)
    for line in surroundings(replay, segmenter.card.checksum):
        say(line)
    differs = differences(replay, segmenter(scan, replay.options))
    show(f"{'other labels than those of' if differs else 'the same labels as'} {arguments.receipt}")
    for line in differs:
        show(line)
    return 1 if differs else 0
