"""Certificates as services see them: made, read and checked; what is signed how is an adapter's matter."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from helpers.domain.admission.certificate_plan import Authority, ServingCertificate


class Certificates(Protocol):
    """X.509 in PEM."""

    def issue(self, names: frozenset[str], *, now_at: datetime, lifetime_seconds: float) -> ServingCertificate:
        """A new authority and the one certificate that it will ever sign; its key is not kept.

        Args:
            names: DNS names and IP addresses under which the server is asked for.
            now_at: It is valid from a little earlier, for machines whose clocks are behind.
            lifetime_seconds: From the first instant to the last.
        """
        ...

    def read(self, *, chain_pem: bytes, key_pem: bytes, authority_pem: bytes) -> ServingCertificate:
        """What a Secret holds, checked: the key belongs to the certificate, the authority has signed it.

        Whether it is valid now is not asked.

        Raises:
            InputError: something is missing, unreadable, or does not belong together; says what.
        """
        ...

    def authorities(self, pem: str) -> tuple[Authority, ...]:
        """The certificates in a caBundle; what cannot be read is left out."""
        ...


class CertificateServer(Protocol):
    """A running TLS server whose certificate can be changed while it serves."""

    def install(self, certificate: ServingCertificate) -> None:
        """Shows this one to whoever connects from now on; connections that are open stay."""
        ...
