"""What the coordinator's lanes and the rest of the estate must agree on."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from helpers.domain.errors import Problem
from helpers.domain.estate.coordinator import Coordinator, Lane
from helpers.domain.estate.model import Estate
from helpers.domain.estate.tenants import Tenant


def lane_problems(estate: Estate) -> Iterator[Problem]:
    """All problems of the `coordinator` block; none where there is no such block."""
    block = estate.coordinator
    if block is None:
        return
    yield from _each_queue_once(block)
    tenants = {tenant.name: tenant for tenant in estate.tenants}
    names: set[str] = set()
    for index, lane in enumerate(block.lanes):
        path = f"coordinator.lanes[{index}]"
        if lane.name in names:
            rule = "a lane's name is unique"
            yield Problem(f"{path}.name", lane.name, rule, "give one of the two another name, or join their queues")
        names.add(lane.name)
        if lane.pause == "immich" and block.immich is None:
            rule = "pause: immich needs Immich's address"
            yield Problem(f"{path}.pause", lane.pause, rule, "add coordinator.immich.url, or use pause: bullmq")
        yield from known_tenant(f"{path}.tenant", lane.tenant, tenants)
        if lane.tenant in tenants:
            yield from _fits_its_tenant(path, lane, tenants[lane.tenant])
            yield from _can_be_asked(path, lane, tenants[lane.tenant])
    for index, engine in enumerate(block.engines):
        path = f"coordinator.engines[{index}].tenant"
        yield from known_tenant(path, engine.tenant, tenants)
        if engine.tenant in [other.tenant for other in block.engines[:index]]:
            yield Problem(path, engine.tenant, "a tenant has one engine", "remove one of the two")


def _each_queue_once(block: Coordinator) -> Iterator[Problem]:
    owner: dict[str, str] = {}
    for index, lane in enumerate(block.lanes):
        for place, queue in enumerate(lane.queues):
            path = f"coordinator.lanes[{index}].queues[{place}]"
            if queue in owner:
                rule = f"a queue is in one lane; {owner[queue]} has it already"
                yield Problem(path, queue, rule, "remove it from one of the two")
            elif queue in block.ignored:
                rule = "an ignored queue is never touched, so it is in no lane"
                yield Problem(path, queue, rule, "remove it from ignored, or from the lane")
            owner.setdefault(queue, lane.name)


def known_tenant(path: str, name: str, tenants: dict[str, Tenant]) -> Iterator[Problem]:
    """That there is such a tenant."""
    if name not in tenants:
        close = difflib.get_close_matches(name, sorted(tenants), n=1)
        repair = f'did you mean "{close[0]}"?' if close else f"known: {', '.join(sorted(tenants)) or 'none'}"
        yield Problem(path, name, "tenant is the name of an entry under tenants", repair)


def _fits_its_tenant(path: str, lane: Lane, tenant: Tenant) -> Iterator[Problem]:
    models = {model.name: model.vram_mib for model in tenant.models}
    if lane.model is not None and lane.model not in models:
        known = ", ".join(sorted(models)) or "none"
        rule = f"a lane's model is one of its tenant's models; {tenant.name} declares: {known}"
        yield Problem(f"{path}.model", lane.model, rule, f"declare it under models of {tenant.name}")
        return
    if not lane.queues:
        return
    need_mib = lane.vram_mib if lane.vram_mib is not None else models[str(lane.model)]
    if need_mib > tenant.budget_mib:
        yield Problem(
            f"{path}.vram_mib" if lane.vram_mib is not None else f"{path}.model",
            str(need_mib),
            f"a lane's jobs run in its tenant's memory, and {tenant.name} has budget_mib: {tenant.budget_mib}",
            f"set vram_mib: {tenant.budget_mib} or less, or raise the tenant's budget",
        )


def _can_be_asked(path: str, lane: Lane, tenant: Tenant) -> Iterator[Problem]:
    if lane.on_realtime != "yield":
        return
    hook = tenant.watchdog.release_hook
    if hook is None:
        rule = f"a lane that yields is asked by its tenant's release hook, and {tenant.name} has none"
        repair = f"add watchdog.release_hook to {tenant.name}, or use on_realtime: wait"
        yield Problem(f"{path}.on_realtime", lane.on_realtime, rule, repair)
    elif hook.command:
        # Applications reach the coordinator over the network; the right to exec is not for such a process.
        rule = f"the coordinator asks by a request and never runs commands, and the hook of {tenant.name} is a command"
        repair = f"give the release_hook of {tenant.name} port, method, path and body, or use on_realtime: wait"
        yield Problem(f"{path}.on_realtime", lane.on_realtime, rule, repair)
