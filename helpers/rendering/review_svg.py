"""The seating chart: a bar a card before and after, each tenant's part of it, who waits, and the slack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from helpers.domain.review.model import CardRow, CardSide, NodeRow, ReviewResult, Seat
from helpers.rendering.review_tables import left_out, shown_cards
from helpers.rendering.svg import document, element, text

_WIDTH, _LEFT, _RIGHT = 1000, 64, 110
_BAR, _GAP, _HEAD, _FOOT = 36, 8, 46, 28
# What a character of a label is wide, and the space around it.
_CHARACTER, _PADDING = 6.0, 8

_STYLE = """
.gm text{font:12px system-ui,sans-serif;fill:#1f2328}.gm .label{font-size:11px}
.gm .head{font-size:14px;font-weight:600}.gm .bad{fill:#b3261e}
.gm .frame{fill:none;stroke:#59636e}.gm .seat{fill:#d7e3f4;stroke:#59636e}.gm .new{fill:#ffe2a8;stroke:#59636e}
.gm .elastic{stroke-dasharray:4 3}.gm .wait{fill:none;stroke:#b3261e;stroke-dasharray:4 3}.gm .back{fill:#ffffff}
.gm .limit{stroke:#b3261e;stroke-width:2}
@media (prefers-color-scheme:dark){.gm text{fill:#f0f6fc}.gm .bad{fill:#ff9b93}.gm .frame{stroke:#9198a1}
.gm .seat{fill:#1f3a5f;stroke:#9198a1}.gm .new{fill:#5c4306;stroke:#9198a1}.gm .wait{stroke:#ff9b93}
.gm .back{fill:#0d1117}.gm .limit{stroke:#ff9b93}}
""".replace("\n", "")


@dataclass(frozen=True)
class _Part:
    """One piece of a bar."""

    tenant: str
    note: str
    mib: int
    style: str


def seating_chart(review: ReviewResult) -> str:
    """The whole drawing; readable on light and on dark, and by a screen reader."""
    cards = shown_cards(review)
    body: list[str] = []
    y = 34.0
    for node in review.nodes:
        for card in node.cards:
            if card in cards:
                body += _card(node, card, y)
                y += _HEAD + 2 * (_BAR + _GAP) + _FOOT
        waiting = node.after.waiting if node.after and len(node.cards) != 1 else ()
        if waiting:
            body.append(text(8, y, f"{node.name}: {_list(waiting)} without a place", class_="bad"))
            y += 24
    if more := left_out(review):
        body.append(text(8, y, more))
        y += 24
    head = text(8, 20, f"{review.before} → {review.after}: {review.headline()}", class_="head")
    back = element("rect", class_="back", x=0, y=0, width=_WIDTH, height=y)
    drawing = element("g", "\n".join([back, head, *body]), class_="gm")
    return document(_WIDTH, y, "Who sits on which GPU, before and after", _description(review), _STYLE, [drawing])


def _description(review: ReviewResult) -> str:
    lines = [f"{review.headline()}."]
    for node in review.nodes:
        for side, word in ((node.before, "before"), (node.after, "after")):
            if side is not None:
                waits = f", waiting: {_list(side.waiting)}" if side.waiting else ""
                lines.append(
                    f"{node.name} {word}: {side.promised_mib} of {side.advertised_mib} MiB promised, "
                    f"slack {side.slack_mib}{waits}."
                )
    return " ".join(lines)


def _list(seats: Sequence[Seat]) -> str:
    return ", ".join(f"{seat.tenant} {seat.mib} MiB" for seat in seats)


def _card(node: NodeRow, card: CardRow, y: float) -> Iterator[str]:
    either = card.after or card.before
    yield text(8, y + 18, f"{node.name}, GPU {card.card}{f': {either.model}' if either else ''}", class_="head")
    parts = {"before": _parts(node, card, after=False), "after": _parts(node, card, after=True)}
    sums = [sum(part.mib for part in some) for some in parts.values()]
    advertised = [side.advertised_mib for side in (card.before, card.after) if side is not None]
    scale = (_WIDTH - _LEFT - _RIGHT) / max(*sums, *advertised, 1)
    top = y + 30
    for word, side in (("before", card.before), ("after", card.after)):
        yield from _bar(word, side, parts[word], scale, top)
        top += _BAR + _GAP + 14


def _parts(node: NodeRow, card: CardRow, *, after: bool) -> list[_Part]:
    side, other = (card.after, card.before) if after else (card.before, card.after)
    if side is None:
        return []
    elsewhere = {seat.tenant: seat for seat in other.seats} if other else {}
    parts = []
    for seat in sorted(side.seats, key=lambda one: (one.elastic, one.tenant)):
        changed = elsewhere.get(seat.tenant) != seat
        style = ("new" if changed else "seat") + (" elastic" if seat.elastic else "")
        times = f" in {seat.pods_count} pods" if seat.pods_count > 1 else ""
        parts.append(_Part(seat.tenant, f"{seat.mib}{times}", seat.mib, style))
    whole = node.after if after else node.before
    if whole is not None and len(node.cards) == 1:
        parts += [_Part(seat.tenant, f"{seat.mib} waits", seat.mib, "wait") for seat in whole.waiting]
    return parts


def _bar(word: str, side: CardSide | None, parts: Sequence[_Part], scale: float, top: float) -> Iterator[str]:
    middle = top + _BAR / 2 + 4
    yield text(8, middle, word)
    if side is None:
        yield text(_LEFT, middle, "not there")
        return
    x, small = float(_LEFT), []
    for part in parts:
        width = part.mib * scale
        yield element("rect", class_=part.style, x=x, y=top, width=width, height=_BAR)
        if max(len(part.tenant), len(part.note)) * _CHARACTER + _PADDING <= width:
            style = "label bad" if part.style == "wait" else "label"
            yield text(x + _PADDING / 2, top + 15, part.tenant, class_=style)
            yield text(x + _PADDING / 2, top + 29, part.note, class_=style)
        else:
            small.append(f"{part.tenant} {part.note}")
        x += width
    limit = _LEFT + side.advertised_mib * scale
    yield element("rect", class_="frame", x=_LEFT, y=top, width=limit - _LEFT, height=_BAR)
    yield element("line", class_="limit", x1=limit, x2=limit, y1=top - 3, y2=top + _BAR + 3)
    slack_style = {"class_": "bad"} if side.slack_mib < 0 else {}
    yield text(_WIDTH - _RIGHT + 8, middle, f"slack {side.slack_mib}", **slack_style)
    if small:
        yield text(_LEFT, top + _BAR + 13, f"also: {', '.join(small)}")
