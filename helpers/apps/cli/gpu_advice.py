"""Advice about a project's work, for a person to read."""

from __future__ import annotations

from collections.abc import Iterator

from helpers.apps.cli.output import table
from helpers.domain.jobs.advice_views import CardAdviceView, ProjectAdvice, TypeAdviceView


def advice_text(found: ProjectAdvice, output: str) -> str:
    """A table of the cards, then what is advised about each, and the fixed cluster."""
    at_least = "" if found.cost_complete else "at least "
    head = (
        f"{found.project_id}, {found.from_at:%Y-%m-%d %H:%M}Z to {found.to_at:%Y-%m-%d %H:%M}Z: "
        f"{at_least}{found.cost_usd:.2f} USD"
    )
    rows = [
        {
            "card": one.gpu,
            "gpu hours": f"{one.gpu_hours:.2f}",
            "on spot": f"{one.spot_gpu_hours:.2f}",
            "advised on spot": "unknown" if one.mix is None else f"{one.mix.spot_gpu_hours:.2f}",
            "then usd": "unknown" if one.mix is None else f"{one.mix.cost_usd:.2f}",
            "all on demand usd": "unknown" if one.mix is None else f"{one.mix.all_on_demand_usd:.2f}",
        }
        for one in found.cards
    ]
    numbers = tuple(rows[0])[1:] if rows else ()
    fixed = found.fixed_cluster
    cards = ", ".join(f"{count} x {gpu}" for gpu, count in fixed.cards.items())
    cost = "" if fixed.cost_usd is None else f"{cards} all the time: {fixed.cost_usd:.2f} USD; "
    lines = [line for one in found.cards for line in _lines(one)]
    return "\n".join(
        [head, *([table(rows, output, right=numbers)] if rows else []), *lines, f"Fixed cluster: {cost}{fixed.why}"]
    )


def _lines(one: CardAdviceView) -> Iterator[str]:
    if one.mix is not None:
        yield f"{one.gpu}, spot: {'; '.join(one.mix.why)}"
    if one.reserved is not None:
        count = "" if one.reserved.cards_count is None else f"{one.reserved.cards_count} cards; "
        yield f"{one.gpu}, reserved: {count}{one.reserved.why}"
    for each in one.types:
        yield f"{one.gpu}, card for {each.work}: {_type(each)}"


def _type(found: TypeAdviceView) -> str:
    if found.gpu is None:
        return found.why[-1]
    text = f"{found.gpus_count} x {found.gpu} for {found.usd_per_hour:.4f} USD an hour, for {found.need_mib} MiB"
    if found.shared_usd_per_hour is not None:
        text += f"; on a shared one {found.shared_usd_per_hour:.4f}"
    if found.cheaper_gpu is not None:
        text += f"; {found.cheaper_gpu} has room for {found.cheaper_usd_per_hour:.4f}"
    return text
