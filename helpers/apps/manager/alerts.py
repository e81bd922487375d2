"""By which channels people are told about budgets."""

from __future__ import annotations

from collections.abc import Mapping

from helpers.adapters.alert_email import EmailChannel, MailServer
from helpers.adapters.alert_webhook import WebhookChannel
from helpers.domain.errors import InputError
from helpers.domain.estate.budget_alerts import BudgetAlerts
from helpers.ports.budget_alerts import AlertChannel


def alert_channels(alerts: BudgetAlerts | None, secrets: Mapping[str, str]) -> dict[str, AlertChannel]:
    """`{channel's name: channel}`; empty where the estate names none. `secrets`: `{variable: what it holds}`.

    Raises:
        InputError: a variable that the estate names is not set, or holds no address.
    """
    if alerts is None:
        return {}
    missing = sorted(variable for variable in alerts.secrets() if not secrets.get(variable))
    if missing:
        names = ", ".join(f"${variable}" for variable in missing)
        raise InputError(
            f"manager.budget_alerts needs {names}, which is not set. Set it, or remove the channel from the estate."
        )
    found: dict[str, AlertChannel] = {}
    if alerts.webhook is not None:
        found["webhook"] = WebhookChannel(secrets[alerts.webhook.url_env])
    if alerts.email is not None:
        mail = alerts.email
        password = secrets[mail.password_env] if mail.user is not None else None
        server = MailServer(mail.host, mail.port, mail.security, mail.user, password)
        found["email"] = EmailChannel(server, mail.sender, mail.recipients)
    return found
