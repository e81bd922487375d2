"""A cluster where all is well: doctor finds nothing, with its own rights and no others."""

from __future__ import annotations

import pytest

from tests.fixtures.doctor_lab import Ward

pytestmark = pytest.mark.lab


def test_nothing_is_found_where_all_is_well(ward: Ward) -> None:
    assert ward.findings() == ()
