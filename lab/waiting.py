"""Waiting for what the lab does not say when: a generous bound against hanging, not a figure."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from lab.errors import LabError

BOUND_SECONDS = 90.0
POLL_SECONDS = 0.1

T = TypeVar("T")


def wait_for(look: Callable[[], T], *, instead: Callable[[], object] | None = None) -> T:
    """What `look` gives as soon as it is true; LabError, with what there is `instead`, where that does not come."""
    end = time.monotonic() + BOUND_SECONDS
    while not (seen := look()):
        if time.monotonic() > end:
            found = "" if instead is None else f": {instead()}"
            raise LabError(f"still {seen!r} after {BOUND_SECONDS:.0f} s{found}")
        time.sleep(POLL_SECONDS)
    return seen
