"""Writes every case's outputs again."""

from __future__ import annotations

from tests.cases.review import CASES, OUTPUTS, review_of

for case in CASES:
    review = review_of(case)
    for ending, output in OUTPUTS.items():
        case.with_suffix(f".{ending}").write_text(output(review))
