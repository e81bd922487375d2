"""The few SVG elements that this project's drawings need; text is escaped, coordinates are short."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr


def element(name: str, content: str = "", **attributes: float | str) -> str:
    """One element; `content` is markup already. `class_` and dashes as underscores, as Python wants them."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_number(value))}" for key, value in attributes.items()
    )
    return f"<{name}{written}>{content}</{name}>" if content else f"<{name}{written}/>"


def text(x: float, y: float, content: str, **attributes: float | str) -> str:
    """A line of text at its baseline."""
    return element("text", escape(content), x=x, y=y, **attributes)


def document(width: float, height: float, title: str, description: str, style: str, body: Iterable[str]) -> str:
    """A whole drawing that a screen reader can name and that needs nothing from outside."""
    wide, high = _number(width), _number(height)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}"'
    lines = [
        f'{head} role="img" aria-labelledby="gpumem-title gpumem-desc">',
        f'<title id="gpumem-title">{escape(title)}</title>',
        f'<desc id="gpumem-desc">{escape(description)}</desc>',
        f"<style>{style}</style>",
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
