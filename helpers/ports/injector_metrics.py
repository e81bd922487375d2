"""What the injector counts."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class InjectorMetrics(Protocol):
    """Figures of the webhook and of its certificate."""

    def reviewed(self, outcome: str, seconds: float) -> None:
        """One review was answered; `outcome` is one of `services.admission_review.OUTCOMES`."""
        ...

    def served(self, ends_at: datetime) -> None:
        """The server shows a certificate that is valid until then, as is its authority."""
        ...

    def certificate_act(self, act: str) -> None:
        """One act on the certificate; `act` is one of `services.certificates.ACTS`."""
        ...

    def leads(self, leads: bool) -> None:
        """Whether this process may act on the certificate."""
        ...
