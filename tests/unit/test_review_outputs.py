"""A review as text, Markdown, SVG and HTML: the cases' files, and what must hold of any of them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from helpers.apps.cli.review_text import MARKER, MOST_CHARACTERS, comment_markdown
from helpers.domain.review.model import Finding, ReviewResult
from helpers.rendering.review_html import review_page
from helpers.rendering.review_svg import seating_chart
from tests.cases.review import CASES, OUTPUTS, review_of

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def reviews() -> dict[Path, ReviewResult]:
    return {case: review_of(case) for case in CASES}


@pytest.mark.parametrize("ending", OUTPUTS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_an_output_is_the_cases_file(case: Path, ending: str, reviews: dict[Path, ReviewResult]) -> None:
    assert OUTPUTS[ending](reviews[case]) == case.with_suffix(f".{ending}").read_text(), (
        "if that is meant: python -m tests.cases.review, and look at the difference"
    )


def test_every_file_beside_the_cases_is_an_output() -> None:
    wanted = {case.with_suffix(f".{ending}") for case in CASES for ending in (*OUTPUTS, "yaml")}
    there = {path for path in CASES[0].parent.iterdir() if path.suffix not in (".py", "")}
    assert there == wanted


def with_text(text: str, count: int = 1) -> ReviewResult:
    one = Finding(kind="restart", risk="medium", subject="t", text=text, repair="none needed")
    return ReviewResult(
        before="a",
        after="b",
        risk="medium",
        findings=(one,) * count,
        pending=(),
        order=(),
        nodes=(),
        tenants=(),
        objects=(),
    )


def test_a_comment_begins_with_the_mark_by_which_a_bot_finds_it() -> None:
    assert comment_markdown(with_text("x")).startswith(f"{MARKER}\n")


def test_a_long_comment_keeps_its_verdict_and_says_that_more_is_left_out() -> None:
    text = comment_markdown(with_text("x" * 500, count=400))
    assert len(text) <= MOST_CHARACTERS
    assert "## GPU memory: medium risk" in text
    assert text.endswith("`gpumem review -o html` has all of it.\n")
    assert "did not fit" not in comment_markdown(with_text("x" * 500, count=100))


HOSTILE = "<script>alert(1)</script> | @everyone `code`"


def test_what_an_estate_says_is_text_in_every_output() -> None:
    shown = comment_markdown(with_text(HOSTILE))
    line = next(line for line in shown.splitlines() if "alert" in line)
    assert not set("<|@") & set(line.removeprefix("- **medium** `restart` **t**: "))
    page = review_page(with_text(HOSTILE).model_copy(update={"before": HOSTILE}))
    assert "<script" not in page
    assert "<script" not in seating_chart(with_text("x").model_copy(update={"before": HOSTILE}))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_chart_names_and_describes_itself_and_needs_nothing_from_outside(
    case: Path, reviews: dict[Path, ReviewResult]
) -> None:
    text = seating_chart(reviews[case])
    root = ET.fromstring(text)  # noqa: S314 - our own drawing
    ids = {element.get("id"): element for element in root.iter()}
    labels = [ids[name] for name in str(root.get("aria-labelledby")).split()]
    assert [label.tag for label in labels] == [f"{SVG}title", f"{SVG}desc"]
    assert all(label.text for label in labels)
    assert root.get("role") == "img"
    assert not re.search(r"href|url\(|@import|<image|<script", text)
    assert "prefers-color-scheme:dark" in text
    written = " ".join(str(element.text) for element in root.iter(f"{SVG}text"))
    for node in reviews[case].nodes:
        for card in node.cards:
            for seat in (*(card.before.seats if card.before else ()), *(card.after.seats if card.after else ())):
                assert seat.tenant in written, "each tenant is written, not only drawn"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.outside += [str(value) for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_page_is_one_file_with_a_language_and_closed_elements(
    case: Path, reviews: dict[Path, ReviewResult]
) -> None:
    page = _Page()
    text = review_page(reviews[case])
    page.feed(text)
    assert (page.open, page.outside) == ([], [])
    assert '<html lang="en">' in text


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_charts_text_stands_out_on_light_and_on_dark() -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1."""
    style = re.search(r"<style>(.*)</style>", seating_chart(with_text("x")))
    assert style is not None
    light, dark = style[1].split("@media")
    for part in (light, dark):
        fill = dict(re.findall(r"\.gm (?:\.)?(\w+)\{[^}]*?fill:(#\w{6})", part))
        for ground in ("back", "seat", "new"):
            assert contrast(fill["text"], fill[ground]) >= 4.5, (part, ground)
        assert contrast(fill["bad"], fill["back"]) >= 4.5
