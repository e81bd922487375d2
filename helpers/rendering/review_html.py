"""A review as one page: no script, no font, no picture from outside; readable on light and on dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from helpers.domain.review.model import ReviewResult
from helpers.rendering.review_svg import seating_chart
from helpers.rendering.review_tables import Rows, aligned, card_rows, document_name, left_out, tenant_rows

_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;display:block;overflow-x:auto}
th,td{padding:.25rem .75rem;text-align:left;border-bottom:1px solid #888}
.number{text-align:right;font-variant-numeric:tabular-nums}
.risk{font-weight:600;text-transform:uppercase}svg{max-width:100%;height:auto}code{overflow-wrap:anywhere}
"""


def review_page(review: ReviewResult) -> str:
    """The whole document."""
    parts = [
        f"<h1>GPU memory: {escape(review.headline())}</h1>",
        f"<p><code>{escape(review.before)}</code> → <code>{escape(review.after)}</code></p>",
        _findings(review),
        f"<h2>GPUs</h2>{_table(card_rows(review))}<p>{escape(left_out(review))}</p>",
        seating_chart(review),
        _section("Tenants", _table(tenant_rows(review))),
        _section("Order", _list("ol", [escape(step) for step in review.order])),
        _section("Rendered documents", _list("ul", [_object(row) for row in _objects(review)])),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>GPU memory: {escape(review.headline())}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{title}</h2>{content}" if content else ""


def _findings(review: ReviewResult) -> str:
    items = []
    for one in review.findings:
        risk = f"{one.risk}, accepted" if one.accepted else one.risk
        repair = f"<br>Repair: {escape(one.repair)}" if one.repair != "none needed" else ""
        items.append(
            f'<span class="risk">{escape(risk)}</span> <code>{one.kind}</code> '
            f"<strong>{escape(one.subject)}</strong>: {escape(one.text)}{repair}"
        )
    return _list("ul", items)


def _objects(review: ReviewResult) -> list[tuple[str, tuple[str, ...]]]:
    return [(document_name(one), one.fields) for one in review.objects]


def _object(row: tuple[str, tuple[str, ...]]) -> str:
    fields = "".join(f"<br><code>{escape(field)}</code>" for field in row[1])
    return escape(row[0]) + fields


def _list(kind: str, items: Sequence[str]) -> str:
    return f"<{kind}>" + "".join(f"<li>{item}</li>" for item in items) + f"</{kind}>" if items else ""


def _table(rows: Rows) -> str:
    if not rows:
        return ""
    headers = list(rows[0])
    numbers = aligned(headers)

    def cell(kind: str, header: str, value: str) -> str:
        scope = ' scope="col"' if kind == "th" else ""
        number = ' class="number"' if header in numbers else ""
        return f"<{kind}{scope}{number}>{escape(value)}</{kind}>"

    head = "".join(cell("th", header, header) for header in headers)
    body = "".join("<tr>" + "".join(cell("td", h, row[h]) for h in headers) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
