"""``ddmseg dicom-node``: take scans over the DICOM network, segment them, send the results on."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from ddmseg.errors import OutputError, SettingsError, UsageError
from ddmseg.inference.options import SegmentOptions
from ddmseg.models.device import DeviceName

if TYPE_CHECKING:
    from ddmseg.node.node import NodeSettings
    from ddmseg.node.worker import Work

_NONE = "(none)"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Take scans over the DICOM network, segment them and send the results on, until Ctrl-C.

    Research software: not a medical device and not for diagnosis.
    """

    output: Annotated[Path, arg(aliases=("-o",), metavar="OUT")]
    """Folder for the results; each examination gets a folder in it."""
    spool: Annotated[Path, arg(metavar="DIR")]
    """Folder for what arrives, and for the queue; it outlives the program."""
    title: Annotated[str, arg(metavar="AE")] = "DDMSEG"
    """AE title of this node; who calls another is refused."""
    address: str = "127.0.0.1"
    """Address to listen on; this machine alone can reach the default."""
    port: Annotated[int, arg(metavar="N")] = 11112
    """Port to listen on; 0 takes a free one and prints it."""
    allow: Annotated[str | None, arg(metavar="AE,AE", help_behavior_hint="(all, on loopback)")] = (
        None
    )
    """AE titles that may send here."""
    quiet_seconds: Annotated[float, arg(metavar="S")] = 30.0
    """An examination is complete when nothing came for so long."""
    send: Annotated[str | None, arg(metavar="AE@HOST:PORT", help_behavior_hint=_NONE)] = None
    """Send the results there by C-STORE."""
    stow: Annotated[str | None, arg(metavar="URL", help_behavior_hint=_NONE)] = None
    """Send the results to this DICOMweb service by STOW-RS."""
    hold_failed: bool = False
    """Do not send results that fail the quality check; they are written all the same."""
    retry_seconds: Annotated[float, arg(metavar="S")] = 10.0
    """Wait before the second try of what failed; it doubles from try to try."""
    retry_longest: Annotated[float, arg(metavar="S")] = 900.0
    """The longest such wait."""
    retry_failed: bool = False
    """At the start, try jobs again that have failed for good and still have their images."""
    tls_certificate: Annotated[Path | None, arg(metavar="PEM", help_behavior_hint=_NONE)] = None
    """Encrypt what arrives, with this certificate."""
    tls_key: Annotated[Path | None, arg(metavar="PEM", help_behavior_hint=_NONE)] = None
    """Its key."""
    tls_authority: Annotated[Path | None, arg(metavar="PEM", help_behavior_hint=_NONE)] = None
    """Believe only certificates that this authority has signed, of senders and receivers."""
    send_tls: bool = False
    """Encrypt --send too."""
    max_pdu: Annotated[int, arg(metavar="BYTES")] = 131_072
    """Longest protocol data unit to receive."""
    max_associations: Annotated[int, arg(metavar="N")] = 8
    """Senders at once from one address; from all, twice as many."""
    max_object_mb: Annotated[int, arg(metavar="MB")] = 512
    """Largest image to receive."""
    spool_gb: Annotated[float, arg(metavar="GB")] = 50.0
    """What the spool may hold; more is refused as out of resources."""
    spool_objects: Annotated[int, arg(metavar="N")] = 200_000
    """The same, in images."""
    keep_days: Annotated[float, arg(metavar="DAYS")] = 7.0
    """How long images stay in the spool after their results were sent, counted while the node runs;
    corrections need them."""
    wait_hours: Annotated[float, arg(metavar="H")] = 24.0
    """How long an examination waits for images that there was no room for, until it fails."""
    segmentation: SegmentOptions = field(default_factory=SegmentOptions)
    model: Annotated[str, arg(metavar="NAME")] = "anatomy"
    """Name of a shipped model (see ddmseg models), or a .safetensors file with its card."""
    device: DeviceName = "auto"
    """Where to compute; auto takes a CUDA GPU where there is one, mps is the GPU of a Mac."""
    dicom_seg: Literal["binary", "labelmap"] = "binary"
    """How labels are stored: every viewer reads binary, new ones the smaller labelmap."""
    monitor: Annotated[
        Path | None, arg(metavar="STORE", help_behavior_hint="(the variable DDMSEG_MONITOR)")
    ] = None
    """Folder to which each segmentation adds a line of statistics, without names, for ddmseg
    monitor."""
    threads: Annotated[int | None, arg(metavar="N", help_behavior_hint="(torch's choice)")] = None
    """CPU threads."""
    debug: bool = False
    """Show where an unexpected error at the start came from."""


def run(arguments: Arguments) -> int:
    """Serve until Ctrl-C or SIGTERM; return 0."""
    from ddmseg.node.destinations import check_packages

    check_packages()
    from ddmseg.node.node import run_node

    settings, work = _settings(arguments), _work(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        run_node(settings, work, stop=threading.Event(), report=_print_line)
    return 0


def _print_line(line: str) -> None:
    print(f"{datetime.now().astimezone():%Y-%m-%dT%H:%M:%S%z} {line}", flush=True)


def _settings(arguments: Arguments) -> NodeSettings:
    from ddmseg.node.addresses import Certificates, parse_peer, parse_title, parse_titles
    from ddmseg.node.delivery import Backoff
    from ddmseg.node.destinations import make_destinations
    from ddmseg.node.node import NodeSettings
    from ddmseg.node.server import Limits
    from ddmseg.node.spool import Quota

    title = parse_title(arguments.title, option="title")
    certificates = Certificates(
        arguments.tls_certificate, arguments.tls_key, arguments.tls_authority
    )
    allowed = parse_titles(arguments.allow, option="allow")
    if not allowed and not _is_loopback(arguments.address):
        raise UsageError(
            f"allow: missing, and {arguments.address} can be reached from other machines; name "
            "the AE titles that may send, such as --allow MR1,PACS"
        )
    peer = None if arguments.send is None else parse_peer(arguments.send, option="send")
    encryption, tls = certificates.client(), arguments.send_tls
    destinations = make_destinations(
        peer, arguments.stow, title=title, encryption=encryption, tls=tls
    )
    return NodeSettings(
        spool=arguments.spool,
        title=title,
        address=arguments.address,
        port=arguments.port,
        allowed=allowed,
        quiet_seconds=arguments.quiet_seconds,
        destinations=tuple(destinations),
        encryption=certificates.server(),
        limits=Limits(arguments.max_pdu, arguments.max_object_mb, arguments.max_associations),
        quota=Quota(
            arguments.spool_gb, arguments.spool_objects, arguments.keep_days, arguments.wait_hours
        ),
        backoff=Backoff(arguments.retry_seconds, arguments.retry_longest),
        retry_failed=arguments.retry_failed,
    )


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _work(arguments: Arguments) -> Work:
    """Load the model, and find out whether the results can be stored."""
    from ddmseg.models.card import trained_on

    trained = trained_on(arguments.model)  # a wrong name must not cost the seconds torch needs
    if arguments.threads is not None and arguments.threads < 1:
        raise SettingsError(f"threads: got {arguments.threads}; it must be at least 1")
    try:
        arguments.output.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot use {arguments.output}: {error.strerror or error}; name another folder"
        ) from error
    import torch

    from ddmseg.inference.segmenter import Segmenter
    from ddmseg.models.available_memory import keep_freed_memory
    from ddmseg.monitoring.recorder import monitor_folder
    from ddmseg.node.worker import Work

    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    segmenter = Segmenter.load(arguments.model, device=arguments.device)
    return Work(
        segmenter,
        arguments.output,
        arguments.segmentation,
        form=arguments.dicom_seg,
        hold_failed=arguments.hold_failed,
        trained=trained,
        monitor=monitor_folder(arguments.monitor),
    )
