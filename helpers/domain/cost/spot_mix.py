"""How much of the work should run on spot capacity."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from helpers.domain.cost.money import usd

# The reference's mix: 70 % spot, 30 % on demand for what is critical.
TARGET_SPOT_RATIO = Fraction(7, 10)


@dataclass(frozen=True, slots=True)
class SpotMix:
    """Card-hours on either kind, what they cost, and what the same would have cost on demand."""

    spot_card_hours: Fraction
    on_demand_card_hours: Fraction
    cost_usd: Decimal
    all_on_demand_usd: Decimal
    why: tuple[str, ...]

    @property
    def spot_ratio(self) -> Fraction | None:
        """Spot's part of the hours; None where there are none."""
        hours = self.spot_card_hours + self.on_demand_card_hours
        return self.spot_card_hours / hours if hours else None


def advise_mix(
    preemptible_card_hours: Fraction,
    critical_card_hours: Fraction,
    on_demand: Decimal,
    spot: Decimal,
    redone_ratio: Fraction | None,
    target_ratio: Fraction = TARGET_SPOT_RATIO,
) -> SpotMix:
    """The mix for work of one kind of card.

    Args:
        preemptible_card_hours: work that may be preempted.
        critical_card_hours: work that may not.
        on_demand: USD for one card and hour.
        spot: the same on spot capacity.
        redone_ratio: hours run again after preemptions, for each hour on spot; None: not measured.
        target_ratio: the most that may be on spot; the rest keeps the work going when spot is gone.
    """
    hours = preemptible_card_hours + critical_card_hours
    real_spot = Fraction(spot) * (1 + (redone_ratio or 0))
    why = [_about_redone(redone_ratio, real_spot)]
    if real_spot >= on_demand:
        spot_hours = Fraction(0)
        why.append(f"no spot: it costs {usd(real_spot)} an hour, on demand {usd(Fraction(on_demand))}")
    else:
        spot_hours = min(preemptible_card_hours, target_ratio * hours)
        may, most = _percent(preemptible_card_hours, hours), _percent(target_ratio, Fraction(1))
        bound = "the work that may be preempted" if preemptible_card_hours < target_ratio * hours else "the target"
        why.append(f"{may} of the hours may be preempted, the target is at most {most}: {bound} decides")
    rest = hours - spot_hours
    cost = spot_hours * real_spot + rest * Fraction(on_demand)
    return SpotMix(spot_hours, rest, usd(cost), usd(hours * Fraction(on_demand)), tuple(why))


def _about_redone(redone_ratio: Fraction | None, real_spot: Fraction) -> str:
    if redone_ratio is None:
        return "work redone after preemptions is not measured, so its cost is not in here"
    return (
        f"with {_percent(redone_ratio, Fraction(1))} of the work redone an hour's work on spot costs {usd(real_spot)}"
    )


def _percent(part: Fraction, whole: Fraction) -> str:
    return f"{float(100 * part / whole):.1f} %" if whole else "none"
