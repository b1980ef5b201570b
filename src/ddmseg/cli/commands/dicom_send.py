"""``ddmseg dicom-send``: send the results of a scan, or their correction, as DICOM."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from ddmseg.errors import OutputError, UsageError

_NONE = "(none)"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Send the results of a scan as DICOM: the corrected labels where a review left some.

    Nothing is queued: where nobody answers, the command says so, and is to be repeated.

    Research software: not a medical device and not for diagnosis.
    """

    result: Annotated[Positional[Path], arg(metavar="RESULT", help_behavior_hint="")]
    """Folder and stem of the results, such as OUT/job-000001/series-004."""
    source: Annotated[
        Path | None, arg(metavar="DIR", help_behavior_hint="(needed for corrections)")
    ] = None
    """Where the scan is: the spool of ddmseg dicom-node, or any DICOM folder or zip archive."""
    send: Annotated[str | None, arg(metavar="AE@HOST:PORT", help_behavior_hint=_NONE)] = None
    """Send there by C-STORE."""
    stow: Annotated[str | None, arg(metavar="URL", help_behavior_hint=_NONE)] = None
    """Send to this DICOMweb service by STOW-RS."""
    title: Annotated[str, arg(metavar="AE")] = "DDMSEG"
    """AE title that is given as ours."""
    dicom_seg: Literal["binary", "labelmap"] = "binary"
    """How corrected labels are stored: every viewer reads binary."""
    tls_certificate: Annotated[Path | None, arg(metavar="PEM", help_behavior_hint=_NONE)] = None
    """Show this certificate to who asks for one."""
    tls_key: Annotated[Path | None, arg(metavar="PEM", help_behavior_hint=_NONE)] = None
    """Its key."""
    tls_authority: Annotated[Path | None, arg(metavar="PEM", help_behavior_hint=_NONE)] = None
    """Believe only certificates that this authority has signed."""
    send_tls: bool = False
    """Encrypt --send."""
    debug: bool = False
    """Show where an unexpected error came from."""


def run(arguments: Arguments) -> int:
    """Send, and print a line for each destination; return 0."""
    from ddmseg.node.addresses import Certificates, parse_peer, parse_title
    from ddmseg.node.destinations import UnreachableError, check_packages, make_destinations
    from ddmseg.node.log import silent_libraries

    if arguments.send is None and arguments.stow is None:
        raise UsageError("--send or --stow is missing; see ddmseg dicom-send --help")
    check_packages()
    certificates = Certificates(
        arguments.tls_certificate, arguments.tls_key, arguments.tls_authority
    )
    destinations = make_destinations(
        parse_peer(arguments.send, option="send") if arguments.send is not None else None,
        arguments.stow,
        title=parse_title(arguments.title, option="title"),
        encryption=certificates.client(),
        tls=arguments.send_tls,
    )
    from ddmseg.node.correction import files_to_send
    from ddmseg.node.delivery import not_taken_line

    with silent_libraries():
        files = files_to_send(arguments.result, arguments.source, form=arguments.dicom_seg)
        for destination in destinations:
            try:
                not_taken = destination.send(files)
            except UnreachableError as error:
                told = f"{error}; nothing is queued: repeat the command later"
                raise OutputError(told) from error
            sent = ", ".join(path.name for path in files if path not in not_taken)
            print(f"{sent}: sent to {destination.name}{not_taken_line(not_taken)}")
    return 0
