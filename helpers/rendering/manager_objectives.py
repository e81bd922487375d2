"""What was promised about GPU jobs, as recording rules, and an alert for each promise that is not kept.

The promises are the field's own: of a hundred jobs 95 wait less than ten minutes for their turn and less than
five for their GPUs after it, 95 of a hundred that lose a spot place complete, more than 60 % of the work is on
spot where there is any, and all of it costs 40 % less than a cluster that is always as large as the busiest
instant needed.
"""

from __future__ import annotations

from typing import Any

from helpers.domain.cost.comparison import WANTED_SAVING_RATIO
from helpers.rendering import monitoring_queries as q
from helpers.rendering.alert import Alert

PROMISED_WAIT_SECONDS = 600
PROMISED_TIME_TO_GPU_SECONDS = 300
PROMISED_RECOVERY_RATIO = 0.95
WANTED_SPOT_RATIO = 0.6
# The 95th of a few jobs is one job.
LEAST_JOBS_COUNT = 20
# Of few jobs one that is lost is more than the promise allows, and says little.
LEAST_LOST_COUNT = 2
FOR_SECONDS = 900
# A mean over a month moves slowly; only its first hours do not.
MONTH_FOR_SECONDS = 3600
RECORD_INTERVAL = "1m"

WAIT, TIME_TO_GPU = "gpumem:job_wait_seconds:p95_1d", "gpumem:time_to_gpu_seconds:p95_1d"
RECOVERED, SPOT_SHARE = "gpumem:preempted_jobs_recovered:ratio_7d", "gpumem:spot_share:ratio_30d"
HELD, NODES_USD = "gpumem:held_cards", "gpumem:nodes_usd_per_hour"
FIXED_USD, SAVED = "gpumem:fixed_cluster_usd_per_hour:max_30d", "gpumem:fixed_cluster_saved:ratio_30d"
_KIND = "gpu, capacity_type"


def objective_records() -> list[dict[str, str]]:
    """Recording rules, each after those that it reads."""
    price = f"max by ({_KIND}) ({q.CARD_PRICE})"
    on_demand = f'max by (gpu) ({q.CARD_PRICE}{{capacity_type="on-demand"}})'
    records = {
        WAIT: _p95(q.JOB_WAIT),
        TIME_TO_GPU: _p95(q.TIME_TO_GPU),
        RECOVERED: f"{_ends('completed')}\n/ ({_ends('completed|failed')} > 0)",
        HELD: f"max by ({_KIND}) ({q.HELD_CARDS})",
        f"{HELD}:by_gpu": f"sum by (gpu) ({HELD})",
        SPOT_SHARE: (
            f'sum(avg_over_time({HELD}{{capacity_type="spot"}}[30d]))\n/ (sum(avg_over_time({HELD}[30d])) > 0)'
        ),
        NODES_USD: f"sum(max by ({_KIND}) ({q.NODE_CARDS}) * {price})",
        # A card of which a part was held is a whole one in a fixed cluster.
        FIXED_USD: f"sum(ceil(max_over_time({HELD}:by_gpu[30d])) * on (gpu) {on_demand})",
        SAVED: f"1 - avg_over_time({NODES_USD}[30d]) / ({FIXED_USD} > 0)",
    }
    return [{"record": name, "expr": expr} for name, expr in records.items()]


def objective_group() -> dict[str, Any]:
    """A group of their own: a month is looked at for them, and not with each scrape."""
    return {"name": "gpumem-objectives", "interval": RECORD_INTERVAL, "rules": objective_records()}


def objective_alerts(*, offers_spot: bool) -> tuple[Alert, ...]:
    """One for each promise; of spot's share only where there may be spot."""
    return (
        _slow(
            "GPUJobWaitObjectiveMissed",
            WAIT,
            q.JOB_WAIT,
            PROMISED_WAIT_SECONDS,
            "GPU jobs wait for their turn for longer than was promised: 95 of 100 for up to",
            "`gpumem gpu queues` shows which pools are full.",
        ),
        _slow(
            "GPUTimeToGPUObjectiveMissed",
            TIME_TO_GPU,
            q.TIME_TO_GPU,
            PROMISED_TIME_TO_GPU_SECONDS,
            "GPU jobs get their GPUs later after their turn than was promised: 95 of 100 within",
            "Their pods wait for a machine, or a machine for its drivers.",
        ),
        Alert(
            "GPURecoveryObjectiveMissed",
            f"{RECOVERED} < {PROMISED_RECOVERY_RATIO:g}\nand on () {_ends('failed')} > {LEAST_LOST_COUNT - 0.5:g}",
            "warning",
            "Only {{ $value | humanizePercentage }} of the GPU jobs that lost their place completed.",
            f"Of those that ended within seven days; {PROMISED_RECOVERY_RATIO:.0%} were promised.",
            for_seconds=FOR_SECONDS,
        ),
        Alert(
            "GPUSavingObjectiveMissed",
            f"{SAVED} < {float(WANTED_SAVING_RATIO):g}",
            "info",
            "Autoscaled GPU machines cost {{ $value | humanizePercentage }} less than a fixed cluster would.",
            f"Over up to 30 days, against as many cards as were held at the busiest instant, on demand, all the time; "
            f"{float(WANTED_SAVING_RATIO):.0%} less was wanted. `gpumem gpu advice PROJECT` says what could be saved.",
            for_seconds=MONTH_FOR_SECONDS,
        ),
        *((_spot_share(),) if offers_spot else ()),
    )


def _spot_share() -> Alert:
    return Alert(
        "GPUSpotShareObjectiveMissed",
        f"{SPOT_SHARE} < {WANTED_SPOT_RATIO:g}",
        "info",
        "Only {{ $value | humanizePercentage }} of the GPU time that jobs held was on spot.",
        f"Over up to 30 days; {WANTED_SPOT_RATIO:.0%} were wanted. "
        "`gpumem gpu advice PROJECT` says which work could move there.",
        for_seconds=MONTH_FOR_SECONDS,
    )


def _slow(name: str, record: str, histogram: str, promised_seconds: int, summary: str, where: str) -> Alert:
    many = f"sum(increase({histogram}_count[1d])) > {LEAST_JOBS_COUNT - 0.5:g}"
    return Alert(
        name,
        f"{record} > {promised_seconds}\nand on () {many}",
        "warning",
        f"{summary} {{{{ $value | humanizeDuration }}}}.",
        f"Of those of the last day; {promised_seconds} s were promised. {where}",
        for_seconds=FOR_SECONDS,
    )


def _p95(histogram: str) -> str:
    # Only who leads observes; max: a pod that is scraped twice counts once.
    buckets = f"max by (le, instance) (increase({histogram}_bucket[1d]))"
    return f"histogram_quantile(0.95, sum by (le) ({buckets}))"


def _ends(statuses: str) -> str:
    series = f'{q.RECOVERIES}{{status=~"{statuses}"}}[7d]'
    return f"sum(max by (project, status, instance) (increase({series})))"
