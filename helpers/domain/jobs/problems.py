"""A request that cannot be taken: every problem at once, each with place, value, rule and repair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from helpers.domain.errors import InputError, Problem
from helpers.domain.estate.suggestion import did_you_mean

_LONGEST_SHOWN = 100
# What pydantic puts at the end of a place to say that a mapping's key is meant, not its value.
_KEY = "[key]"


class RequestInvalid(InputError):
    """A request with at least one problem; carries all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problem.text() for problem in self.problems))


def problems_of(errors: Iterable[Mapping[str, Any]], *, known: Mapping[str, Sequence[str]]) -> tuple[Problem, ...]:
    """Pydantic's `errors` as problems.

    Args:
        errors: As `ValidationError.errors()` gives them.
        known: `{place of a block: its keys}`, for "did you mean"; the whole document is `""`.
    """
    return tuple(_problem(error, known) for error in errors)


def _problem(error: Mapping[str, Any], known: Mapping[str, Sequence[str]]) -> Problem:
    kind, context = str(error["type"]), error.get("ctx") or {}
    location = [part for part in error["loc"] if part != _KEY]
    place = dotted(location)
    value = "" if kind == "missing" else shown(error.get("input"))
    if kind == "estate_rule":
        given = error.get("input")
        if context["at"] and isinstance(given, Mapping) and context["at"] in given:
            value = shown(given[context["at"]])  # the rule is about one field of the block
        place = ".".join(part for part in (place, str(context["at"])) if part)
        return Problem(place or "body", value, str(context["rule"]), str(context["repair"]))
    if kind == "missing":
        return Problem(place or "body", "", "this field is required", f"add {place or 'a JSON body'}")
    if kind == "extra_forbidden":
        return Problem(
            place, value, "unknown field", did_you_mean(str(location[-1]), known.get(dotted(location[:-1]), ()))
        )
    rule = str(error["msg"])[:1].lower() + str(error["msg"])[1:]
    return Problem(place or "body", value, rule, f"send {place or 'a body'} as the API's reference describes it")


def dotted(location: Sequence[object]) -> str:
    """`gpu_requirements.gpu_count`, `container.command[0]`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def shown(value: object) -> str:
    """A value for people, shortened. A block is not repeated: it may hold what is nobody's business."""
    if isinstance(value, Mapping | list | tuple):
        return f"({len(value)} entries)"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    # JSON may carry halves of characters that no text can; they would break the answer.
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
