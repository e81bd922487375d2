"""Texts of the estate that have a form of their own: resource and image names, versions, schedules, addresses."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from helpers.domain import names
from helpers.domain.estate.base import broken_rule


def _extended_resource(value: str) -> str:
    prefix, _, name = value.partition("/")
    if not name or not names.is_qualified_name(value) or "kubernetes.io" in prefix or prefix.startswith("requests."):
        raise broken_rule(
            "an extended resource is `domain/name`, and the domain is neither kubernetes.io nor begins with requests.",
            "use a domain of your own, such as example.com/gpumem",
        )
    if prefix == "nvidia.com":
        raise broken_rule(
            "nvidia.com/… belongs to the device plugin, which would overwrite the number",
            "use a domain of your own, such as example.com/gpumem",
        )
    return value


def _kubernetes_version(value: str) -> str:
    if re.fullmatch(r"1\.[0-9]{1,3}", value) is None:
        raise broken_rule("the cluster's version as major.minor, quoted", 'write it as "1.36"')
    return value


_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_HOURLY = 'write "17 * * * *" for once an hour'
# Least and greatest number, and the names that stand for numbers, as the CronJob controller reads them.
_CRON_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day of month", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 6, _WEEKDAYS),
)


def _cron(value: str) -> str:
    fields = value.split()
    if len(fields) != len(_CRON_FIELDS):
        raise broken_rule("a cron schedule of five fields: minute hour day month weekday", _HOURLY)
    for text, (name, least, greatest, words) in zip(fields, _CRON_FIELDS, strict=True):
        if not all(_is_cron_part(part, least, greatest, words) for part in text.split(",")):
            raise broken_rule(
                f"the cron field {name} is *, a number from {least} to {greatest}, a range or a step; it is {text}",
                _HOURLY,
            )
    return value


def _is_cron_part(part: str, least: int, greatest: int, words: list[str]) -> bool:
    match = re.fullmatch(r"(?:\*|([0-9]{1,2}|[A-Za-z]{3})(?:-([0-9]{1,2}|[A-Za-z]{3}))?)(?:/([1-9][0-9]?))?", part)
    if match is None:
        return False
    numbers = []
    for bound in match.group(1, 2):
        if bound is not None and not bound.isdigit():
            if bound.upper() not in words:
                return False
            numbers.append(words.index(bound.upper()) + least)
        elif bound is not None:
            numbers.append(int(bound))
    return numbers == sorted(numbers) and all(least <= number <= greatest for number in numbers)


def _image_tag(value: str) -> str:
    if value == "latest" or re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", value) is None:
        raise broken_rule("an image tag names one version, so it is not latest", "name the version that was tested")
    return value


def _image_repository(value: str) -> str:
    if re.fullmatch(r"[a-z0-9.-]+(?::[0-9]+)?(?:/[a-z0-9._-]+)*", value) is None:
        raise broken_rule("an image repository, without tag and digest", "move those to tag and digest")
    return value


def _digest(value: str) -> str:
    if re.fullmatch(r"sha256:[0-9a-f]{64}", value) is None:
        raise broken_rule("a digest is sha256: and 64 hexadecimal digits", "copy it from the registry, or remove it")
    return value


def _version_constraint(value: str) -> str:
    one = r"(?:=|!=|>=?|<=?|~>)? ?[0-9]+(?:\.[0-9]+){0,2}(?:-[0-9A-Za-z.-]+)?"
    if not all(re.fullmatch(one, part.strip()) for part in value.split(",")):
        raise broken_rule("a Terraform version constraint", 'write it like ">= 2.1, < 3"')
    return value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise broken_rule("an address that begins with http:// or https://", "write it like http://ollama.ai:11434")
    return value.rstrip("/")


def version_numbers(value: str) -> tuple[int, ...]:
    """`v1.13.0` as (1, 13, 0), for comparison."""
    return tuple(int(part) for part in value.removeprefix("v").split("."))


ExtendedResource = Annotated[str, AfterValidator(_extended_resource)]
KubernetesVersion = Annotated[str, AfterValidator(_kubernetes_version)]
CronSchedule = Annotated[str, AfterValidator(_cron)]
ImageRepository = Annotated[str, AfterValidator(_image_repository)]
ImageTag = Annotated[str, AfterValidator(_image_tag)]
ImageDigest = Annotated[str, AfterValidator(_digest)]
VersionConstraint = Annotated[str, AfterValidator(_version_constraint)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
