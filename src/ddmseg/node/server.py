"""pynetdicom's server with bounds on what a connection may make it hold.

pynetdicom reads a unit of whatever length its header gives, collects messages of any
length in memory, waits for the next byte and never for a whole unit, shakes hands for TLS
while nobody else can connect, and starts two threads for each connection however many there are.

Source: DICOM PS3.8, 9.3 (protocol data units).
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from dataclasses import dataclass
from socketserver import TCPServer
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from ddmseg.errors import SettingsError
from ddmseg.node.door import Connection, Door

ASSOCIATE_BYTES = 1 << 18
"""The longest request for an association: 128 contexts with all transfer syntaxes."""
MAX_WAITING = 2
"""Messages that a peer may send ahead; nothing but one at a time is ever negotiated."""
HANDSHAKE_SECONDS = 10.0
"""For TLS, and again for the request for an association."""
COMMAND_BYTES = 1 << 16
"""The longest command; those that there are have some 300 bytes."""
SLOWEST = 16_384
"""Bytes a second that units and messages must bring on average, once their time is up."""
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Limits:
    """What connections may use.

    A silent connection is closed after ``idle_seconds``. A message may take so long, and a unit
    ``pdu_seconds`` from its first byte on, and a second more for each 16 kB.
    """

    pdu_bytes: int = 131_072  # length of a protocol data unit
    object_megabytes: int = 512  # of one image
    associations: int = 8  # at once from one address; from all, twice as many
    idle_seconds: float = 60.0
    pdu_seconds: float = 30.0
    patience_seconds: float = 5.0  # for which one may bring nothing while others wait

    def __post_init__(self) -> None:
        for name, least in (("pdu_bytes", 4096), ("object_megabytes", 1), ("associations", 1)):
            if (given := getattr(self, name)) < least:
                raise SettingsError(f"{name}: got {given}; it must be at least {least}")


def server_class(limits: Limits, door: Door) -> type[ThreadedAssociationServer]:
    """Return a server that keeps the limits."""

    class BoundedServer(ThreadedAssociationServer):
        request_queue_size = 128
        daemon_threads = True

        def verify_request(self, request: Any, client_address: Any) -> bool:
            return door.knock(client_address[0])

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
            """Wait for a slot, shake hands where TLS is used, then talk DICOM."""
            door.enter(request, client_address[0])
            if isinstance(request, ssl.SSLSocket):
                request.do_handshake()
            request.settimeout(limits.idle_seconds)
            super().finish_request(request, client_address)

        def shutdown_request(self, request: Any) -> None:
            door.leave(request)
            super().shutdown_request(request)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Log nothing: a connection that fails is its peer's affair."""

        def shutdown(self) -> None:
            TCPServer.shutdown(self)
            self.server_close()
            door.close()
            for association in self.active_associations:
                with contextlib.suppress(Exception):  # it may have just ended by itself
                    association.abort()

    return BoundedServer


def handler_class(limits: Limits, door: Door) -> type[RequestHandler]:
    """Return a maker of associations that keep the limits."""

    class BoundedHandler(RequestHandler):
        def _create_association(self) -> Association:
            association = super()._create_association()
            connection = door.connection(self.request)
            stream: Any = association.dul.socket
            stream.recv = _Reader(association, connection, limits, door)
            association.bind(evt.EVT_REQUESTED, self._requested)
            association.bind(evt.EVT_CONN_CLOSE, self._closed)
            return association

        def _requested(self, event: Event) -> None:
            """Refuse an association for the time being where there is no slot for it.

            Source: DICOM PS3.8, 9.3.4 (rejected-transient, local limit exceeded).
            """
            connection = door.connection(self.request)
            if connection.refused:
                event.assoc.acse.send_reject(0x02, 0x03, 0x02)
                evt.trigger(event.assoc, evt.EVT_REJECTED, {})
                event.assoc.kill()

        def _closed(self, event: Event) -> None:
            """Let go at once: pynetdicom leaves the socket, and a thread that waits, behind."""
            door.leave(self.request)
            self.request.close()
            if event.assoc.requestor.primitive is None:
                waiting: Any = event.assoc.dul.to_user_queue
                waiting.put(None)  # nothing will be requested any more

    return BoundedHandler


class _Reader:
    """Reading that fails, which closes the connection, where a peer sends too much or too slowly.

    pynetdicom asks for the header of a unit and then for the rest of it.
    """

    def __init__(
        self, association: Association, connection: Connection, limits: Limits, door: Door
    ) -> None:
        self._association, self._connection = association, connection
        self._limits, self._door = limits, door
        self._longest = max(limits.pdu_bytes, ASSOCIATE_BYTES)
        self._header_is_next = True
        self._start = self._unit_start = self._message_start = time.monotonic()

    def __call__(self, count: int) -> bytearray:
        now = time.monotonic()
        held = self._hold(count)
        if self._header_is_next:
            self._unit_start = now
            if held == 0 and self._association.dimse.message is None:
                self._message_start = now
        # a unit that is none ends the association, so its length is never asked for
        self._header_is_next = not self._header_is_next
        allowed = self._limits.idle_seconds + held / SLOWEST
        if now - self._message_start > allowed:
            raise OSError("a message that takes too long")
        return self._receive(count, self._deadline(count))

    def _hold(self, count: int) -> int:
        """Bytes in memory for the message; checks them and what all have together."""
        dimse = self._association.dimse
        message: Any = dimse.message  # the one that is being received
        command = _size(getattr(message, "encoded_command_set", None))
        content = _size(getattr(message, "data_set", None))
        waiting = list(dimse.msg_queue.queue)
        queued = sum(_size(getattr(one, "DataSet", None)) for _, one in waiting)
        most = self._limits.object_megabytes << 20
        if (
            count > self._longest
            or command > COMMAND_BYTES
            or command + content + count > most
            or dimse.msg_queue.qsize() > MAX_WAITING
        ):
            raise OSError("more than a peer may send")
        self._connection.holds(command + content + queued)
        self._door.bound(self._connection, 2 * most)
        return command + content

    def _deadline(self, count: int) -> float:
        if self._association.requestor.primitive is None:
            return self._start + HANDSHAKE_SECONDS
        return self._unit_start + self._limits.pdu_seconds + count / SLOWEST

    def _receive(self, count: int, deadline: float) -> bytearray:
        """So many bytes, or fewer when the peer has closed the connection."""
        stream: Any = self._association.dul.socket
        received = bytearray()
        while len(received) < count:
            left = deadline - time.monotonic()
            if left <= 0 or stream.socket is None:
                raise TimeoutError("a unit that takes too long")
            stream.socket.settimeout(left)
            part = stream.socket.recv(min(_CHUNK, count - len(received)))
            if not part:
                break
            received += part
        if stream.socket is not None:
            stream.socket.settimeout(self._limits.idle_seconds)
        return received


def _size(stream: Any) -> int:
    return 0 if stream is None else int(stream.getbuffer().nbytes)
