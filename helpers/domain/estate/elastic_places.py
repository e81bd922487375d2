"""Whether an elastic tenant may be placed where an always-on one belongs, and leave it Pending.

The scheduler takes the higher priority first, then the one that waits longer, and counts by the node's
number. A workload without a class counts as priority 0, Kubernetes's own default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from helpers.domain.errors import Problem
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant
from helpers.domain.ledger import Ledger, NodeLedger, TenantLine


def elastic_places(estate: Estate, ledger: Ledger) -> Iterator[Problem]:
    """Of each node what may happen when one pod is recycled; where nothing may, what may when all start at once."""
    for node in ledger.nodes:
        recycled = list(_recycled_places(estate, node))
        yield from recycled or _first_places(estate, node)


def _recycled_places(estate: Estate, node: NodeLedger) -> Iterator[Problem]:
    """A recycled pod's successor queues with whoever waits."""
    for line in node.elastic:
        held = _held(node.slack_mib, _other_pods(node, line))
        places = [(one.tenant, _free_mib(one.tenant, line.tenant, node.slack_mib, held)) for one in node.always_on]
        losers = [(tenant, free_mib) for tenant, free_mib in places if free_mib is not None]
        losers = [one for one in losers if not one[0].watchdog.protected and _goes_first(estate, line.tenant, one[0])]
        if losers:
            yield _taken(estate, line.tenant, losers)


def _first_places(estate: Estate, node: NodeLedger) -> Iterator[Problem]:
    """On the first apply, or on a machine that comes back empty, everybody queues, in no order but that of priority."""
    first = [line for line in node.elastic if any(_goes_first(estate, line.tenant, o.tenant) for o in node.always_on)]
    late = [one for one in node.always_on if any(_goes_first(estate, line.tenant, one.tenant) for line in first)]
    if not late or node.slack_mib < 0:
        return
    most_mib = node.slack_mib + sum(one.budget_sum_mib for one in late)
    held = _held(most_mib, ((line.tenant.budget_mib, line.pods_count) for line in first)) >> (node.slack_mib + 1)
    if held == 0:
        return
    names = ", ".join(line.tenant.name for line in first)
    lowest = min(estate.priority_value(one.tenant) for one in late)
    yield Problem(
        f"tenants[{estate.tenants.index(first[0].tenant)}].priority",
        first[0].tenant.priority or "",
        f"where all start at once, elastic {names} may be placed first and hold "
        f"{node.slack_mib + (held & -held).bit_length()} MiB or more, of {node.slack_mib} that the always-on tenants "
        f"leave; one of {', '.join(one.tenant.name for one in late)} then stays Pending",
        f"give {names} a priority below {lowest}, or the always-on tenants a higher one "
        "(a foreign workload's is its owner's to give; say here what it is)",
        severity="warning",
    )


def _goes_first(estate: Estate, waiting: Tenant, always_on: Tenant) -> bool:
    return estate.priority_value(waiting) >= estate.priority_value(always_on)


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
