"""Who is let in, and who has to go: slots for connections.

A peer can hold a connection open with a byte now and then, and sixteen such peers would shut the
node for everybody. So a connection keeps its slot only as long as it brings images: when
somebody else waits for a slot, the one that has brought nothing for the longest time loses it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

WAIT_SECONDS = 15.0
"""How long a connection waits for a slot, until its association is refused."""
WAITING = 128
"""Connections that wait; more are closed at once."""
WAITING_EACH = 64
"""Of one address."""
USEFUL_BYTES = 1 << 16
"""Of an image that is on its way: so many more count as something brought."""
_LOOK_SECONDS = 0.05


@dataclass(eq=False)
class Connection:
    """A connection that has a slot: its socket, the peer's address without port."""

    request: Any
    address: str
    refused: bool = False  # it has no slot, and is only to hear so
    start: float = field(default_factory=time.monotonic)
    useful: float | None = None  # when it last brought something
    held: int = 0  # bytes of messages that are not yet taken care of
    _counted: int = 0

    def brought(self) -> None:
        """Note that it was good for something."""
        self.useful = time.monotonic()

    def holds(self, held: int) -> None:
        """Note how much of its messages is in memory."""
        self.held = held
        if held < self._counted:  # another message
            self._counted = 0
        if held - self._counted >= USEFUL_BYTES:
            self._counted = held
            self.brought()

    def idle_seconds(self) -> float:
        """Return for how long it has brought nothing."""
        return time.monotonic() - (self.start if self.useful is None else self.useful)

    def cut(self) -> None:
        """End it from another thread: whoever reads from it finds its end."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.request, socket.SHUT_RDWR)


class Door:
    """Gives slots to connections, in the order in which they came.

    There are ``slots`` for the connections of one address and twice as many in all. While others
    wait, a connection may bring nothing for ``patience_seconds``.
    """

    def __init__(self, slots: int, patience_seconds: float) -> None:
        self._slots, self._patience = slots, patience_seconds
        self._lock = threading.Lock()
        self._inside: dict[Any, Connection] = {}
        self._waiting: list[tuple[object, str]] = []
        self._evicted, self._closed = 0, False

    def knock(self, address: str) -> bool:
        """Return whether one more may come in and wait."""
        with self._lock:
            outside = [where for _, where in self._waiting]
            outside += [one.address for one in self._inside.values() if one.refused]
            return len(outside) < WAITING and outside.count(address) < WAITING_EACH

    def enter(self, request: Any, address: str) -> None:
        """Wait for a slot; where none can be had the connection is marked as refused.

        OSError when the door is closed.
        """
        ticket, deadline = object(), time.monotonic() + WAIT_SECONDS
        with self._lock:
            self._waiting.append((ticket, address))
        try:
            while True:
                with self._lock:
                    if self._closed:
                        raise OSError("the node ends")
                    entitled = self._is_next(ticket)
                    if entitled or not self._make_room(address) or time.monotonic() > deadline:
                        self._inside[request] = Connection(request, address, not entitled)
                        return
                time.sleep(_LOOK_SECONDS)
        finally:
            with self._lock:
                self._waiting.remove((ticket, address))

    def connection(self, request: Any) -> Connection:
        """Return the connection of a socket; OSError when it has lost its slot meanwhile."""
        with self._lock:
            if request not in self._inside:
                raise OSError("the connection was closed")
            return self._inside[request]

    def leave(self, request: Any) -> None:
        """Give a slot back; harmless when it was given back before."""
        with self._lock:
            self._inside.pop(request, None)

    def bound(self, connection: Connection, most: int) -> None:
        """Keep all connections together within so many bytes: the greediest has to go."""
        with self._lock:
            while sum(one.held for one in self._inside.values()) > most:
                self._evict(max(self._inside.values(), key=lambda one: one.held))
        if connection.request not in self._inside:
            raise OSError("more than all peers may send together")

    def count_evicted(self) -> int:
        """Return how many connections lost their slot since this was asked last."""
        with self._lock:
            evicted, self._evicted = self._evicted, 0
            return evicted

    def close(self) -> None:
        """End all connections, and let nobody in any more."""
        with self._lock:
            self._closed = True
            for connection in self._inside.values():
                connection.cut()

    def _with_slots(self) -> list[Connection]:
        return [one for one in self._inside.values() if not one.refused]

    def _has_room(self, address: str) -> bool:
        inside = [one.address for one in self._with_slots()]
        return inside.count(address) < self._slots and len(inside) < 2 * self._slots

    def _is_next(self, ticket: object) -> bool:
        """Whether it is the first of those for whom there is room."""
        return next((one for one, where in self._waiting if self._has_room(where)), None) is ticket

    def _make_room(self, address: str) -> bool:
        """End a connection that brings nothing, if need be; return whether waiting may help."""
        if self._has_room(address):
            return True
        inside = self._with_slots()
        own = [one for one in inside if one.address == address]
        # those who hold the slots that it lacks: its own where it has all it may have
        rivals = own if len(own) >= self._slots else inside
        useless = [one for one in rivals if one.idle_seconds() > self._patience]
        if useless:
            numbers = Counter(one.address for one in rivals)
            self._evict(max(useless, key=lambda one: (numbers[one.address], one.idle_seconds())))
        return bool(useless) or any(one.useful is None for one in rivals)

    def _evict(self, connection: Connection) -> None:
        del self._inside[connection.request]
        self._evicted += 1
        connection.cut()
