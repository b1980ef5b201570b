"""Names and places of DICOM applications as they are typed: TITLE@HOST:PORT.

Source: DICOM PS3.5, table 6.2-1 (AE: at most 16 characters, no backslash, no control).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ddmseg.errors import UsageError

TITLE_LENGTH = 16
MAX_PORT = 65_535

_TITLE = re.compile(r"[ -\[\]-~]+")


@dataclass(frozen=True)
class Peer:
    """A DICOM application to send to.

    Attributes:
        title: its AE title.
        host: name or address.
        port: TCP port.
    """

    title: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.title}@{host}:{self.port}"


def parse_title(word: str, *, option: str) -> str:
    """Return an AE title without the spaces around it.

    Raises:
        UsageError: when it is empty, too long or has characters that are not allowed.
    """
    title = word.strip()
    if not _TITLE.fullmatch(title) or len(title) > TITLE_LENGTH:
        raise UsageError(
            f"{option}: got '{word}'; an AE title has 1 to {TITLE_LENGTH} ASCII characters "
            "without backslash"
        )
    return title


def parse_titles(words: str | None, *, option: str) -> tuple[str, ...]:
    """Return AE titles that were typed with commas between them.

    >>> parse_titles("MR1,PACS", option="allow")
    ('MR1', 'PACS')
    """
    return tuple(parse_title(word, option=option) for word in (words or "").split(",") if word)


def parse_peer(word: str, *, option: str) -> Peer:
    """Return what ``TITLE@HOST:PORT`` means; an IPv6 address stands in brackets.

    Raises:
        UsageError: when a part is missing or wrong.
    """
    title, at, place = word.rpartition("@")
    host, colon, port = place.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    known = port.isascii() and port.isdigit() and 0 < int(port) <= MAX_PORT
    if not (at and colon and bare and known):
        raise UsageError(f"{option}: got '{word}'; give TITLE@HOST:PORT, such as PACS@10.0.0.5:104")
    return Peer(parse_title(title, option=option), bare, int(port))
