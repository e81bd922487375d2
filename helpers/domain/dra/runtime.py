"""Whether a node's container runtime hands CDI devices on.

A containerd that does not know them leaves them out without a word: a container would then start without
its card, or with all cards where its image says so. That must not be found out by the tenant.
"""

from __future__ import annotations

import re

_CONTAINERD = re.compile(r"containerd://v?(\d+)\.(\d+)")
_FIRST = (1, 7)
_BY_DEFAULT = (2, 0)


def without_cdi(runtime: str) -> str:
    """Why this runtime cannot do it; empty where it can, or where nothing is known against it.

    Args:
        runtime: As `status.nodeInfo.containerRuntimeVersion` has it.
    """
    found = _CONTAINERD.match(runtime)
    if found is None or (int(found[1]), int(found[2])) >= _FIRST:
        return ""
    return (
        f"{runtime} leaves CDI devices out without a word, so no container would get its card: 1.7 or newer is needed"
    )


def cdi_to_check(runtime: str) -> str:
    """What a person has to make sure of with this runtime; empty where there is nothing."""
    found = _CONTAINERD.match(runtime)
    if found is None or not _FIRST <= (int(found[1]), int(found[2])) < _BY_DEFAULT:
        return ""
    return f"{runtime} hands CDI devices on only with enable_cdi = true in its CRI plugin's configuration"
