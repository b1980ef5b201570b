"""pynetdicom's server with bounds on what a connection may make it hold.

pynetdicom reads a unit of whatever length its header tells, collects messages of any
length in memory, shakes hands for TLS while nobody else can connect, and starts two
threads for each connection however many there are.

Source: DICOM PS3.8, 9.3 (protocol data units).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from socketserver import TCPServer
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from ddmseg.errors import SettingsError

ASSOCIATE_BYTES = 1 << 18
"""The longest request for an association: 128 contexts with all transfer syntaxes."""
MAX_WAITING = 2
"""Messages that a peer may send ahead; nothing but one at a time is ever negotiated."""
HANDSHAKE_SECONDS = 10.0
"""For TLS, and again for the request for an association."""


@dataclass(frozen=True)
class Limits:
    """What connections may use.

    Attributes:
        pdu_bytes: length of a protocol data unit, at least 4096.
        object_megabytes: of one image, at least 1.
        associations: at once, at least 1.
        idle_seconds: after which a silent connection is closed.
    """

    pdu_bytes: int = 131_072
    object_megabytes: int = 512
    associations: int = 8
    idle_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, least in (("pdu_bytes", 4096), ("object_megabytes", 1), ("associations", 1)):
            if getattr(self, name) < least:
                raise SettingsError(
                    f"{name}: got {getattr(self, name)}; it must be at least {least}"
                )


def server_class(limits: Limits) -> type[ThreadedAssociationServer]:
    """Return a server that keeps the limits."""

    class BoundedServer(ThreadedAssociationServer):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            """Say whether one more connection is taken, association or not."""
            return len(self.active_associations) < 2 * limits.associations

        def get_request(self) -> tuple[socket.socket, Any]:
            """Take a connection; the handshake is left to its own thread."""
            taken, address = self.socket.accept()  # type: ignore[union-attr]
            taken.settimeout(HANDSHAKE_SECONDS)
            if self.ssl_context is not None:
                taken = self.ssl_context.wrap_socket(
                    taken, server_side=True, do_handshake_on_connect=False
                )
            return taken, address

        def finish_request(self, request: Any, client_address: Any) -> None:
            """Shake hands where TLS is used, then talk DICOM."""
            if isinstance(request, ssl.SSLSocket):
                request.do_handshake()
            request.settimeout(limits.idle_seconds)
            super().finish_request(request, client_address)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing: a connection that fails is its peer's affair."""

        def shutdown(self) -> None:
            """Stop taking connections and end those there are."""
            TCPServer.shutdown(self)
            self.server_close()
            for association in self.active_associations:
                with contextlib.suppress(Exception):  # it may have just ended by itself
                    association.abort()

    return BoundedServer


def handler_class(limits: Limits) -> type[RequestHandler]:
    """Return a maker of associations that keep the limits."""

    class BoundedHandler(RequestHandler):
        def _create_association(self) -> Association:
            association = super()._create_association()
            stream: Any = association.dul.socket
            stream.recv = _bounded(stream.recv, association, limits)
            association.bind(evt.EVT_CONN_CLOSE, self._closed)
            return association

        def _closed(self, event: Event) -> None:
            """Let go at once: pynetdicom leaves the socket, and a thread that waits, behind."""
            self.request.close()
            if event.assoc.requestor.primitive is None:
                waiting: Any = event.assoc.dul.to_user_queue
                waiting.put(None)  # nothing will be requested any more

    return BoundedHandler


def _bounded(
    receive: Callable[[int], bytearray], association: Association, limits: Limits
) -> Callable[[int], bytearray]:
    """Reading that fails, which closes the connection, where a peer sends too much."""
    longest = max(limits.pdu_bytes, ASSOCIATE_BYTES)

    def bounded(count: int) -> bytearray:
        message = association.dimse.message
        held = 0
        if message is not None:
            held = sum(
                stream.getbuffer().nbytes
                for stream in (message.encoded_command_set, message.data_set)
                if stream is not None
            )
        too_much = count > longest or held + count > limits.object_megabytes << 20
        if too_much or association.dimse.msg_queue.qsize() > MAX_WAITING:
            raise OSError("more than a peer may send")
        return receive(count)

    return bounded
