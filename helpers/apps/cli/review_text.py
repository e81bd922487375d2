"""A review as a person reads it: on a terminal, and as a comment on a pull request."""

from __future__ import annotations

import textwrap

from helpers.apps.cli.output import coloured, table
from helpers.domain.review.model import ReviewResult
from helpers.rendering.review_tables import aligned, card_rows, document_name, left_out, tenant_rows

# By it a bot finds its own comment and changes it instead of adding another.
MARKER = "<!-- gpumem-review -->"
# GitHub refuses a longer comment; GitLab and Forgejo take more.
MOST_CHARACTERS = 65_536
_COLOURS = {"stop": "red", "high": "red", "medium": "yellow", "low": "green"}
_NO_REPAIR = "none needed"
_WIDTH = 110


def terminal_text(review: ReviewResult) -> str:
    """Verdict first, then the reasons, then the numbers."""
    parts = [f"{coloured(review.headline(), _COLOURS[review.risk])}   {review.before} → {review.after}"]
    if review.findings:
        parts.append("\n".join(_finding(one.risk, one.subject, one.text, one.repair) for one in review.findings))
    parts.append(_table(card_rows(review), "table"))
    parts += [left_out(review), _table(tenant_rows(review), "table")]
    if review.order:
        parts.append("order: " + "; ".join(review.order))
    return "\n\n".join(part for part in parts if part)


def _finding(risk: str, subject: str, text: str, repair: str) -> str:
    lines = textwrap.wrap(f"{subject}: {text}", _WIDTH - 8, break_long_words=False, break_on_hyphens=False)
    if repair != _NO_REPAIR:
        lines += textwrap.wrap(f"repair: {repair}", _WIDTH - 8, break_long_words=False, break_on_hyphens=False)
    first = coloured(f"{risk:<8}", _COLOURS[risk])
    return "\n".join([first + lines[0], *(" " * 8 + line for line in lines[1:])])


def _table(rows: list[dict[str, str]], output: str) -> str:
    return table(rows, output, right=aligned(list(rows[0]))) if rows else ""


def comment_markdown(review: ReviewResult) -> str:
    """The comment, the marker first; parts that do not fit are left out from the end, and that is said."""
    parts = [
        f"{MARKER}\n## GPU memory: {_plain(review.headline())}\n\n`{review.before}` → `{review.after}`",
        *(_markdown_finding(review)),
        _titled("GPUs", _table(_plain_rows(card_rows(review)), "markdown")),
        left_out(review),
        _titled("Tenants", _table(_plain_rows(tenant_rows(review)), "markdown")),
        _titled("Order", "\n".join(f"{n}. {_plain(step)}" for n, step in enumerate(review.order, 1))),
        _documents(review),
    ]
    note = "\n\nMore did not fit into this comment; `gpumem review -o html` has all of it.\n"
    text = ""
    for part in (part for part in parts if part):
        gap = "\n" if part.startswith("- ") and text.rpartition("\n")[2].startswith("- ") else "\n\n"
        longer = f"{text}{gap}{part}" if text else part
        if len(longer) + len(note) > MOST_CHARACTERS:
            return text + note
        text = longer
    return text + "\n"


def _markdown_finding(review: ReviewResult) -> list[str]:
    lines = []
    for one in review.findings:
        accepted = " (accepted)" if one.accepted else ""
        repair = "" if one.repair == _NO_REPAIR else f"<br>Repair: {_plain(one.repair)}"
        lines.append(f"- **{one.risk}**{accepted} `{one.kind}` **{_plain(one.subject)}**: {_plain(one.text)}{repair}")
    return lines


def _titled(title: str, content: str) -> str:
    return f"### {title}\n\n{content}" if content else ""


def _documents(review: ReviewResult) -> str:
    if not review.objects:
        return ""
    lines = []
    for one in review.objects:
        fields = f": {', '.join(_plain(field) for field in one.fields)}" if one.fields else ""
        lines.append(f"- {_plain(document_name(one))}{fields}")
    summary = f"<summary>{len(lines)} rendered document(s) differ</summary>"
    return f"<details>{summary}\n\n" + "\n".join(lines) + "\n\n</details>"


def _plain_rows(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{header: _plain(cell) for header, cell in row.items()} for row in rows]


def _plain(text: str) -> str:
    """`text` as it is, whatever Markdown would make of it: no table cell, no tag, no code, no mention of anybody."""
    for mark in "&<|@`":
        text = text.replace(mark, f"&#{ord(mark)};")
    return text
