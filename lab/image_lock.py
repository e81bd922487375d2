"""Which locked packages the helpers' image needs: images/helpers.lock, a part of requirements.lock.

python -m lab.image_lock          write the file
python -m lab.image_lock --check  exit 1 where it is stale

The project's lock also has what synthesises the stacks and what tests need; neither runs in a cluster.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

PROJECT = Path(__file__).resolve().parents[1]
IMAGE_LOCK = PROJECT / "images" / "helpers.lock"
# CDKTF synthesises, where people and CI plan; it never runs in a cluster.
NOT_IN_THE_IMAGE = frozenset({"cdktf", "constructs"})


def image_lock() -> str:
    """The entries of requirements.lock for the project's dependencies and for all that they need."""
    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    entries = {canonicalize_name(entry.partition("==")[0].partition("[")[0]): entry for entry in _entries(lock)}
    return "".join(f"{entries[name].rstrip()}\n" for name in sorted(needed()))


def needed() -> set[NormalizedName]:
    """Names of the project's dependencies and, by what is installed here, of all that they need."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    waiting = [one for one in waiting if canonicalize_name(one.name) not in NOT_IN_THE_IMAGE]
    seen: set[tuple[NormalizedName, str]] = set()
    while waiting:
        one = waiting.pop()
        for extra in ("", *one.extras):
            key = (canonicalize_name(one.name), extra)
            if key not in seen:
                seen.add(key)
                waiting += _asked(one.name, extra)
    return {name for name, _ in seen}


def _asked(name: str, extra: str) -> Iterator[Requirement]:
    for text in metadata.requires(name) or ():
        one = Requirement(text)
        if one.marker is None or one.marker.evaluate({"extra": extra}):
            yield one


def _entries(lock: str) -> list[str]:
    """An entry is a line that begins with a name, and the indented hashes below it."""
    return [entry for entry in re.split(r"\n(?=\S)", lock) if entry.strip()]


def main(arguments: list[str]) -> int:
    """Write the file, or with `--check` compare it; the exit code."""
    text = image_lock()
    if "--check" in arguments:
        stale = not IMAGE_LOCK.exists() or IMAGE_LOCK.read_text(encoding="utf-8") != text
        if stale:
            print("images/helpers.lock is stale: run `python -m lab.image_lock` and commit what it writes")
        return int(stale)
    IMAGE_LOCK.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
