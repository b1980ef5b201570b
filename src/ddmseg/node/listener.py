"""The DICOM server: answers C-ECHO, keeps what C-STORE brings, refuses the rest.

Storage commitment is not offered, on purpose: a scanner may delete what somebody else
has committed to keep, and this node keeps nothing for good.

Source: DICOM PS3.4, annexes A (Verification) and B (Storage); PS3.7, annex C (status).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any
from weakref import WeakKeyDictionary

from pydicom import uid
from pydicom.pixels.decoders.base import get_decoder
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.events import Event

from ddmseg.errors import OutputError, UsageError
from ddmseg.node.door import Door
from ddmseg.node.log import plain_reason
from ddmseg.node.server import HANDSHAKE_SECONDS, Limits, handler_class, server_class
from ddmseg.node.spool import Spool

VERIFICATION = "1.2.840.10008.1.1"
MR_CLASSES = (
    uid.MRImageStorage,
    uid.EnhancedMRImageStorage,
    uid.LegacyConvertedEnhancedMRImageStorage,
)
CAPTURE_CLASSES = tuple(
    f"{uid.SecondaryCaptureImageStorage}{multi_frame}"
    for multi_frame in ("", ".1", ".2", ".3", ".4")
)
"""Pictures among the scans of an examination. They are refused one by one: to refuse the
whole class when the association is made would have many senders stop there."""
COMPRESSED = (
    uid.RLELossless,
    uid.JPEGLossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
)
"""Transfer syntaxes without loss, taken where a decoder is installed. Deflated files are
not: hardly any sender has them, and they are the only ones that grow when they are read."""

MANY = 1_000_000
SUCCESS = 0x0000
CLASS_NOT_SUPPORTED = 0x0122
OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000


@dataclass
class _Tally:
    """What one association brought."""

    start: float = field(default_factory=time.monotonic)
    stored: int = 0
    repeated: int = 0
    refused: int = 0
    reason: str = ""
    study_uid: str = ""


class Listener:
    """A server that puts what arrives into a spool; UsageError when it cannot listen there.

    Port 0 takes a free one; no ``allowed`` AE titles admit all. ``report`` gets a line for each
    association, without anything about patients.
    """

    def __init__(
        self,
        spool: Spool,
        *,
        title: str,
        address: str = "127.0.0.1",
        port: int = 0,
        allowed: Sequence[str] = (),
        limits: Limits | None = None,
        encryption: SSLContext | None = None,
        report: Callable[[str], None] = print,
    ) -> None:
        self._spool, self._report = spool, report
        self._tallies: WeakKeyDictionary[Association, _Tally] = WeakKeyDictionary()
        self._lock = threading.Lock()
        limits = limits or Limits()
        self._door = Door(limits.associations, limits.patience_seconds)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_CONN_CLOSE, self._closed),
        ]
        try:
            self._server: Any = _entity(title, allowed, limits).make_server(
                (address, port),
                ssl_context=encryption,
                evt_handlers=handlers,
                server_class=server_class(limits, self._door),
                request_handler=handler_class(limits, self._door),
            )
        except (OSError, OverflowError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no such address or port"
            raise UsageError(
                f"port: cannot listen on {address} port {port} ({reason}); give another "
                "--port (0 for any free one) or --address"
            ) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="listener", daemon=True
        )
        self._thread.start()

    def open_studies(self) -> set[str]:
        """Return the studies that are being sent: the latest of each open association."""
        with self._lock:
            return {tally.study_uid for tally in self._tallies.values()}

    def is_alive(self) -> bool:
        """Return whether connections are still taken."""
        return self._thread.is_alive()

    def count_evicted(self) -> int:
        """Return how many connections made room for others since this was asked last."""
        return self._door.count_evicted()

    def stop(self) -> None:
        """End all associations and close the port."""
        self._server.shutdown()
        self._thread.join()

    def _store(self, event: Event) -> int:
        try:
            status, reason = self._keep(event)
        except OutputError as error:
            status, reason = OUT_OF_RESOURCES, plain_reason(error)
        except Exception as error:  # no image, and what is sent can make the parser raise anything
            status, reason = CANNOT_UNDERSTAND, plain_reason(error)
        with self._lock:
            tally = self._tallies.setdefault(event.assoc, _Tally())
            if reason:
                tally.refused, tally.reason = tally.refused + 1, reason
                return status
            tally.stored += 1
        stream: Any = event.assoc.dul.socket
        with contextlib.suppress(OSError):  # it has lost its slot just now
            self._door.connection(stream.socket).brought()
        return status

    def _keep(self, event: Event) -> tuple[int, str]:
        request: Any = event.request
        if request.AffectedSOPClassUID not in MR_CLASSES:
            return CLASS_NOT_SUPPORTED, "not an MR image"
        content = request.DataSet.getbuffer()
        head = b"\0" * 128 + b"DICM" + encode_file_meta(event.file_meta)
        arrival = self._spool.store(
            (head, content), len(head) + len(content), image_uid=str(request.AffectedSOPInstanceUID)
        )
        with self._lock:
            tally = self._tallies.setdefault(event.assoc, _Tally())
            tally.study_uid = arrival.study_uid
            tally.repeated += not arrival.new
        return SUCCESS, ""

    def _rejected(self, event: Event) -> None:
        self._report(f"refused an association from {_shown(event.assoc)}")

    def _closed(self, event: Event) -> None:
        with self._lock:
            tally = self._tallies.pop(event.assoc, None)
        if tally is None:
            return
        line = f"{tally.stored} images received"
        if tally.repeated:
            line += f", {tally.repeated} of them had come before"
        if tally.refused:
            line += f", {tally.refused} refused ({tally.reason})"
        seconds = time.monotonic() - tally.start
        self._report(f"{line}, {seconds:.1f} s, from {_shown(event.assoc)}")


def _shown(association: Association) -> str:
    """The title that a peer gave itself, as far as it can be printed."""
    title = "".join(c for c in association.requestor.ae_title if c.isprintable())
    return f"'{title.strip()}'"


def _entity(title: str, allowed: Sequence[str], limits: Limits) -> AE:
    _config.LOG_HANDLER_LEVEL = "none"  # its handlers would put every message into words
    entity = AE(ae_title=title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(allowed)
    entity.maximum_associations = MANY  # the door counts them
    entity.maximum_pdu_size = limits.pdu_bytes
    entity.acse_timeout = HANDSHAKE_SECONDS
    entity.network_timeout = entity.dimse_timeout = limits.idle_seconds
    readable = [one for one in COMPRESSED if get_decoder(one).is_available]
    plain = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian)
    syntaxes = [str(syntax) for syntax in (*plain, *readable)]
    entity.add_supported_context(VERIFICATION)
    for storage in (*MR_CLASSES, *CAPTURE_CLASSES):
        entity.add_supported_context(storage, syntaxes)
    return entity
