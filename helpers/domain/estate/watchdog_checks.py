"""What the watchdog's policy must agree on with nodes, tenants and priorities."""

from __future__ import annotations

from collections.abc import Iterator

from helpers.domain.errors import Problem
from helpers.domain.estate.model import Estate


def watchdog_problems(estate: Estate) -> Iterator[Problem]:
    """Everything about the watchdog that one block alone cannot see."""
    yield from _floor(estate)
    yield from _commands(estate)


def _floor(estate: Estate) -> Iterator[Problem]:
    smallest = min((gpu.physical_mib, node.name) for node in estate.nodes for gpu in node.gpus)
    if estate.watchdog.floor_mib >= smallest[0]:
        yield Problem(
            "watchdog.floor_mib",
            str(estate.watchdog.floor_mib),
            f"a card is under pressure below the floor, so the floor is less than the smallest card "
            f"({smallest[0]} MiB on {smallest[1]})",
            "set it to some hundred MiB up to about a tenth of the card",
        )


def _commands(estate: Estate) -> Iterator[Problem]:
    for index, tenant in enumerate(estate.tenants):
        hook = tenant.watchdog.release_hook
        if hook is not None and hook.command and not estate.watchdog.allow_exec:
            yield Problem(
                f"tenants[{index}].watchdog.release_hook.command",
                " ".join(hook.command),
                "a command runs inside the tenant's container, which watchdog.allow_exec: true must allow",
                "set watchdog.allow_exec: true, or ask by a request: port with method, path and body",
            )
