"""A review's tables: which rows and columns there are, for every output alike."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.domain.review.documents import NO_WAVE
from helpers.domain.review.model import CardRow, CardSide, NodeSide, ObjectRow, ReviewResult, TenantRow

Rows = list[dict[str, str]]

NUMBERS = ("advertised MiB", "promised MiB", "slack MiB", "shares", "pods", "budget MiB", "p99 MiB")
# Beyond so many cards only those that change are shown.
MOST_CARDS_COUNT = 24


def card_rows(review: ReviewResult) -> Rows:
    """One row a card, and one for all cards of a node that has several."""
    cards = shown_cards(review)
    rows: Rows = []
    for node in review.nodes:
        if len(node.cards) != 1:
            cards_count = f"all {len(node.cards)}" if node.cards else "elastic pool"
            rows.append(_row(node.name, cards_count, "", node.before, node.after))
        for card in node.cards:
            if card in cards:
                either = card.after or card.before
                rows.append(_row(node.name, card.card, either.model if either else "", card.before, card.after))
    return rows


def shown_cards(review: ReviewResult) -> tuple[CardRow, ...]:
    """All cards, or, where there are many, those that change, and of them the first."""
    cards = [card for node in review.nodes for card in node.cards]
    if len(cards) > MOST_CARDS_COUNT:
        cards = [card for card in cards if card.changed][:MOST_CARDS_COUNT]
    return tuple(cards)


def left_out(review: ReviewResult) -> str:
    """What `card_rows` leaves out, in words; empty where it is nothing."""
    hidden = sum(len(node.cards) for node in review.nodes) - len(shown_cards(review))
    return f"{hidden} more cards are not shown; -o json has all" if hidden else ""


def tenant_rows(review: ReviewResult) -> Rows:
    """Tenants that something happens to, and what."""
    return [_tenant(row, review) for row in review.tenants if _happens(row, review)]


def _happens(row: TenantRow, review: ReviewResult) -> bool:
    return row.fate != "unchanged" or bool(row.restart_fields) or row.tenant in {p.tenant for p in review.pending}


def _tenant(row: TenantRow, review: ReviewResult) -> dict[str, str]:
    cells = {
        "tenant": row.tenant,
        "node": row.node,
        "pods": both(row.pods_before_count or None, row.pods_after_count or None),
        "budget MiB": both(row.budget_before_mib, row.budget_after_mib),
        "shares": both(row.shares_before, row.shares_after),
    }
    if any(one.measured_p99_mib is not None for one in review.tenants):
        cells["p99 MiB"] = "unknown" if row.measured_p99_mib is None else str(row.measured_p99_mib)
    return {**cells, "what happens": "; ".join(_what_happens(row, review))}


def _what_happens(row: TenantRow, review: ReviewResult) -> list[str]:
    told = [f"renamed from {row.renamed_from}"] if row.renamed_from else []
    if row.fate not in ("unchanged", "changed", "renamed"):
        told.append(row.fate)
    if row.elastic_before is not None and row.elastic_before != row.elastic:
        told.append("becomes elastic" if row.elastic else "becomes always-on")
    if row.restart_fields:
        told.append("restarts")
    for pending in review.pending:
        if pending.tenant == row.tenant:
            verb = ("becomes" if pending.certain else "may become") if pending.new else "stays"
            told.append(f"{verb} Pending" + (" (old pods go on)" if pending.old_pods_go_on else ""))
    return told or ["changes"]


def _row(
    node: str, card: str, model: str, before: NodeSide | CardSide | None, after: NodeSide | CardSide | None
) -> dict[str, str]:
    sides = (before, after)
    return {
        "node": node,
        "GPU": card,
        "model": model,
        "advertised MiB": both(*(side.advertised_mib if side else None for side in sides)),
        "promised MiB": both(*(side.promised_mib if side else None for side in sides)),
        "slack MiB": both(*(side.slack_mib if side else None for side in sides)),
        "shares": both(*(_shares(side) for side in sides)),
    }


def _shares(side: NodeSide | CardSide | None) -> str | None:
    """Taken of offered."""
    if side is None:
        return None
    if isinstance(side, NodeSide):
        return f"{side.promised_shares_count}/{side.shares_count}"
    return f"{sum(seat.shares_count for seat in side.seats)}/{side.shares_count}"


def document_name(row: ObjectRow) -> str:
    """`wave 1, gate (Step), changed`, or `file talos/talconfig.yaml, changed`."""
    if row.wave == NO_WAVE:
        return f"file {row.address}, {row.action}"
    return f"wave {row.wave}, {row.address} ({row.kind}), {row.action}"


def both(before: int | str | None, after: int | str | None) -> str:
    """`3000 → 6000`; once where they are the same; `-` where there is nothing then."""
    old, new = ("-" if value is None else str(value) for value in (before, after))
    return old if old == new else f"{old} → {new}"


def aligned(headers: Sequence[str]) -> list[str]:
    """Which of `headers` hold numbers."""
    return [header for header in headers if header in NUMBERS]
