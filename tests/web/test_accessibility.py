"""What a screen reader and weak eyes need: names, order, contrast. In both colour schemes."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from playwright.sync_api import expect

from tests.web.conftest import Watched
from tests.web.scene import WebScene

# WCAG 2.2, 1.4.3: the contrast of text, and of text from 24 px (or 18.66 px bold) on.
TEXT_CONTRAST, LARGE_CONTRAST = 4.5, 3.0

# Every text, its colour, and what is painted behind it. Transparent backgrounds are looked through.
_CONTRASTS = """() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return { r, g, b, a }; };
  const over = (top, under) => ({ r: top.r * top.a + under.r * (1 - top.a), g: top.g * top.a + under.g * (1 - top.a),
    b: top.b * top.a + under.b * (1 - top.a), a: 1 });
  const light = ({ r, g, b }) => { const [x, y, z] = [r, g, b].map((one) => one / 255).map((one) =>
    one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4); return 0.2126 * x + 0.7152 * y + 0.0722 * z; };
  const behind = (one) => { const layers = []; for (let at = one; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor); layers.push(colour); if (colour.a === 1) break; }
    const ground = parse(getComputedStyle(document.body).backgroundColor);
    return layers.reverse().reduce((under, top) => over(top, under), ground); };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const one = texts.currentNode.parentElement, style = getComputedStyle(one);
    if (!texts.currentNode.textContent.trim() || !one.checkVisibility() || style.clipPath !== "none") continue;
    const under = behind(one);
    const colour = over(parse(one.closest("svg") ? style.fill : style.color), under);
    const [a, b] = [light(colour), light(under)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    found.push({ text: texts.currentNode.textContent.trim().slice(0, 40), ratio: (a + 0.05) / (b + 0.05), large });
  }
  return found;
}"""

_NAMELESS = """() => [...document.querySelectorAll("input, select, button, a[href], [role=img], svg")]
  .filter((one) => one.checkVisibility()).filter((one) => !(one.getAttribute("aria-label") || one.title
    || [...(one.labels ?? [])].some((label) => label.textContent.trim()) || one.textContent.trim()))
  .map((one) => one.outerHTML.slice(0, 100))"""

_REPEATED = """() => { const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  return ids.filter((id, index) => ids.indexOf(id) !== index); }"""

_DANGLING = """() => ["aria-labelledby", "aria-describedby", "for"].flatMap((name) =>
  [...document.querySelectorAll(`[${name}]`)].filter((one) => !document.getElementById(one.getAttribute(name)))
    .map((one) => one.outerHTML.slice(0, 100)))"""


@pytest.fixture(params=["door", "board", "job"])
def page(request: pytest.FixtureRequest, watched: Watched, web: WebScene) -> Any:
    web.past()
    web.present()
    if request.param == "door":
        watched.page.goto(web.url)
        return watched.page
    page = watched.enter()
    page.get_by_role("radio", name="All").check()
    expect(page.locator("#rows .failed")).to_be_visible()
    expect(page.locator("#cost rect").first).to_be_visible()
    if request.param == "job":
        page.get_by_role("button", name="captions").click()
        expect(page.get_by_role("dialog").locator(".history")).to_be_visible()
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(page: Any, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    found = page.evaluate(_CONTRASTS)
    assert len(found) > 3
    weak = [one for one in found if one["ratio"] < (LARGE_CONTRAST if one["large"] else TEXT_CONTRAST)]
    assert weak == []


def test_everything_that_does_something_has_a_name(page: Any) -> None:
    assert page.evaluate(_NAMELESS) == []
    assert page.evaluate(_REPEATED) == []
    assert page.evaluate(_DANGLING) == []


def test_the_page_says_its_language_its_title_and_its_order(page: Any) -> None:
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.title() == "GPU jobs"
    levels = page.evaluate('[...document.querySelectorAll("h1,h2,h3")].map((one) => Number(one.tagName[1]))')
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert page.locator("main:visible").count() == 1
    assert page.locator("th:not([scope])").count() == 0
