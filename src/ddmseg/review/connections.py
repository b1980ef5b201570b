"""Connections to the page: how long a request may take to come, and how many may be waiting.

Whoever opens a connection and says nothing, or little at a time, holds a file of this process,
of which there are about a thousand. So each request has a deadline, and of the connections that
have not asked for anything yet the oldest gives way to the newest: who asks at once gets in.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

HEADER_SECONDS = 10.0
"""How long the header of a request may take, from the connection or the answer before it."""
MOST_WAITING = 64
"""Connections whose first request has not come yet."""
BACKLOG = 64
"""Connections that are accepted at once; with those that wait far fewer than a process may have."""


class PatientProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with a deadline for each request and a bound on silence."""

    waiting: dict[PatientProtocol, None]
    """Connections without a first request, the oldest first; shared by those of one server."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait; where too many do, let the oldest go."""
        super().connection_made(transport)
        self.waiting[self] = None
        self._wait()
        if len(self.waiting) > MOST_WAITING:
            next(iter(self.waiting)).leave()

    def data_received(self, data: bytes) -> None:
        """Read on; the waiting is over when the header of a request is whole."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self.waiting.pop(self, None)
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Wait for the next request of this connection."""
        self._wait()
        super().on_response_complete()
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.waiting.pop(self, None)
        self._stop_waiting()
        super().connection_lost(exc)

    def leave(self) -> None:
        """End the connection without a word."""
        self.waiting.pop(self, None)
        self.transport.abort()

    def _wait(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.leave)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def protocol() -> type[PatientProtocol]:
    """Return the protocol of one server."""
    return type("PatientProtocol", (PatientProtocol,), {"waiting": {}})
