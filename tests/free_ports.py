"""Ports for servers that a test starts later."""

from __future__ import annotations

import random
import socket

# The system takes the ports of outgoing connections from above these (Linux: from 32768), so
# that no client of another test, and no client that calls the port too early, can sit on one.
FIRST, LAST = 12000, 32000


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now and that no outgoing connection is given."""
    chance = random.SystemRandom()
    taken: list[socket.socket] = []
    while len(taken) < count:
        one = socket.socket()
        try:
            one.bind(("127.0.0.1", chance.randint(FIRST, LAST)))
        except OSError:
            one.close()
        else:
            taken.append(one)
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports
