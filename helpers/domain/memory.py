"""GPU memory in MiB, and the one place where it becomes bytes.

Everything in code, configuration and logs is integer MiB (`_mib`); Prometheus wants base units,
so metrics alone are `_bytes`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

BYTES_PER_MIB = 1024 * 1024

# Far above any card that exists (an estate that says more has a unit wrong: bytes or KiB).
MAX_MIB = 16 * 1024 * 1024

Mib = Annotated[int, Field(ge=0, le=MAX_MIB)]
PositiveMib = Annotated[int, Field(ge=1, le=MAX_MIB)]


def mib_to_bytes(mib: int) -> int:
    """Bytes of `mib` MiB."""
    return mib * BYTES_PER_MIB


def bytes_to_mib_rounded_up(size_bytes: int) -> int:
    """MiB that hold `size_bytes`; rounds up, so that measured use is never understated."""
    return -(-size_bytes // BYTES_PER_MIB)
