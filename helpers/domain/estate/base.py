"""What every block of the estate shares: strict, frozen, no unknown keys; and the field types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from helpers.domain import names


class EstateModel(BaseModel):
    """A block of the estate: exact types only, unknown keys are errors, never changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


def broken_rule(rule: str, repair: str, *, at: str = "") -> PydanticCustomError:
    """A failed rule in the form that the estate reader turns into place, value, rule, repair.

    `at`: where a rule of a whole block fails, the key below it to point at (`rollingUpdate.maxSurge`).
    """
    # Braces would be read as placeholders of the message template.
    return PydanticCustomError("estate_rule", "{rule}", {"rule": rule, "repair": repair, "at": at})


def _checked(test: Callable[[str], bool], rule: str, repair: str) -> AfterValidator:
    def check(value: str) -> str:
        if not test(value):
            raise broken_rule(rule, repair)
        return value

    return AfterValidator(check)


DnsLabel = Annotated[
    str,
    _checked(
        names.is_dns_label,
        "a DNS label: lower-case letters, digits and dashes, at most 63, no dash at either end",
        "write it in lower case with dashes",
    ),
]
DnsSubdomain = Annotated[
    str,
    _checked(
        names.is_dns_subdomain,
        "a Kubernetes object name: lower-case letters, digits, dashes and dots",
        "use the object's own name, as kubectl shows it",
    ),
]
LabelKey = Annotated[
    str,
    _checked(
        names.is_qualified_name,
        "a label key: `name` or `prefix/name`",
        "use the key as `kubectl get nodes --show-labels` shows it",
    ),
]

# A block in Kubernetes's own spelling, passed on as it is; checked by the API server, not by us.
UpstreamBlock = dict[str, Any]
