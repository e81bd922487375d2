"""Budget messages: at 80 and 100 %, each once a month and project, also when budgets and costs change."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.domain.cost.budget_alerts import NEAR_RATIO, REACHED_RATIO, BudgetAlert, BudgetReason, SentAlert, decide
from helpers.domain.cost.budget_messages import dollars, email_message, headline, slack_message
from helpers.domain.cost.money import Cost, Month
from helpers.domain.errors import DependencyError
from helpers.services.budget_alerts import BudgetAlerting
from tests.fakes.alert_channels import FakeChannel, FakeMemory

MARCH, APRIL = Month(2026, 3), Month(2026, 4)
NEAR, REACHED = NEAR_RATIO, REACHED_RATIO


def spent(amount: str, unpriced_card_seconds: int = 0) -> Cost:
    return Cost(Fraction(amount), Fraction(unpriced_card_seconds))


# Each row is a month of one project: budget and cost at one look after the other, and what is said.
Look = tuple[str | None, str, Decimal | None]


@pytest.mark.parametrize(
    ("why", "looks"),
    [
        ("below", [("100", "0", None), ("100", "79.9999", None)]),
        ("each once", [("100", "80", NEAR), ("100", "81", None), ("100", "100", REACHED), ("100", "250", None)]),
        ("over both at once is one message", [("100", "130", REACHED), ("100", "131", None)]),
        ("no budget", [(None, "9999", None)]),
        ("a budget that comes later", [(None, "90", None), ("100", "90", NEAR)]),
        ("nothing may be spent", [("0", "0", None), ("0", "0.01", REACHED), ("0", "5", None)]),
        ("corrected down and up again", [("100", "85", NEAR), ("100", "70", None), ("100", "85", None)]),
        ("corrected down below 100", [("100", "100", REACHED), ("100", "60", None), ("100", "101", None)]),
        ("lowered", [("100", "85", NEAR), ("84", "85", REACHED), ("84", "86", None)]),
        ("lowered so that the first is passed again", [("100", "85", NEAR), ("90", "86", None), ("90", "90", REACHED)]),
        # 1000 is far above all that was spoken of (105), so 800 and 1000 are news.
        ("raised", [("100", "105", REACHED), ("1000", "105", None), ("1000", "800", NEAR), ("1000", "1000", REACHED)]),
        # 80 % of 110 is 88, above the 85 that were spoken of: said when it is reached, not at once.
        ("raised a little", [("100", "85", NEAR), ("110", "86", None), ("110", "88", NEAR), ("110", "89", None)]),
        # 80 % of 105 is 84: it lies below what was spoken of, so it is no news.
        ("raised by less than was spent", [("100", "85", NEAR), ("105", "86", None), ("105", "105", REACHED)]),
        ("raised, and both lie above", [("100", "105", REACHED), ("200", "205", REACHED), ("200", "206", None)]),
        ("taken away and given back", [("100", "85", NEAR), (None, "90", None), ("100", "91", None)]),
    ],
)
def test_a_month_of_looks(why: str, looks: list[Look]) -> None:
    sent: list[SentAlert] = []
    for number, (budget, cost, expected) in enumerate(looks):
        decision = decide("ml", MARCH, None if budget is None else Decimal(budget), spent(cost), sent)
        said = decision.send.threshold_ratio if decision.send else None
        assert said == expected, f"{why}, look {number}: {decision.reason}"
        sent += decision.remember


def test_every_silence_has_its_reason() -> None:
    sent = [SentAlert("ml", MARCH, NEAR, Decimal(85))]
    assert decide("ml", MARCH, None, spent("9"), []).reason is BudgetReason.NO_BUDGET
    assert decide("ml", MARCH, Decimal(100), spent("9"), []).reason is BudgetReason.BELOW
    assert decide("ml", MARCH, Decimal(100), spent("85"), sent).reason is BudgetReason.SAID_ALREADY
    assert decide("ml", MARCH, Decimal(100), spent("85"), []).reason is BudgetReason.CROSSED


def test_another_project_and_another_month_begin_with_nothing_said() -> None:
    sent = [SentAlert("ml", MARCH, ratio, Decimal(120)) for ratio in (NEAR, REACHED)]
    assert decide("ml", MARCH, Decimal(100), spent("120"), sent).send is None
    assert decide("web", MARCH, Decimal(100), spent("120"), sent).send is not None
    assert decide("ml", APRIL, Decimal(100), spent("120"), sent).send is not None


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 600)), min_size=1, max_size=30))
def test_with_one_budget_each_threshold_is_said_at_most_once_and_a_crossed_one_always(
    looks: list[tuple[int, int]],
) -> None:
    sent: list[SentAlert] = []
    said: list[Decimal] = []
    for _, cost in looks:
        decision = decide("ml", MARCH, Decimal(300), spent(str(cost)), sent)
        sent += decision.remember
        said += [decision.send.threshold_ratio] if decision.send else []
    assert len(said) == len(set(said))
    assert (REACHED in said) == any(cost >= 300 for _, cost in looks)
    assert bool(said) == any(cost >= 240 for _, cost in looks)


def alert(cost: Cost, budget: str = "1000") -> BudgetAlert:
    found = decide("ml-research", MARCH, Decimal(budget), cost, []).send
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("cost", "text"),
    [
        (spent("812.345"), "Project ml-research has reached 80% of its GPU budget for 2026-03: 812.34 USD of 1,000.00 USD"),  # noqa: E501
        (spent("1000"), "Project ml-research has used up its GPU budget for 2026-03: 1,000.00 USD of 1,000.00 USD"),
        (
            spent("900", 60),
            "Project ml-research has reached 80% of its GPU budget for 2026-03: at least 900.00 USD of 1,000.00 USD",
        ),
    ],
)  # fmt: skip
def test_a_message_says_who_how_far_and_how_much(cost: Cost, text: str) -> None:
    assert headline(alert(cost)) == text
    mail = email_message(alert(cost))
    assert mail.subject == f"[gpumem] {text}"
    slack = slack_message(alert(cost))
    assert slack["text"] == text
    assert [block["type"] for block in slack["blocks"]] == ["section", "context"]
    assert slack["blocks"][0]["text"] == {"type": "mrkdwn", "text": f"*{text}*"}


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (spent("800"), "200.00 USD are left until the end of the month (UTC). Look"),
        (spent("1234.5"), "234.50 USD too much until the end"),
        (spent("900", 60), "For a part of the time no price is known; that part is not counted."),
    ],
)
def test_the_detail_says_what_is_left_and_what_is_unknown(cost: Cost, said: str) -> None:
    assert said in email_message(alert(cost)).body
    assert said in slack_message(alert(cost))["blocks"][1]["elements"][0]["text"]


def test_cents_are_rounded_half_to_even() -> None:
    assert [dollars(Decimal(text)) for text in ("0.125", "0.135", "-1234.5")] == [
        "0.12 USD",
        "0.14 USD",
        "-1,234.50 USD",
    ]


def test_a_channel_that_is_down_is_tried_again_and_holds_up_no_other() -> None:
    memory, mail, slack = FakeMemory(), FakeChannel(), FakeChannel(DependencyError("slack: 503"))
    alerting = BudgetAlerting({"slack": slack, "email": mail}, memory, dry_run=False)
    first = alerting.look("ml", MARCH, Decimal(100), spent("85"))
    assert [(one.channel, one.outcome, one.text) for one in first] == [
        ("email", "delivered", "took it"),
        ("slack", "failed", "slack: 503"),
    ]
    slack.error = None
    second = alerting.look("ml", MARCH, Decimal(100), spent("86"))
    assert [(one.channel, one.outcome) for one in second] == [("slack", "delivered")]
    assert alerting.look("ml", MARCH, Decimal(100), spent("87")) == ()
    assert (len(mail.delivered), len(slack.delivered)) == (1, 1)


def test_a_dry_run_says_what_it_would_send_and_remembers_nothing() -> None:
    memory, mail = FakeMemory(), FakeChannel()
    for _ in range(2):
        (one,) = BudgetAlerting({"email": mail}, memory, dry_run=True).look("ml", MARCH, Decimal(100), spent("85"))
        assert (one.outcome, one.alert.threshold_ratio) == ("dry_run", NEAR)
    assert (mail.delivered, memory.rows) == ([], [])
