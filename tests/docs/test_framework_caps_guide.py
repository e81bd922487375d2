"""The guide on framework caps, held against the code: every row of its table is what is set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from helpers.domain.admission.cap import Cap
from helpers.domain.admission.cap_script import EXIT_UNKNOWN
from helpers.domain.admission.caps import framework_cap
from helpers.domain.estate.framework import Framework, FrameworkName
from helpers.domain.names import DEFAULT_LABEL_PREFIX, framework_cap_annotation

GUIDE = (Path(__file__).resolve().parents[2] / "docs/guides/framework-caps.md").read_text()
ROW = re.compile(r"^\| `([a-z.-]+)` \| ([^|]+) \| (?:`([^|`]+)`|nothing) \| (\w+) \| ([a-z ]+) \|$", re.MULTILINE)
ROWS = ROW.findall(GUIDE)
NEEDED: dict[str, dict[str, Any]] = {"sglang": {"overhead_mib": 600}, "cuda-mps": {"mps_pipe_directory": "/run/mps"}}


def caps_of(name: str, versions: str) -> list[Cap]:
    """At both ends of what the row says."""
    numbers = re.findall(r"\d+(?:\.\d+)+", versions)
    ends = {"newer": [*numbers, "99.0"], "older": [*numbers, "0.1"]}
    said = next((found for word, found in ends.items() if word in versions), numbers) or ["1.0"]
    fields = NEEDED.get(name, {})
    return [framework_cap(Framework.model_validate({"name": name, "version": v, **fields}), 5000, 15360) for v in said]


@pytest.mark.parametrize(("name", "versions", "setting", "kind", "held_by"), ROWS)
def test_a_row_is_what_is_set(name: str, versions: str, setting: str, kind: str, held_by: str) -> None:
    for cap in caps_of(name, versions):
        assert (cap.setting, cap.kind, cap.held_by) == (setting, kind, held_by)


def test_every_framework_has_its_rows_and_versions_meet() -> None:
    assert {row[0] for row in ROWS} == set(get_args(FrameworkName))
    assert len(ROWS) == len(re.findall(r"^\| `", GUIDE, re.MULTILINE))
    borders = {"ollama": ["0.24.9", "0.25.0", "0.29.9", "0.30.0"], "pytorch": ["2.9.9", "2.10.0"]}
    for name, versions in borders.items():
        rows = [row for row in ROWS if row[0] == name][::-1]
        found = [caps_of(name, version)[0].setting for version in versions]
        assert list(dict.fromkeys(found)) == [row[2] for row in rows]


def test_names_and_numbers_of_the_text() -> None:
    assert f"`{framework_cap_annotation(DEFAULT_LABEL_PREFIX)}`" in GUIDE
    assert f"exit code {EXIT_UNKNOWN}" in GUIDE
    cap = framework_cap(Framework(name="sglang", overhead_mib=600), 5000, 15360)
    assert "`/bin/sh -c SCRIPT gpumem COMMAND…`" in GUIDE
    assert cap.wrapper == ("/bin/sh", "-c", cap.script, "gpumem")
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in GUIDE
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in cap.script
