"""What the lanes' running jobs need, for the leases' ledger."""

from __future__ import annotations

from collections.abc import Mapping

from helpers.domain.lanes.decision import lane_need_mib
from helpers.domain.lanes.engines import EngineFacts, active_count
from helpers.domain.lanes.facts import Situation
from helpers.domain.lanes.settings import CoordinatorSettings
from helpers.domain.leases.facts import LaneUse


def lane_uses(settings: CoordinatorSettings, now: Situation, engines: Mapping[str, EngineFacts]) -> tuple[LaneUse, ...]:
    """One for each lane whose jobs run now; pausing stops none of them, so their memory counts until they end."""
    found = []
    for rule in settings.lanes:
        if not active_count(rule, now):
            continue
        engine = engines.get(rule.lane.tenant)
        loaded = engine.loaded if engine is not None else None
        loaded_mib = loaded.get(rule.lane.model, 0) if loaded is not None and rule.lane.model is not None else None
        found.append(LaneUse(rule.name, rule.lane.tenant, lane_need_mib(rule, now), loaded_mib))
    return tuple(found)
