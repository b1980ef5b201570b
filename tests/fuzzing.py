"""Damaged and hostile inputs from fixed seeds, for readers that may refuse but never break."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, -(10**18), 0.5, -0.0, 1e308),
    *(float("nan"), float("inf"), "", "x", "\n\x1b[31m\x00", "../../x", "\ud800", "é" * 5000),
    *([], {}, [[]], [None], ["0"], [0, 0], list(range(300)), {"a": {"b": {"c": 1}}}, {"": 0}),
)
"""Values that some reader somewhere has stumbled over."""

Read = Callable[[bytes], object]


def damaged(data: bytes, seed: int) -> bytes:
    """Return bytes with a few of them flipped, cut out, repeated or replaced."""
    chance = random.Random(seed)
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(made) or 1)
        length = chance.choice((1, 1, 4, 64))
        piece = bytes(made[at : at + length])
        new = chance.choice(
            (
                b"",
                bytes(chance.randrange(256) for _ in piece),
                piece * 3,
                b"\xff" * length,
                b"\x00" * length,
                b"[{(\"'=.,"[: chance.randrange(1, 9)],
            )
        )
        made[at : at + length] = new
    return bytes(made[: chance.randrange(len(made) + 1)] if chance.random() < 0.1 else made)


def twisted(values: Any, seed: int) -> bytes:
    """Return JSON in which one or two values are hostile, gone, or nested very deeply."""
    chance = random.Random(seed)
    made = json.loads(json.dumps(values))
    for _ in range(chance.choice((1, 1, 2))):
        holder, key = chance.choice(list(_places(made)))
        if chance.random() < 0.1 and isinstance(holder, dict):
            holder.pop(key, None)
        else:
            holder[key] = chance.choice((*HOSTILE, "deep"))
    text = json.dumps(made)
    return text.replace('"deep"', "[" * 3000 + "]" * 3000).encode("utf-8", "surrogatepass")


def twisted_header(data: bytes, seed: int, length: int) -> bytes:
    """Return a binary file in whose header a few numbers of two or four bytes are extreme."""
    chance = random.Random(seed)
    made = bytearray(data)
    for _ in range(chance.choice((1, 2, 3))):
        at = 2 * chance.randrange(length // 2)
        size = chance.choice((2, 4))
        made[at : at + size] = chance.choice(
            (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\xff\x7f\xff\x7f", b"\x00\x00\xc0\x7f",
             b"\x00\x00\x80\x7f", b"\x00\x00\x80\xff", b"\x01\x00\x00\x00", b"\x00\x80\x00\x80")
        )[:size]  # fmt: skip
    return bytes(made)


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    inner = values.items() if isinstance(values, dict) else enumerate(values)
    for key, value in list(inner):
        yield values, key
        if isinstance(value, dict | list):
            yield from _places(value)
