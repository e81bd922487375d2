"""What the watchdog's policy must agree on with nodes, tenants and priorities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from helpers.domain.errors import Problem
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.domain.ledger import Ledger, NodeLedger, TenantLine


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


def recycled_places(estate: Estate, ledger: Ledger) -> Iterator[Problem]:
    """An elastic tenant that waits is not ahead of an always-on one whose pod is recycled.

    A recycled pod's successor queues with whoever waits, and the scheduler takes the higher priority
    first, then the one that waits longer. Counted by the node's number, as the scheduler does; a
    workload without a class counts as priority 0, Kubernetes's own default.
    """
    for node in ledger.nodes:
        for line in node.elastic:
            held = _held(node.slack_mib, _other_pods(node, line))
            places = [(one.tenant, _free_mib(one.tenant, line.tenant, node.slack_mib, held)) for one in node.always_on]
            losers = [(tenant, free_mib) for tenant, free_mib in places if free_mib is not None]
            losers = [one for one in losers if _goes_first(estate, line.tenant, one[0])]
            if losers:
                yield _taken(estate, line.tenant, losers)


def _goes_first(estate: Estate, waiting: Tenant, recycled: Tenant) -> bool:
    return not recycled.watchdog.protected and estate.priority_value(waiting) >= estate.priority_value(recycled)


def _taken(estate: Estate, waiting: Tenant, losers: list[tuple[Tenant, int]]) -> Problem:
    recycled, free_mib = losers[0]
    others = ", ".join(tenant.name for tenant, _ in losers[1:])
    left_mib = free_mib + recycled.budget_mib - waiting.budget_mib
    lowest = min(estate.priority_value(tenant) for tenant, _ in losers)
    return Problem(
        f"tenants[{estate.tenants.index(waiting)}].priority",
        waiting.priority or "",
        f"elastic {waiting.name} may wait for {waiting.budget_mib} MiB where {free_mib} are free; when {recycled.name} "
        f"({recycled.budget_mib} MiB, always-on) is recycled, {waiting.name} with priority "
        f"{estate.priority_value(waiting)} against {estate.priority_value(recycled)} may take its place, which leaves "
        f"{left_mib} MiB for {recycled.name}" + (f"; the same holds for {others}" if others else ""),
        f"give {waiting.name} a priority below {lowest}, or the always-on tenants a higher one "
        "(a foreign workload's is its owner's to give)",
        severity="warning",
    )


def _free_mib(recycled: Tenant, waiting: Tenant, slack_mib: int, held: int) -> int | None:
    """The most free MiB at which `waiting` does not fit now and would in `recycled`'s place; None: it never is so."""
    least_held = max(0, slack_mib - waiting.budget_mib + 1)
    most_held = min(slack_mib, slack_mib - waiting.budget_mib + recycled.budget_mib)
    if most_held < least_held:
        return None
    window = (held >> least_held) & ((1 << (most_held - least_held + 1)) - 1)
    if window == 0:
        return None
    return slack_mib - least_held - ((window & -window).bit_length() - 1)


def _other_pods(node: NodeLedger, line: TenantLine) -> Iterator[tuple[int, int]]:
    """`(budget in MiB, how many)` of the elastic pods that may run while one pod of `line` waits."""
    for other in node.elastic:
        yield other.tenant.budget_mib, other.pods_count - int(other is line)


def _held(slack_mib: int, pods: Iterable[tuple[int, int]]) -> int:
    """A number whose bit n says whether some of `pods` hold exactly n MiB, n up to the slack."""
    held, within = 1, (1 << (max(0, slack_mib) + 1)) - 1
    for budget_mib, count in pods:
        for _ in range(min(count, max(0, slack_mib) // budget_mib)):
            held |= (held << budget_mib) & within
    return held
