"""`gpumem bill`: what cards cost, and whose part of them was what."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from helpers.apps.cli.context import estate_option, read_estate
from helpers.apps.cli.output import emit_data, output_option, table
from helpers.apps.cli.trace_options import prometheus_options, trace_argument, trace_of
from helpers.domain.cost.money import SECONDS_PER_HOUR
from helpers.domain.cost.shared_card import CardLine
from helpers.domain.watchdog.settings import watchdog_settings
from helpers.services.bill import BilledCard, EstateBill, estate_bill

_NOBODY = "-"


@click.command()
@trace_argument
@estate_option
@output_option
@prometheus_options
def bill(
    traces: tuple[Path, ...],
    estate_file: Path,
    output: str,
    prometheus_url: str | None,
    days: float,
    step_seconds: int,
) -> int:
    """What each card cost, by tenant: used, held unused, above budget, idle, overhead. The lines sum to the price."""
    estate = read_estate(estate_file)
    found = estate_bill(estate, trace_of(traces, prometheus_url, days, step_seconds, watchdog_settings(estate)))
    if emit_data(_data(found), output):
        return 0
    rows = [
        {
            "card": card.card,
            "tenant": line.tenant or _NOBODY,
            "part": line.part.value,
            "MiB hours": f"{_mib_hours(line):.0f}",
            "USD": _text(usd),
        }
        for card in found.cards
        for line, usd in _priced(card)
    ]
    click.echo(table(rows, output, right=("MiB hours", "USD")))
    click.echo()
    totals = [{"tenant": tenant or _NOBODY, "USD": _text(usd)} for tenant, usd in _by_tenant(found).items()]
    click.echo(table(totals, output, right=("USD",)))
    count = len(found.cards)
    span = f"{found.from_at:%Y-%m-%d %H:%M} to {found.to_at:%Y-%m-%d %H:%M} UTC"
    click.echo(f"\n{span}, {count} card{'' if count == 1 else 's'}")
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    return 0


def _priced(card: BilledCard) -> list[tuple[CardLine, Decimal | None]]:
    usd = card.bill.usd
    return list(zip(card.bill.lines, usd if usd is not None else [None] * len(card.bill.lines), strict=True))


def _by_tenant(found: EstateBill) -> dict[str | None, Decimal | None]:
    """Of all cards; None: one of them has no price. Nobody's comes last."""
    sums: dict[str | None, Decimal | None] = defaultdict(Decimal)
    for card in found.cards:
        for line, usd in _priced(card):
            so_far = sums[line.tenant]
            sums[line.tenant] = None if usd is None or so_far is None else so_far + usd
    return dict(sorted(sums.items(), key=lambda one: (one[0] is None, one[0] or "")))


def _mib_hours(line: CardLine) -> float:
    return float(line.mib_seconds / SECONDS_PER_HOUR)


def _text(usd: Decimal | None) -> str:
    return "no price" if usd is None else f"{usd:f}"


def _data(found: EstateBill) -> dict[str, Any]:
    """Money is text, so that no reader makes a float of it unasked."""
    return {
        "from": found.from_at.isoformat(),
        "to": found.to_at.isoformat(),
        "cards": [_card_data(card) for card in found.cards],
        "tenants": [
            {"tenant": tenant, "usd": None if usd is None else f"{usd:f}"} for tenant, usd in _by_tenant(found).items()
        ],
        "notes": list(found.notes),
    }


def _card_data(card: BilledCard) -> dict[str, Any]:
    bill = card.bill
    return {
        "card": card.card,
        "uuid": bill.card.uuid,
        "gpu": card.gpu or None,
        "capacity_type": card.capacity_type.value,
        "usd": None if bill.usd is None else f"{sum(bill.usd):f}",
        "lines": [
            {
                "tenant": line.tenant,
                "part": line.part.value,
                "mib_seconds": _whole(line.mib_seconds),
                "usd": None if usd is None else f"{usd:f}",
            }
            for line, usd in _priced(card)
        ],
        "overcommitted_mib_seconds": _whole(bill.overcommitted_mib_seconds),
        "uncharged_overshoot_mib_seconds": _whole(bill.uncharged_overshoot_mib_seconds),
    }


def _whole(amount: Fraction) -> int:
    return round(amount)
