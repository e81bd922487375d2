"""Changes of shipped estates, and what `gpumem review` makes of each: `<case>.yaml` and the outputs beside it.

`python -m tests.cases.review` writes the outputs again; look at the difference before it is committed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from helpers.apps.cli.review_text import comment_markdown, terminal_text
from helpers.domain.review.model import ReviewResult
from helpers.rendering.estate_file import parse_estate
from helpers.rendering.review import review_estates
from helpers.rendering.review_html import review_page
from helpers.rendering.review_svg import seating_chart

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[2]
CASES = sorted(FOLDER.glob("*.yaml"))
OUTPUTS: dict[str, Callable[[ReviewResult], str]] = {
    "txt": lambda review: terminal_text(review) + "\n",
    "md": comment_markdown,
    "svg": seating_chart,
    "html": review_page,
}


def review_of(case: Path) -> ReviewResult:
    """The review of a case: its estate, and the same with its replacements, each of which must occur."""
    declared = yaml.safe_load(case.read_text())
    before = (ROOT / declared["estate"]).read_text()
    after = before
    for old, new in declared["replace"].items():
        assert old in after, old
        after = after.replace(old, new)
    estates = [parse_estate(text, "estate", allow_overcommit=True)[0] for text in (before, after)]
    name = declared["estate"]
    return review_estates((f"main:{name}", estates[0]), (name, estates[1]), allow_overflow=declared["allow_overflow"])
