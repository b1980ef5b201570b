"""Sending finished DICOM files: by C-STORE or by DICOMweb STOW-RS.

Sending again is harmless: a file keeps its UIDs, and archives know it by them.

Source: DICOM PS3.4, annex B (Storage, status codes in B.2.3); PS3.18, 10.5 (Store).
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import Any, Protocol
from urllib.parse import urlsplit

from ddmseg.errors import OutputError, ScanError, UsageError, optional
from ddmseg.imaging.dicom.file import quiet
from ddmseg.node.addresses import Peer

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
SLOWEST = 16_384
"""Bytes a second at which a service must take what is sent to it."""
AUTHORIZATION_VARIABLE = "DDMSEG_STOW_AUTHORIZATION"
"""Environment variable with the Authorization header of STOW; never an option, since
other users of a machine see options."""

OPTIONAL = ("1.2.840.10008.5.1.4.1.1.88.34",)
"""SOP classes that a destination may do without: Comprehensive 3D SR, which old archives lack."""
UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
FAILED_SEQUENCE = "00081198"
STORED_SEQUENCE = "00081199"
INSTANCE_UID = "00081155"
FAILURE_REASON = "00081197"
NOT_SUPPORTED = 0x0122
"""Status and failure reason: SOP class not supported."""
MAX_ANSWER_BYTES = 1 << 20
_CHUNK = 1 << 20
_WARNINGS = (0xB000, 0xB006, 0xB007)
_STORED = (200, 202)
_BUSY = (408, 429, 500, 502, 503, 504)


class RefusedError(OutputError):
    """A destination answers, and does not take the file."""


class NotTakenError(RefusedError):
    """A destination does not know what kind of object a file is."""


class UnreachableError(OutputError):
    """A destination does not answer, or takes nothing from anybody now."""


class Destination(Protocol):
    """Where results go; its name is what messages and the state of jobs call it."""

    @property
    def name(self) -> str: ...  # noqa: D102

    def send(self, files: Sequence[Path]) -> list[Path]:
        """Send DICOM files; all are stored there when this returns, but those returned: of a kind
        that it does not know and may do without (:data:`OPTIONAL`).

        Raises:
            UnreachableError: when it does not answer.
            RefusedError: when it takes one of the others not.
            ScanError: when a file is gone or damaged.
        """
        ...


@dataclass(frozen=True)
class StoreDestination:
    """A DICOM application that takes C-STORE, called by our ``title``."""

    peer: Peer
    title: str
    encryption: SSLContext | None = None

    @property
    def name(self) -> str:
        """Such as ``PACS@10.0.0.5:104``."""
        return str(self.peer)

    def send(self, files: Sequence[Path]) -> list[Path]:
        """Send files over one association; see :class:`Destination`."""
        kinds = [_meta(path, "MediaStorageSOPClassUID", "TransferSyntaxUID") for path in files]
        association = self._associate(kinds)
        not_taken = []
        try:
            for path, (storage, _) in zip(files, kinds, strict=True):
                try:
                    _store(association, path, self.name)
                except NotTakenError:
                    if storage not in OPTIONAL:
                        raise
                    not_taken.append(path)
            association.release()
        finally:
            if association.is_established:
                association.abort()
            _let_go(association)
        return not_taken

    def _associate(self, kinds: Sequence[tuple[str, ...]]) -> Any:
        from pynetdicom import AE, _config

        _config.LOG_HANDLER_LEVEL = "none"
        entity = AE(ae_title=self.title)
        entity.connection_timeout = CONNECT_SECONDS
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = ANSWER_SECONDS
        for storage, syntax in sorted(set(kinds)):
            offered = UNCOMPRESSED if syntax in UNCOMPRESSED else (syntax,)
            entity.add_requested_context(storage, list(offered))
        tls = None if self.encryption is None else (self.encryption, self.peer.host)
        association = entity.associate(
            self.peer.host, self.peer.port, ae_title=self.peer.title, tls_args=tls
        )
        if association.is_established:
            return association
        _let_go(association)
        if association.is_rejected:
            raise UnreachableError(
                f"{self.name} refuses the association; have it know the title {self.title}"
            )
        if association.rejected_contexts:
            raise RefusedError(f"{self.name} takes none of the SOP classes of the results")
        raise UnreachableError(f"{self.name} does not answer")


def _let_go(association: Any) -> None:
    """Close the socket: pynetdicom leaves it open when the peer was the first to go."""
    stream = association.dul.socket
    if stream is not None and stream.socket is not None:
        stream.socket.close()


def _meta(path: Path, *keywords: str) -> tuple[str, ...]:
    """Elements of the file meta information, which names class, syntax and instance."""
    import pydicom

    try:
        with quiet():
            meta = pydicom.filereader.read_file_meta_info(path)
            return tuple(str(meta[keyword].value) for keyword in keywords)
    except Exception as error:  # the parser can raise anything
        raise ScanError(f"{path.name}: the result to send is gone or damaged") from error


def _store(association: Any, path: Path, name: str) -> None:
    try:
        answer = association.send_c_store(path)
    except ValueError as error:  # no context was accepted for it
        raise NotTakenError(
            f"{name} does not take {path.name} (its SOP class or transfer syntax)"
        ) from error
    except RuntimeError as error:  # the association has ended
        raise UnreachableError(f"{name} ended the association") from error
    status = answer.get("Status")
    if status is None:
        raise UnreachableError(f"{name} ended the association or did not answer in time")
    if status & 0xFF00 == 0xA700:
        raise UnreachableError(f"{name} is out of resources (status 0x{status:04X})")
    if status not in (0x0000, *_WARNINGS):
        refused = NotTakenError if status == NOT_SUPPORTED else RefusedError
        raise refused(f"{name} refuses {path.name} (status 0x{status:04X})")


@dataclass(frozen=True)
class StowDestination:
    """A DICOMweb service that takes STOW-RS; ``/studies`` is added to the address."""

    url: str
    encryption: SSLContext | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        try:
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port that is none
            known = False
        if not known or parts.username or parts.query or parts.fragment:
            raise UsageError(
                "stow: give http://HOST:PORT/PATH or https://HOST:PORT/PATH of the DICOMweb "
                f"service; a password goes into the variable {AUTHORIZATION_VARIABLE}"
            )

    @property
    def name(self) -> str:
        """The address without a slash at its end."""
        return self.url.rstrip("/")

    def send(self, files: Sequence[Path]) -> list[Path]:
        """Send each file in a request of its own; see :class:`Destination`."""
        not_taken = []
        for path in files:
            storage, uid = _meta(path, "MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID")
            status, answer = self._post(path)
            if status in _BUSY:
                raise UnreachableError(f"{self.name} cannot take it now (HTTP {status})")
            stored, reason = _outcome(answer, uid)
            if stored and status in _STORED:
                continue
            if stored is None and status in _STORED:
                raise RefusedError(
                    f"{self.name} answers HTTP {status} and does not say in DICOM JSON that it has "
                    f"{path.name}, which counts as not sent; give the address of the DICOMweb "
                    "service, not of a page"
                )
            if storage not in OPTIONAL or reason != [NOT_SUPPORTED]:
                raise RefusedError(f"{self.name} refuses {path.name} (HTTP {status})")
            not_taken.append(path)
        return not_taken

    def _post(self, path: Path) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        boundary = secrets.token_hex(16)
        try:
            length, body = _multipart(path, boundary)
        except OSError as error:
            raise ScanError(f"{path.name}: the result to send is gone or damaged") from error
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(length),
            "Accept": "application/dicom+json",
        }
        if authorization := os.environ.get(AUTHORIZATION_VARIABLE):
            headers["Authorization"] = authorization
        kind: Any = http.client.HTTPConnection
        if parts.scheme == "https":
            kind = functools.partial(http.client.HTTPSConnection, context=self.encryption)
        connection = kind(parts.hostname, parts.port, timeout=ANSWER_SECONDS)
        # each byte has its own time limit; this one is for all of them
        taken: list[Any] = []  # an answer that ends with its connection takes the socket from it
        most = threading.Timer(ANSWER_SECONDS + length / SLOWEST, _cut, [connection, taken])
        most.daemon = True
        most.start()
        try:
            connection.connect()
            taken.append(connection.sock)
            connection.request("POST", f"{parts.path.rstrip('/')}/studies", body, headers)
            with connection.getresponse() as answer:
                return answer.status, answer.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise UnreachableError(f"{self.name} does not answer ({reason})") from error
        finally:
            most.cancel()
            connection.close()


def _multipart(path: Path, boundary: str) -> tuple[int, Iterator[bytes]]:
    """One DICOM file as the body of a request: its length, and what is read while it is sent."""
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    tail = f"\r\n--{boundary}--\r\n".encode()

    def parts() -> Iterator[bytes]:
        yield head
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
        yield tail

    return len(head) + path.stat().st_size + len(tail), parts()


def _cut(connection: http.client.HTTPConnection, taken: Sequence[Any]) -> None:
    """End a connection that another thread waits for."""
    for stream in (*taken, connection.sock):
        with contextlib.suppress(OSError, AttributeError):  # it has just ended by itself
            stream.shutdown(socket.SHUT_RDWR)


def _outcome(answer: bytes, uid: str) -> tuple[bool | None, Any]:
    """Whether an instance was stored, None where the answer does not show it; why it was not.

    Source: DICOM PS3.18, table 10.5.3-2 (Store Instances Response Module); annex F (JSON).
    """
    try:
        found = json.loads(answer)
        (dataset,) = found if isinstance(found, list) else [found]
        if failed := _items(dataset, FAILED_SEQUENCE, uid):
            return False, failed[0].get(FAILURE_REASON, {}).get("Value")
        return (True if _items(dataset, STORED_SEQUENCE, uid) else None), None
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return None, None


def _items(dataset: dict[str, Any], sequence: str, uid: str) -> list[dict[str, Any]]:
    items = dataset.get(sequence, {}).get("Value", [])
    return [item for item in items if uid in item[INSTANCE_UID]["Value"]]


def make_destinations(
    send: Peer | None, stow: str | None, *, title: str, encryption: SSLContext | None, tls: bool
) -> list[Destination]:
    """Return the destinations that were named: a DICOM application, a DICOMweb service.

    ``tls`` encrypts C-STORE too. UsageError when the address of the service is wrong.
    """
    found: list[Destination] = []
    if send is not None:
        check_packages()
        found.append(StoreDestination(send, title, encryption if tls else None))
    if stow is not None:
        found.append(StowDestination(stow, encryption))
    return found


def check_packages() -> None:
    """Raise MissingExtraError when a package of the node is not installed."""
    for package in ("pydicom", "pynetdicom", "filelock", "highdicom"):
        optional(package, "node")
