"""Cases of the alerts about GPU jobs, on the estate that has a manager."""

from __future__ import annotations

from helpers.domain.estate.budget_alerts import AlertWebhook, BudgetAlerts
from helpers.domain.watchdog.settings import watchdog_settings
from tests.rules.card_cases import steady
from tests.rules.promtool import Case, Firing, Rules
from tests.synth.estates import PROJECT, shipped

TURN = "gpumem_manager_last_turn_timestamp_seconds"


def manager_rules() -> Rules:
    estate = shipped(PROJECT / "estates/gpu-pools.yaml")
    assert estate.manager is not None
    told = estate.manager.model_copy(update={"budget_alerts": BudgetAlerts(webhook=AlertWebhook())})
    return Rules(estate.model_copy(update={"manager": told}), watchdog_settings(estate))


def waited(project: str = "vision", pod: str = "m-0") -> str:
    return f'gpumem_manager_longest_wait_seconds{{project="{project}", instance="{pod}"}}'


def unread(pod: str = "m-0") -> str:
    return f'gpumem_manager_project_unread{{project="vision", instance="{pod}"}}'


def reached(status: str, pod: str = "m-0", project: str = "vision") -> str:
    return f'gpumem_manager_transitions_total{{project="{project}", status="{status}", instance="{pod}"}}'


def spent(pod: str = "m-0") -> str:
    return f'gpumem_manager_spent_usd{{project="vision", instance="{pod}"}}'


def budget(pod: str = "m-0") -> str:
    return f'gpumem_manager_budget_usd{{project="vision", instance="{pod}"}}'


def unmanaged(cause: str) -> Firing:
    return Firing(
        {"cause": cause},
        "Nobody looks after the GPU jobs.",
        f"Cause {cause}: no turn over the jobs was finished within 120 s. "
        "Jobs that run go on; none starts, none is stopped at its limit, and what was submitted waits.",
    )


def not_followed() -> Firing:
    return Firing(
        {"project": "vision"},
        "The GPU jobs of project vision are not followed: its namespace cannot be read.",
        "Its jobs that run go on and none starts; what they do in the meantime is learned afterwards. "
        "The manager's log says `project_not_read` with the API server's words.",
    )


def waits(text: str) -> Firing:
    return Firing(
        {"project": "vision"},
        f"A job of project vision has waited for {text}.",
        "It waits for longer than any job should; `gpumem gpu get JOB` and `gpumem gpu queues` say for what.",
    )


def fails(text: str) -> Firing:
    return Firing(
        {"project": "vision"},
        f"{text} of the jobs of project vision fail.",
        "More than 2% of those that ended within a day, and at least 3. "
        "Jobs that were stopped at a limit are among them.",
    )


def nearly(text: str) -> Firing:
    return Firing(
        {"project": "vision"},
        f"Project vision has spent {text} of its GPU budget.",
        "Of this month's (UTC). Nothing is stopped; at 100 % another alert says so.",
    )


def all_of_it(text: str) -> Firing:
    return Firing(
        {"project": "vision"},
        f"Project vision has spent its GPU budget: {text}.",
        "Of this month's (UTC). Its jobs go on and new ones are taken: "
        "the budget of a project tells, it stops nothing.",
    )


def failing(pod: str = "m-0") -> str:
    return f'gpumem_manager_budget_alerts_failing{{channel="webhook", instance="{pod}"}}'


NOT_TOLD = Firing(
    {"channel": "webhook"},
    "A message about a project's GPU budget cannot be delivered by webhook.",
    "It is tried again every minute. Nobody is told that a budget is nearly or altogether spent; "
    "the alerts GPUProjectBudgetNearlySpent and GPUProjectBudgetSpent say it here.",
)


def money(usd: str, *pods: str) -> dict[str, str]:
    return {series(pod): values for pod in pods for series, values in ((spent, usd), (budget, steady(1000)))}


# A day of jobs: every two minutes so many more.
DAY_STEP_SECONDS, DAY_COUNT = 120, 720
FEW, MANY, MOST = (f"0+{each}x{DAY_COUNT}" for each in ("0.008", "0.08", "0.8"))

MANAGER_CASES = (
    Case("GPUManagerDown", "silent", {f'{TURN}{{instance="m-0"}}': "0+15x400"}, {"30m": ()}),
    Case(
        "GPUManagerDown", "firing", {f'{TURN}{{instance="m-0"}}': "600+0x400"}, {"10m": (), "30m": (unmanaged("late"),)}
    ),
    Case(
        "GPUManagerDown",
        "duplicate series",
        {f'{TURN}{{instance="m-0"}}': "0+15x400", f'{TURN}{{instance="m-1"}}': steady(0)},
        {"30m": ()},
    ),
    Case("GPUManagerDown", "absent series", {}, {"30m": (unmanaged("absent"),)}),
    Case("GPUProjectUnread", "silent", {unread(): steady(0)}, {"30m": ()}),
    Case("GPUProjectUnread", "firing", {unread(): "0x8 1x400"}, {"5m": (), "30m": (not_followed(),)}),
    Case(
        "GPUProjectUnread",
        "duplicate series",
        # Who does not lead knows of none.
        {unread(): steady(1), unread("m-1"): steady(0)},
        {"30m": (not_followed(),)},
    ),
    Case("GPUProjectUnread", "absent series", {}, {"30m": ()}),
    Case("GPUJobWaitsTooLong", "silent", {waited(): steady(14_400)}, {"30m": ()}),
    Case("GPUJobWaitsTooLong", "firing", {waited(): "14395+15x400"}, {"1m": (), "10m": (waits("4h 9m 55s"),)}),
    Case(
        "GPUJobWaitsTooLong",
        "duplicate series",
        {waited(): steady(15_000), waited(pod="m-1"): steady(14_990)},
        {"30m": (waits("4h 10m 0s"),)},
    ),
    Case("GPUJobWaitsTooLong", "absent series", {}, {"30m": ()}),
    Case(
        "GPUJobsFailOften",
        "silent",
        {reached("failed"): FEW, reached("completed"): MOST},
        {"23h": ()},
        DAY_STEP_SECONDS,
    ),
    Case(
        "GPUJobsFailOften",
        "firing",
        {reached("failed"): MANY, reached("completed"): MANY},
        {"1h": (), "23h": (fails("50%"),)},
        DAY_STEP_SECONDS,
    ),
    Case(
        "GPUJobsFailOften",
        "duplicate series",
        {reached(status, pod): MANY for status in ("failed", "completed") for pod in ("m-0", "m-1")},
        {"23h": (fails("50%"),)},
        DAY_STEP_SECONDS,
    ),
    Case("GPUJobsFailOften", "absent series", {}, {"23h": ()}, DAY_STEP_SECONDS),
    Case(
        "GPUJobsFailOften",
        "one job that failed",
        {reached("failed"): f"0x12 1x{DAY_COUNT}", reached("completed"): steady(0, DAY_COUNT)},
        {"23h": ()},
        DAY_STEP_SECONDS,
    ),
    Case(
        "GPUJobsFailOften", "no job ended", {reached("failed"): steady(0), reached("completed"): steady(0)}, {"1h": ()}
    ),
    Case("GPUProjectBudgetNearlySpent", "silent", money(steady(799), "m-0"), {"10m": ()}),
    Case("GPUProjectBudgetNearlySpent", "firing", money("799+1x400", "m-0"), {"0m": (), "10m": (nearly("83.9%"),)}),
    Case(
        "GPUProjectBudgetNearlySpent", "duplicate series", money(steady(900), "m-0", "m-1"), {"10m": (nearly("90%"),)}
    ),
    Case("GPUProjectBudgetNearlySpent", "absent series", {}, {"10m": ()}),
    Case("GPUProjectBudgetNearlySpent", "a project without a budget", {spent(): steady(9999)}, {"10m": ()}),
    Case("GPUProjectBudgetNearlySpent", "spent altogether", money(steady(1000), "m-0"), {"10m": ()}),
    Case("GPUProjectBudgetSpent", "silent", money(steady(999), "m-0"), {"10m": ()}),
    Case("GPUProjectBudgetSpent", "firing", money("990+1x400", "m-0"), {"1m": (), "10m": (all_of_it("103%"),)}),
    Case("GPUProjectBudgetSpent", "duplicate series", money(steady(1500), "m-0", "m-1"), {"10m": (all_of_it("150%"),)}),
    Case("GPUProjectBudgetSpent", "absent series", {}, {"10m": ()}),
    Case("GPUBudgetAlertNotDelivered", "silent", {failing(): steady(0)}, {"30m": ()}),
    Case("GPUBudgetAlertNotDelivered", "firing", {failing(): steady(1)}, {"10m": (), "20m": (NOT_TOLD,)}),
    Case(
        "GPUBudgetAlertNotDelivered",
        "duplicate series",
        {failing(): steady(1), failing("m-1"): steady(0)},
        {"20m": (NOT_TOLD,)},
    ),
    Case("GPUBudgetAlertNotDelivered", "absent series", {}, {"30m": ()}),
    Case("GPUBudgetAlertNotDelivered", "delivered at the second try", {failing(): "1x4 0x100"}, {"20m": ()}),
)
