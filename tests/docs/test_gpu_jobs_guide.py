"""What the guide of GPU jobs states, held against the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

from helpers.domain.jobs.limits import WARN_RATIO
from helpers.domain.jobs.settings import ManagerSettings
from helpers.domain.jobs.spec import Checkpoint, read_spec
from helpers.domain.jobs.states import graph
from tests.fakes.jobs import EXAMPLE

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "gpu-jobs.md").read_text(encoding="utf-8")


def test_the_graph_is_the_table() -> None:
    assert f"```mermaid\n{graph()}\n```" in GUIDE


def test_the_example_can_be_submitted_and_is_the_references() -> None:
    (text,) = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    document = json.loads(text)
    read_spec(document)
    shared = {name: value for name, value in document.items() if name != "checkpoint"}
    assert {**shared, "container": {**shared["container"], "env": EXAMPLE["container"]["env"]}} == EXAMPLE


def test_its_numbers_are_the_codes() -> None:
    assert f"{WARN_RATIO:.0%}".replace("%", " %") in GUIDE
    assert f"every {Checkpoint(signal='SIGUSR1').interval_seconds // 60} minutes" in GUIDE
    for name in re.findall(r"`((?:aging|idle|spot)_[a-z]+)`", GUIDE):
        assert name in ManagerSettings.model_fields
