"""A budget alert in words: for a Slack-shaped webhook and for an e-mail."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from helpers.domain.cost.budget_alerts import REACHED_RATIO, BudgetAlert


@dataclass(frozen=True, slots=True)
class EmailText:
    """Subject and plain text of a message."""

    subject: str
    body: str


def slack_message(alert: BudgetAlert) -> dict[str, Any]:
    """An incoming webhook's body: `text` for notifications, the same in a block with what to do below."""
    return {
        "text": headline(alert),
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": f"*{headline(alert)}*"}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": detail(alert)}]},
        ],
    }


def email_message(alert: BudgetAlert) -> EmailText:
    """The same for people who read mail."""
    return EmailText(f"[gpumem] {headline(alert)}", f"{headline(alert)}.\n\n{detail(alert)}\n")


def headline(alert: BudgetAlert) -> str:
    """One line: who, how far, how much of what."""
    at_least = "" if alert.complete else "at least "
    state = "has used up" if alert.threshold_ratio == REACHED_RATIO else f"has reached {alert.threshold_ratio:.0%} of"
    spent, budget = dollars(alert.spent_usd), dollars(alert.budget_usd)
    return f"Project {alert.project} {state} its GPU budget for {alert.month}: {at_least}{spent} of {budget}"


def detail(alert: BudgetAlert) -> str:
    """What is left, what is uncertain, and where to look."""
    left_usd = alert.budget_usd - alert.spent_usd
    left = f"{dollars(left_usd)} are left" if left_usd >= 0 else f"{dollars(-left_usd)} too much"
    unknown = "" if alert.complete else " For a part of the time no price is known; that part is not counted."
    return f"{left} until the end of the month (UTC).{unknown} Look at it with `gpumem gpu usage`."


def dollars(amount: Decimal) -> str:
    """Cents of the rounded amount, for people."""
    return f"{amount:,.2f} USD"
