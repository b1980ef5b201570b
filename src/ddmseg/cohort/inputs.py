"""From what was named on the command line to scans and the places of their results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ddmseg.cohort.scan import Refused, Scan
from ddmseg.cohort.scan_search import Tell, as_ours, scans_in
from ddmseg.errors import ScanError

if TYPE_CHECKING:
    from ddmseg.imaging.dicom.series_selection import Trained


def find_scans(
    inputs: Iterable[Path],
    *,
    series: str | None = None,
    model: Trained | None = None,
    root: Path | None = None,
    tell: Tell = lambda line: None,
) -> tuple[list[Scan], list[Refused]]:
    """Return every scan once, with places of their own for the results.

    Two names are two scans, also where they are links to one file. Whether a NIfTI file
    can be read is found out when it is read; of a DICOM input the headers are read here,
    and one series of each examination becomes a scan.
    Scans in folders of a folder that was named have the same folders in the output.
    Where places are equal all the same, the folders that tell the scans apart are added.

    Args:
        series: number or UID of the series to take from each DICOM input; None
            takes the one that fits the model best.
        model: what it was trained on; None for what holds for all.
        root: folder above all scans; results go to the folder that each has below it, so that a
            place depends on no other scan. None has folders only where they are needed.
        tell: gets a line for each series where an input holds several, on the choice and its
            reason, none of which names a path or patient; and on what of a folder is passed over.
    """
    found: dict[tuple[str, str, str], Scan] = {}
    refused = []
    for given in inputs:
        try:
            for one in scans_in(given, series, model, tell):
                if isinstance(one, Refused):
                    refused.append(one)
                    continue
                # the text alone would take link/../a for a
                names = (os.path.abspath(one.path), os.path.realpath(one.path))
                found.setdefault((*names, one.series.uid if one.series else ""), one)
        except Exception as error:  # one bad input stops nothing else
            refused.append(Refused(given, as_ours(given, error)))
    if root is None:
        return _placed([*found.values()]), refused
    scans = []
    for one in found.values():
        if (subfolder := one.below(root)) is not None:
            scans.append(replace(one, subfolder=subfolder))
            continue
        why = f"{one.path}: does not lie below --root {root}; name a folder above it"
        refused.append(Refused(one.path, ScanError(why)))
    return _placed(scans, by_name=False), refused


def series_lines(path: Path) -> Iterator[str]:
    """Yield a line for each series of a DICOM input, with its UID; a ScanError where none is."""
    from ddmseg.imaging.dicom.series import list_series
    from ddmseg.imaging.dicom.series_selection import describe_series

    if not path.exists():
        raise ScanError(f"{path}: no such file; check the path")
    yield from (f"{describe_series(one)}; UID {one.uid}" for one in list_series(path))


def _placed(scans: Sequence[Scan], *, by_name: bool = True) -> list[Scan]:
    """Give each scan a place of its own, comparing names as a disk that ignores case does.

    With ``by_name``, scans of equal places get the folders that tell them apart.
    """
    places = Counter(map(_place, scans))
    taken: set[tuple[str, str]] = set()
    placed = []
    for scan in scans:
        one = scan
        if by_name and places[_place(scan)] > 1:
            one = replace(scan, subfolder=_telling_parts(scan, scans))
        number = 2
        # one folder can still hold scan.nii and scan.nii.gz
        while _place(one) in taken:
            one = replace(one, stem=f"{scan.stem}_{number}")
            number += 1
        taken.add(_place(one))
        placed.append(one)
    return placed


def _place(scan: Scan) -> tuple[str, str]:
    return scan.subfolder.casefold(), scan.stem.casefold()


def _telling_parts(scan: Scan, scans: Sequence[Scan]) -> str:
    """The last folders of a path, as many as tell it from the others of its place."""
    own = scan.home
    others = {other.home for other in scans if _place(other) == _place(scan)} - {own}
    for count in range(1, len(own) + 1):
        if all(other[-count:] != own[-count:] for other in others):
            return "/".join(own[-count:])
    return "/".join(own)
