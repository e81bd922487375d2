"""Free TCP ports on this machine."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Container

from lab.errors import LabError

# Below the kernel's ephemeral range (32768 and up), so that no outgoing connection takes a chosen
# port between the choice and the program that binds it; above the services that people run.
LOWEST, HIGHEST = 20000, 32700
ATTEMPTS = 2000
# Test processes side by side choose from parts of their own: a port that was chosen is bound only later.
_PARTS = 8


def free_ports(count: int, avoid: Container[int] = ()) -> list[int]:
    """`count` different ports that nobody listens on, on any address, and that are not in `avoid`.

    Raises:
        LabError: No such ports were found.
    """
    chosen: list[int] = []
    randomness = random.SystemRandom()  # two labs that start at once must not walk the same row
    part = _part()
    for _ in range(ATTEMPTS):
        if len(chosen) == count:
            return chosen
        port = randomness.choice(part)
        if port not in chosen and port not in avoid and _is_free(port):
            chosen.append(port)
    raise LabError(f"found only {len(chosen)} of {count} free ports between {LOWEST} and {HIGHEST}")


def _part() -> range:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    return range(LOWEST + int(worker) % _PARTS, HIGHEST + 1, _PARTS) if worker else range(LOWEST, HIGHEST + 1)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True
