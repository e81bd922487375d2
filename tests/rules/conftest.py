"""promtool, from PATH or from the distribution's package; else every test here is skipped with the reason."""

from __future__ import annotations

import pytest

from lab.programs import NoProgram, Program, find_program


@pytest.fixture(scope="session")
def promtool() -> Program:
    found = find_program("promtool", print)
    if isinstance(found, NoProgram):
        pytest.skip(f"no promtool: {found.reason}")
    return found
