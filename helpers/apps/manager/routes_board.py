"""What somebody looks at who watches over jobs: the cards, and money over time."""

from __future__ import annotations

from datetime import datetime, timedelta
from http import HTTPStatus
from itertools import pairwise
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from helpers.apps.manager.answers import refusals, shown
from helpers.apps.manager.gate import Refused
from helpers.apps.manager.routes_jobs import ProjectIds, instant
from helpers.apps.manager.world import ApiWorld
from helpers.domain.errors import Problem
from helpers.domain.jobs.cards import NodeCards
from helpers.domain.jobs.problems import RequestInvalid
from helpers.domain.jobs.views import CardList, CardPartView, NodeView, ProjectSpending, Spending
from helpers.ports.leases import Caller
from helpers.services.manager_money import total

MOST_STEPS_COUNT = 100
DAY_SECONDS = 86_400


def board_routes(world: ApiWorld) -> APIRouter:
    """The operations of the page beside those that everybody uses."""
    routes = APIRouter(prefix="/api/v1/gpu", tags=["board"])
    from_token = Depends(world.caller)

    @routes.get("/cards", responses={200: {"model": CardList}, **refusals(404)})
    def cards(caller: Caller = from_token) -> Response:
        """Nodes and their cards, and which jobs are on them. Other people's jobs have no name."""
        if world.cards is None:
            rule = "this manager has no cluster, so it knows no cards"
            raise Refused(HTTPStatus.NOT_FOUND, Problem("path", "", rule, "ask one that runs in a cluster"))
        seen, own = world.cards.look(), world.gate.projects(caller)
        mine = {row.job_id for row in world.board.last.rows if row.project_id in own}
        unplaced = [job_id for job_id in seen.unplaced if job_id in mine]
        nodes = [_node(found, own, mine) for found in seen.nodes]
        return shown(CardList(looked_at=seen.at, nodes=nodes, unplaced=unplaced))

    @routes.get("/spending", responses={200: {"model": Spending}, **refusals(403)})
    def spending(
        project_id: ProjectIds = None,
        from_at: Annotated[datetime | None, Query(alias="from", description="Absent: 14 steps before `to`.")] = None,
        to_at: Annotated[datetime | None, Query(alias="to", description="Absent: now.")] = None,
        step_seconds: Annotated[int, Query(ge=60, le=31 * DAY_SECONDS)] = DAY_SECONDS,
        caller: Caller = from_token,
    ) -> Response:
        """What projects spent, step by step."""
        projects = world.gate.projects(caller, project_id)
        now_at = world.clock.now_at()
        end_at = min(instant("to", to_at) or now_at, now_at)
        begin_at = instant("from", from_at) or end_at - timedelta(seconds=14 * step_seconds)
        steps_count = -(-(end_at - begin_at) // timedelta(seconds=step_seconds))
        if not 0 < steps_count <= MOST_STEPS_COUNT:
            rule = f"a span in the past of 1 to {MOST_STEPS_COUNT} steps of {step_seconds} s"
            raise RequestInvalid([Problem("from", begin_at.isoformat(), rule, "choose a later `from` or longer steps")])
        return shown(_spending(world, sorted(projects), begin_at, end_at, step_seconds, steps_count))

    return routes


def _node(found: NodeCards, own: frozenset[str], mine: set[str]) -> NodeView:
    cards = [
        [
            CardPartView(
                job_id=part.job_id if part.project_id in own else None,
                project_id=part.project_id if part.project_id in own else None,
                ratio=round(part.ratio, 6),
            )
            for part in parts
        ]
        for parts in found.cards
    ]
    beyond = [job_id for job_id in found.beyond if job_id in mine]
    return NodeView(node=found.node.name, gpu=found.node.gpu, cards=cards, beyond=beyond)


def _spending(
    world: ApiWorld, projects: list[str], from_at: datetime, to_at: datetime, step_seconds: int, steps_count: int
) -> Spending:
    edges = [min(to_at, from_at + timedelta(seconds=step_seconds * step)) for step in range(steps_count + 1)]
    rows = []
    for project_id in projects:
        held = world.store.held([project_id], from_at, to_at)
        costs = [total(world.purse.usage(held, begin_at, end_at)) for begin_at, end_at in pairwise(edges)]
        rows.append(
            ProjectSpending(
                project_id=project_id,
                cost_usd=[cost.known_usd for cost in costs],
                cost_complete=all(cost.complete for cost in costs),
            )
        )
    return Spending(from_at=from_at, to_at=to_at, step_seconds=step_seconds, projects=rows)
