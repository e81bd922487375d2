"""The `mig` block of a card: static instances, each of which holds budgets like a card of its own."""

from __future__ import annotations

from pydantic import Field, model_validator

from helpers.domain.estate.base import EstateModel, broken_rule
from helpers.domain.estate.mig import SLICES_A_CARD, Profile, compute_slices
from helpers.domain.memory import Mib, PositiveMib


class MigInstances(EstateModel):
    """Instances of one profile on each card."""

    profile: Profile = Field(description="The profile, as `nvidia-smi mig -lgip` shows it.")
    count: int = Field(ge=1, le=SLICES_A_CARD, description="Instances of it on each card.")
    physical_mib: PositiveMib = Field(description="Framebuffer of one instance in MiB, as nvidia-smi shows it.")


class MigCard(EstateModel):
    """How each card of this line is divided, for good; who divides it is NVIDIA's MIG manager (manager.mig)."""

    reserve_mib: Mib = Field(default=0, description="MiB of each instance that contexts and exporters take.")
    instances: tuple[MigInstances, ...] = Field(min_length=1, strict=False, description="One entry a profile.")

    @model_validator(mode="after")
    def _fits_a_card(self) -> MigCard:
        taken = sum(compute_slices(one.profile) * one.count for one in self.instances)
        if taken > SLICES_A_CARD:
            raise broken_rule(
                f"a card has {SLICES_A_CARD} compute slices; these instances take {taken}",
                "lower the counts",
                at="instances",
            )
        smallest_mib = min(one.physical_mib for one in self.instances)
        if self.reserve_mib >= smallest_mib:
            raise broken_rule(
                f"the reserve is part of each instance, and the smallest has {smallest_mib} MiB",
                f"set reserve_mib below {smallest_mib}",
                at="reserve_mib",
            )
        return self

    def sizes_mib(self) -> tuple[tuple[int, int], ...]:
        """Physical and advertised MiB of each instance of one card."""
        return tuple(
            (one.physical_mib, one.physical_mib - self.reserve_mib) for one in self.instances for _ in range(one.count)
        )
