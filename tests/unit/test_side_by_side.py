"""Files that share a lab are known by their text, in the process that gives them out: it knows no fixture."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.fixtures.side_by_side import LABS, SharedLabScheduling, lab_of
from tests.synth.estates import PROJECT


def test_every_test_of_a_shared_lab_is_in_a_file_that_is_known_by_it(request: pytest.FixtureRequest) -> None:
    """Of those that run beside this one."""
    labs = {
        item.path: LABS.keys() & set(item.fixturenames)
        for item in request.session.items
        if hasattr(item, "fixturenames")
    }
    assert {path: lab_of(path) for path, found in labs.items() if found and {lab_of(path)} != found} == {}


@pytest.mark.parametrize(
    ("file", "scope"),
    [
        ("tests/lab/test_recovery_runbooks.py", "ward"),
        ("tests/engines/test_rights.py", "jobs_lab"),
        ("tests/lab/test_karpenter.py", "platform_lab"),
        ("tests/lab/test_dra_agent.py", "tests/lab/test_dra_agent.py"),
    ],
)
def test_files_of_one_lab_are_one_piece_of_work(file: str, scope: str) -> None:
    scheduling: Any = SharedLabScheduling.__new__(SharedLabScheduling)
    scheduling.config = SimpleNamespace(rootpath=PROJECT)
    assert scheduling._split_scope(f"{file}::test_one") == scope
