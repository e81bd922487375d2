"""Budget alerts to an incoming webhook in Slack's shape (Slack, Mattermost, Rocket.Chat and others take it)."""

from __future__ import annotations

from urllib.parse import urlsplit

import urllib3

from helpers.domain.cost.budget_alerts import BudgetAlert
from helpers.domain.cost.budget_messages import slack_message
from helpers.domain.errors import DependencyError, InputError

_TIMEOUT = urllib3.Timeout(connect=5, read=10)
_LONGEST_ANSWER = 200


class WebhookChannel:
    """`ports.budget_alerts.AlertChannel`."""

    def __init__(self, url: str) -> None:
        """`url` is a secret, whoever has it can post: it stands in no message, only its host does."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError("the alert webhook's address: it begins with http:// or https:// and names a host")
        self._url = url
        self._place = f"alert webhook at {parts.hostname}"
        self._pool = urllib3.PoolManager(retries=False, timeout=_TIMEOUT)

    def deliver(self, alert: BudgetAlert) -> str:
        """Posts the message. A redirect is no delivery.

        Raises:
            DependencyError: no answer, or another than 2xx.
        """
        try:
            answer = self._pool.request("POST", self._url, json=slack_message(alert), redirect=False)
        except urllib3.exceptions.HTTPError as error:
            # The client's own words contain the path, and so the secret.
            raise DependencyError(f"{self._place}: no answer ({type(error).__name__})") from None
        text = " ".join(answer.data.decode(errors="replace").split())[:_LONGEST_ANSWER]
        if not 200 <= answer.status < 300:
            raise DependencyError(f"{self._place}: {answer.status} {text}".rstrip())
        return f"{answer.status} {text}".rstrip()
