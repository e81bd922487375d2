"""The one error of the stand-ins: what a Terraform diagnostic shows."""

from __future__ import annotations


class Failure(Exception):
    """An operation that failed in a way its author can act on.

    Attributes:
        summary: one line, what failed.
        detail: place, value, rule and repair.
        passing: True where the same call may work a little later (a server that is starting, a CRD just made).
        attribute: the attribute at fault, where there is one.
    """

    def __init__(self, summary: str, detail: str = "", *, passing: bool = False, attribute: str | None = None) -> None:
        super().__init__(f"{summary}: {detail}" if detail else summary)
        self.summary = summary
        self.detail = detail
        self.passing = passing
        self.attribute = attribute
