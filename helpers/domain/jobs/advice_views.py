"""What the manager's API answers about money that could be saved."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from helpers.domain.jobs.views import Usd, View


class SpotMixView(View):
    """How much of the same work should run on spot capacity."""

    spot_gpu_hours: float = Field(description="Advised.")
    on_demand_gpu_hours: float
    cost_usd: Usd = Field(description="Of the advised mix.")
    all_on_demand_usd: Usd
    why: list[str]


class ReservedView(View):
    """How many cards would be cheaper reserved."""

    cards_count: int | None = Field(description="null: too little is known.")
    saved_usd: Usd | None = Field(description="Over the hours that were looked at.")
    known_hours_count: int
    why: str


class TypeAdviceView(View):
    """Which card for one class of the work."""

    work: str = Field(description="inference, training or large_training, told from the card that was chosen.")
    need_mib: int | None = Field(description="The most that a job asked for on one card; null: none says.")
    gpu: str | None = Field(description="The first card of the class's order with room; null: nothing can be said.")
    gpus_count: int | None
    usd_per_hour: Usd | None = Field(description="Of those cards, on demand.")
    shared_usd_per_hour: Usd | None = Field(description="Of that memory alone on a shared card; null: most of a card.")
    cheaper_gpu: str | None = Field(description="Another card with room for less; how fast it is, is not said.")
    cheaper_usd_per_hour: Usd | None
    why: list[str]


class CardAdviceView(View):
    """About the work on one kind of card."""

    gpu: str
    gpu_hours: float
    spot_gpu_hours: float = Field(description="As it was.")
    mix: SpotMixView | None = Field(description="null: the card has no price now.")
    reserved: ReservedView | None = Field(description="null: reserved_discount_ratio was not given.")
    types: list[TypeAdviceView]


class FixedClusterView(View):
    """What as many cards as were ever held at once would have cost, on demand, all the time."""

    cards: dict[str, int]
    cost_usd: Usd | None = Field(description="null: nothing was held, or a card has no price.")
    saved_ratio: float | None = Field(description="By paying for held time alone; null: not known.")
    why: str


class ProjectAdvice(View):
    """Advice about what a project held between two instants. Nothing acts on it."""

    project_id: str
    from_at: datetime
    to_at: datetime
    cost_usd: Usd = Field(description="Of what was held and has a price: at least this.")
    cost_complete: bool
    cards: list[CardAdviceView]
    fixed_cluster: FixedClusterView
