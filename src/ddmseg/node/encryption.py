"""TLS for both directions: who we are, and whom we believe.

Source: DICOM PS3.15, annex B.12 (BCP 195: TLS 1.2 or newer).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from ddmseg.errors import SettingsError, UsageError


@dataclass(frozen=True)
class Certificates:
    """PEM files.

    Attributes:
        certificate: ours, with the chain; None where nothing is encrypted.
        key: of the certificate.
        authority: whose certificates are believed; as a server, None lets in whoever
            connects, and as a client it means the authorities that the system knows.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise SettingsError("tls: a certificate and its key belong together; give both")

    def server(self) -> ssl.SSLContext | None:
        """Return how to take connections; None without a certificate.

        Raises:
            UsageError: when a file cannot be used.
        """
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return self._load(context)

    def client(self) -> ssl.SSLContext:
        """Return how to make connections: the other side's name is always checked.

        Raises:
            UsageError: when a file cannot be used.
        """
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
            reason = error.strerror or str(error)
            raise UsageError(
                f"tls: a certificate, key or authority cannot be used ({reason}); give PEM files "
                "that belong together"
            ) from error
        return context
