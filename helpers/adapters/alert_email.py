"""Budget alerts by e-mail (SMTP)."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Literal

from helpers.domain.cost.budget_alerts import BudgetAlert
from helpers.domain.cost.budget_messages import email_message
from helpers.domain.errors import DependencyError, InputError

_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class MailServer:
    """`security`: tls from the first byte, starttls after the greeting, or none (a relay beside us).

    `ca_file`: what signs the server's certificate where the system's authorities do not.
    """

    host: str
    port: int
    security: Literal["none", "starttls", "tls"] = "starttls"
    user: str | None = None
    password: str | None = None
    ca_file: str | None = None


class EmailChannel:
    """`ports.budget_alerts.AlertChannel`."""

    def __init__(self, server: MailServer, sender: str, recipients: Sequence[str]) -> None:
        if not recipients:
            raise InputError("e-mail alerts: at least one recipient; add one, or leave e-mail out")
        if server.user is not None and server.security == "none":
            raise InputError("e-mail alerts: a password goes over TLS only; use security: starttls or tls")
        self._server = server
        self._sender = sender
        self._recipients = tuple(recipients)

    def deliver(self, alert: BudgetAlert) -> str:
        """Sends one message to all recipients; names those that the server did not take.

        Raises:
            DependencyError: the server took it for nobody, or was not to be had.
        """
        place = f"mail server {self._server.host}:{self._server.port}"
        refused: dict[str, tuple[int, bytes]] | None = None
        try:
            with self._opened() as client:
                self._secure(client)
                refused = client.send_message(self._message(alert))
        except (OSError, smtplib.SMTPException) as error:
            if refused is None:  # otherwise it was taken, and only the goodbye failed
                raise DependencyError(f"{place}: {error}") from error
        taken_count = len(self._recipients) - len(refused)
        text = f"{place} took it for {taken_count} of {len(self._recipients)}"
        return f"{text}; refused: {', '.join(sorted(refused))}" if refused else text

    def _message(self, alert: BudgetAlert) -> EmailMessage:
        text = email_message(alert)
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._sender, ", ".join(self._recipients), text.subject
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers, please
        message.set_content(text.body)
        return message

    def _opened(self) -> smtplib.SMTP:
        server = self._server
        if server.security == "tls":
            return smtplib.SMTP_SSL(server.host, server.port, timeout=_TIMEOUT_SECONDS, context=self._context())
        return smtplib.SMTP(server.host, server.port, timeout=_TIMEOUT_SECONDS)

    def _secure(self, client: smtplib.SMTP) -> None:
        if self._server.security == "starttls":
            client.starttls(context=self._context())
        if self._server.user is not None:
            client.login(self._server.user, self._server.password or "")

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._server.ca_file)
