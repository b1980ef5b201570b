"""DICOM applications as they are typed, TITLE@HOST:PORT, and TLS for both directions.

Sources: DICOM PS3.5, table 6.2-1 (AE: at most 16 characters, no backslash, no control); PS3.15,
annex B.12 (BCP 195: TLS 1.2 or newer).
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from ddmseg.errors import SettingsError, UsageError

TITLE_LENGTH = 16
MAX_PORT = 65_535
_TITLE = re.compile(r"[ -\[\]-~]+")


@dataclass(frozen=True)
class Peer:
    """A DICOM application to send to: AE title, host (name or address) and TCP port."""

    title: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.title}@{host}:{self.port}"


def parse_title(word: str, *, option: str) -> str:
    """Return an AE title without the spaces around it; UsageError when it is none."""
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
    """Return what ``TITLE@HOST:PORT`` means, UsageError if nothing; IPv6 stands in brackets."""
    title, at, place = word.rpartition("@")
    host, colon, port = place.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    known = port.isascii() and port.isdigit() and 0 < int(port) <= MAX_PORT
    if not (at and colon and bare and known):
        raise UsageError(f"{option}: got '{word}'; give TITLE@HOST:PORT, such as PACS@10.0.0.5:104")
    return Peer(parse_title(title, option=option), bare, int(port))


@dataclass(frozen=True)
class Certificates:
    """PEM files: our certificate with its chain, its key, and whose certificates are believed.

    Without an authority a server lets in whoever connects, and a client believes those that
    the system knows. Files that cannot be used raise UsageError when they are loaded.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise SettingsError("tls: a certificate and its key belong together; give both")

    def server(self) -> ssl.SSLContext | None:
        """Return how to take connections; None without a certificate."""
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return self._load(context)

    def client(self) -> ssl.SSLContext:
        """Return how to make connections: the other side's name is always checked."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.authority is None:
            context.load_default_certs()
        return self._load(context)

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            if self.authority is not None:
                context.load_verify_locations(self.authority)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"tls: a certificate, key or authority cannot be used "
                f"({error.strerror or str(error)}); give PEM files that belong together"
            ) from error
        return context
