"""What a project could save, from what it held."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from helpers.apps.manager.answers import refusals, shown
from helpers.apps.manager.routes_jobs import PLAIN, past_span
from helpers.apps.manager.world import ApiWorld
from helpers.domain.cost.advice import Advice, CardAdvice, TypeAdvice
from helpers.domain.cost.reserved import ReservedAdvice
from helpers.domain.cost.spot_mix import SpotMix
from helpers.domain.jobs.advice_views import (
    CardAdviceView,
    FixedClusterView,
    ProjectAdvice,
    ReservedView,
    SpotMixView,
    TypeAdviceView,
)
from helpers.ports.leases import Caller
from helpers.services.manager_advice import project_advice

LOOKED_AT_DAYS = 28
# Whoever wants the price of a year asks for its parts.
LONGEST_SPAN_DAYS = 92


def advice_routes(world: ApiWorld) -> APIRouter:
    """The one operation."""
    routes = APIRouter(prefix="/api/v1/gpu", tags=["projects"])
    from_token = Depends(world.caller)

    @routes.get("/projects/{project_id}/advice", responses={200: {"model": ProjectAdvice}, **refusals(403)})
    def advice(
        project_id: Annotated[str, Path(max_length=63, pattern=PLAIN)],
        from_at: Annotated[
            datetime | None, Query(alias="from", description=f"Absent: {LOOKED_AT_DAYS} days before `to`.")
        ] = None,
        to_at: Annotated[datetime | None, Query(alias="to", description="Absent: now.")] = None,
        reserved_discount_ratio: Annotated[
            float | None,
            Query(gt=0, lt=1, description="By which part an offer of reserved capacity is cheaper."),
        ] = None,
        caller: Caller = from_token,
    ) -> Response:
        """What a project could save: spot, card types, reserved capacity; and what a fixed cluster would have cost."""
        world.gate.let(caller, "list", project_id)
        begin_at, end_at = past_span(
            world, from_at, to_at, LONGEST_SPAN_DAYS, lambda end: end - timedelta(days=LOOKED_AT_DAYS)
        )
        discount = None if reserved_discount_ratio is None else Decimal(str(reserved_discount_ratio))
        found = project_advice(world.store, world.purse, project_id, begin_at, end_at, discount)
        return shown(_view(found, project_id, begin_at, end_at))

    return routes


def _view(found: Advice, project_id: str, from_at: datetime, to_at: datetime) -> ProjectAdvice:
    fixed, nothing = found.fixed, "nothing was held" if not found.cards else "a card of it has no price"
    return ProjectAdvice(
        project_id=project_id,
        from_at=from_at,
        to_at=to_at,
        cost_usd=found.held.known_usd,
        cost_complete=found.held.complete,
        cards=[_card(one) for one in found.cards],
        fixed_cluster=FixedClusterView(
            cards=found.fixed_cards,
            cost_usd=fixed.fixed_usd if fixed is not None else None,
            saved_ratio=None if fixed is None or fixed.saved_ratio is None else round(float(fixed.saved_ratio), 6),
            why=f"{fixed.why}; idle time of nodes is not in what was paid" if fixed is not None else nothing,
        ),
    )


def _card(one: CardAdvice) -> CardAdviceView:
    return CardAdviceView(
        gpu=one.gpu,
        gpu_hours=round(float(one.card_hours), 6),
        spot_gpu_hours=round(float(one.spot_card_hours), 6),
        mix=None if one.mix is None else _mix(one.mix),
        reserved=None if one.reserved is None else _reserved(one.reserved),
        types=[_type(each) for each in one.types],
    )


def _mix(mix: SpotMix) -> SpotMixView:
    return SpotMixView(
        spot_gpu_hours=round(float(mix.spot_card_hours), 6),
        on_demand_gpu_hours=round(float(mix.on_demand_card_hours), 6),
        cost_usd=mix.cost_usd,
        all_on_demand_usd=mix.all_on_demand_usd,
        why=list(mix.why),
    )


def _reserved(found: ReservedAdvice) -> ReservedView:
    return ReservedView(
        cards_count=found.base_count,
        saved_usd=found.saved_usd,
        known_hours_count=found.known_hours_count,
        why=found.why,
    )


def _type(found: TypeAdvice) -> TypeAdviceView:
    advice = found.advice
    cheaper = advice.cheaper if advice is not None else None
    silent = "no job says how much memory it needs" if found.need_mib is None else "the table has no card of the class"
    return TypeAdviceView(
        work=found.work.value,
        need_mib=found.need_mib,
        gpu=advice.row.gpu if advice is not None else None,
        gpus_count=advice.gpus_count if advice is not None else None,
        usd_per_hour=advice.usd_per_hour if advice is not None else None,
        shared_usd_per_hour=advice.shared_usd_per_hour if advice is not None else None,
        cheaper_gpu=cheaper.gpu if cheaper is not None else None,
        cheaper_usd_per_hour=cheaper.usd_per_gpu_hour if cheaper is not None else None,
        why=list(advice.why) if advice is not None else [silent],
    )
