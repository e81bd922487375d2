"""When a project's spending is worth a message: at 80 and at 100 % of its month's budget, each once.

What was sent is remembered with the spending it spoke of, so that the two awkward cases have an answer:

- **the cost is corrected down** and crosses again: it was said already, and stays said;
- **the budget is raised** so far that a threshold lies above all spending that was spoken of: that
  threshold is a new one, and is announced when it is reached. A budget that is lowered only makes
  thresholds come sooner; none is said twice.

Months are calendar months in UTC; a new one begins with nothing said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from helpers.domain.cost.money import Cost, Month

NEAR_RATIO = Decimal("0.80")
REACHED_RATIO = Decimal("1.00")
THRESHOLDS = (NEAR_RATIO, REACHED_RATIO)


class BudgetReason(StrEnum):
    """Why a message is sent, or not."""

    NO_BUDGET = "no_budget"
    BELOW = "below"
    SAID_ALREADY = "said_already"
    CROSSED = "crossed"


@dataclass(frozen=True, slots=True)
class SentAlert:
    """A message that one channel has delivered."""

    project: str
    month: Month
    threshold_ratio: Decimal
    spent_usd: Decimal


@dataclass(frozen=True, slots=True)
class BudgetAlert:
    """A message to send. `complete` False: a part of the time had no price, so at least this was spent."""

    project: str
    month: Month
    threshold_ratio: Decimal
    budget_usd: Decimal
    spent_usd: Decimal
    complete: bool


@dataclass(frozen=True, slots=True)
class BudgetDecision:
    """`remember` goes into the record once `send` was delivered: a message at 100 % says 80 % as well."""

    send: BudgetAlert | None
    remember: tuple[SentAlert, ...]
    reason: BudgetReason


def decide(
    project: str, month: Month, budget_usd: Decimal | None, cost: Cost, sent: Iterable[SentAlert]
) -> BudgetDecision:
    """What to tell one channel about one project and month.

    Args:
        project: its name.
        month: the month that `cost` is of.
        budget_usd: None: the project has none. 0: any spending is too much.
        cost: of the month so far; an unpriced part only makes it more.
        sent: what this channel has delivered; other projects and months in it do not matter.
    """
    if budget_usd is None:
        return BudgetDecision(None, (), BudgetReason.NO_BUDGET)
    limits = {ratio: Fraction(ratio) * Fraction(budget_usd) for ratio in THRESHOLDS}
    crossed = [ratio for ratio in THRESHOLDS if cost.known >= limits[ratio] and cost.known > 0]
    if not crossed:
        return BudgetDecision(None, (), BudgetReason.BELOW)
    said = [one for one in sent if (one.project, one.month) == (project, month)]
    spoken_of = max((Fraction(one.spent_usd) for one in said), default=Fraction(0))
    said_ratios = {one.threshold_ratio for one in said}
    due = [ratio for ratio in crossed if ratio not in said_ratios or limits[ratio] > spoken_of]
    if not due:
        return BudgetDecision(None, (), BudgetReason.SAID_ALREADY)
    spent_usd = cost.known_usd
    alert = BudgetAlert(project, month, due[-1], budget_usd, spent_usd, cost.complete)
    remember = tuple(SentAlert(project, month, ratio, spent_usd) for ratio in due)
    return BudgetDecision(alert, remember, BudgetReason.CROSSED)
