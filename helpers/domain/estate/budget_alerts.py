"""The estate's `manager.budget_alerts` block: who is told that a project's budget is nearly or altogether spent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from helpers.domain.errors import Problem
from helpers.domain.estate.base import EstateModel, broken_rule
from helpers.domain.estate.coordinator import SecretKey, VariableName

if TYPE_CHECKING:
    from helpers.domain.estate.manager import Manager


def _address(value: str) -> str:
    if re.fullmatch(r"[!-~]+@[!-~]+", value) is None or re.search(r"[<>,;\"\s]", value):
        raise broken_rule("one e-mail address, without a name", "write it like gpu-costs@example.org")
    return value


def _host(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}", value) is None:
        raise broken_rule("a host's name or address, without a scheme", "write it like smtp.example.org")
    return value


MailAddress = Annotated[str, AfterValidator(_address)]
Host = Annotated[str, AfterValidator(_host)]


class AlertWebhook(EstateModel):
    """An incoming webhook in Slack's form. Whoever has its address can post, so it is a secret."""

    url_env: VariableName = Field(
        default="GPUMEM_ALERT_WEBHOOK_URL", description="The variable that holds the webhook's address."
    )
    url_secret: SecretKey | None = Field(
        default=None, description="In a cluster: the Secret from which that variable is filled."
    )


class AlertEmail(EstateModel):
    """A mail server, and who gets the messages."""

    host: Host = Field(description="The mail server.")
    port: int = Field(default=587, ge=1, le=65535, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="tls: from the first byte. none: a relay in the cluster, without a password."
    )
    user: str | None = Field(default=None, min_length=1, description="Who logs in. Absent: nobody does.")
    password_env: VariableName = Field(
        default="GPUMEM_ALERT_SMTP_PASSWORD", description="The variable that holds the user's password."
    )
    password_secret: SecretKey | None = Field(
        default=None, description="In a cluster: the Secret from which that variable is filled."
    )
    sender: MailAddress = Field(description="From whom the messages are.")
    recipients: tuple[MailAddress, ...] = Field(min_length=1, strict=False, description="Who gets them.")

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> AlertEmail:
        if self.user is not None and self.security == "none":
            raise broken_rule("a password goes over TLS only", "use security: starttls or tls", at="security")
        return self


class BudgetAlerts(EstateModel):
    """Messages at 80 and 100 % of a project's budget for the month, once each."""

    webhook: AlertWebhook | None = Field(default=None, description="A channel of a chat. Absent: none.")
    email: AlertEmail | None = Field(default=None, description="By mail. Absent: none.")

    @model_validator(mode="after")
    def _says_where(self) -> BudgetAlerts:
        if self.webhook is None and self.email is None:
            raise broken_rule("budget_alerts names a channel", "add webhook or email, or remove budget_alerts")
        return self

    def secrets(self) -> dict[str, SecretKey | None]:
        """`{variable that must be set: the Secret that fills it}`; None: the estate names none."""
        found = {} if self.webhook is None else {self.webhook.url_env: self.webhook.url_secret}
        if self.email is not None and self.email.user is not None:
            found[self.email.password_env] = self.email.password_secret
        return found


def budget_alert_problems(manager: Manager) -> Iterator[Problem]:
    """What the block and the rest of `manager` must agree on."""
    alerts, path = manager.budget_alerts, "manager.budget_alerts"
    if alerts is None:
        return
    if all(project.budget_usd_per_month is None for project in manager.projects):
        rule = "messages are about budgets, and no project has one"
        yield Problem(path, "", rule, "add budget_usd_per_month to a project, or remove budget_alerts")
    if manager.database_secret is None:
        return  # no Deployment is rendered; whoever starts the process sets its variables
    for variable, secret in alerts.secrets().items():
        if secret is None:
            webhook = alerts.webhook is not None and variable == alerts.webhook.url_env
            place = "webhook.url_secret" if webhook else "email.password_secret"
            rule = f"the manager's pods need ${variable}, and nothing fills it"
            yield Problem(f"{path}.{place}", "", rule, "name the Secret: {name: …, key: …}")
