"""The alerts about GPU jobs and their manager, for estates that have one."""

from __future__ import annotations

from helpers.domain.cost.budget_alerts import NEAR_RATIO
from helpers.domain.jobs.settings import ManagerSettings
from helpers.rendering import monitoring_queries as q
from helpers.rendering.alert import Alert
from helpers.rendering.manager_objectives import objective_alerts

# Beyond a change of leaders, and a turn over thousands of jobs.
MANAGER_LATE_SECONDS = 120
MANAGER_FOR_SECONDS = 60
# A namespace and its RoleBinding are applied one after the other.
UNREAD_FOR_SECONDS = 300
WAIT_FOR_SECONDS = 300
# What the users were promised: of a hundred jobs two may fail.
MOST_FAILED_RATIO = 0.02
# Of few jobs one that fails is more than that, and says nothing.
LEAST_FAILED_COUNT = 3
FAILED_WINDOW = "1d"
# It is tried again every minute; a mail server that is replaced takes less.
NOT_TOLD_FOR_SECONDS = 900


def manager_alerts(settings: ManagerSettings) -> tuple[Alert, ...]:
    """About jobs that wait, fail or cost too much, and the manager itself."""
    told = (_not_told(),) if settings.budget_alerts is not None else ()
    return (
        _down(),
        _unread(),
        _waits(settings),
        _fails(),
        *_budgets(),
        *told,
        *objective_alerts(offers_spot=settings.offers_spot),
    )


def _down() -> Alert:
    # abs: a timestamp from the future says as little as an old one.
    late = f"abs(time() - max({q.MANAGER_TURN})) > {MANAGER_LATE_SECONDS}"
    return Alert(
        "GPUManagerDown",
        q.with_cause([("late", late), ("absent", f"absent({q.MANAGER_TURN})")]),
        "critical",
        "Nobody looks after the GPU jobs.",
        f"Cause {{{{ $labels.cause }}}}: no turn over the jobs was finished within {MANAGER_LATE_SECONDS} s. "
        "Jobs that run go on; none starts, none is stopped at its limit, and what was submitted waits.",
        for_seconds=MANAGER_FOR_SECONDS,
    )


def _unread() -> Alert:
    return Alert(
        "GPUProjectUnread",
        f"max by (project) ({q.PROJECT_UNREAD}) > 0",
        "warning",
        "The GPU jobs of project {{ $labels.project }} are not followed: its namespace cannot be read.",
        "Its jobs that run go on and none starts; what they do in the meantime is learned afterwards. "
        "The manager's log says `project_not_read` with the API server's words.",
        for_seconds=UNREAD_FOR_SECONDS,
    )


def _waits(settings: ManagerSettings) -> Alert:
    # After that the queue itself counts a job as more urgent.
    most_seconds = settings.aging_hours * 3600
    return Alert(
        "GPUJobWaitsTooLong",
        f"max by (project) ({q.JOB_LONGEST_WAIT}) > {most_seconds:g}",
        "warning",
        "A job of project {{ $labels.project }} has waited for {{ $value | humanizeDuration }}.",
        "It waits for longer than any job should; `gpumem gpu get JOB` and `gpumem gpu queues` say for what.",
        for_seconds=WAIT_FOR_SECONDS,
    )


def _fails() -> Alert:
    ratio = q.failed_ratio(FAILED_WINDOW)
    # Half a job less: extrapolation makes 2.99 of 3.
    enough = f"{q.ended_jobs('failed', FAILED_WINDOW)} > {LEAST_FAILED_COUNT - 0.5:g}"
    return Alert(
        "GPUJobsFailOften",
        f"{ratio} > {MOST_FAILED_RATIO:g}\nand\n{enough}",
        "warning",
        "{{ $value | humanizePercentage }} of the jobs of project {{ $labels.project }} fail.",
        f"More than {MOST_FAILED_RATIO:.0%} of those that ended within a day, and at least {LEAST_FAILED_COUNT}. "
        "Jobs that were stopped at a limit are among them.",
    )


def _budgets() -> tuple[Alert, ...]:
    part = f"max by (project) ({q.PROJECT_SPENT}) / max by (project) ({q.PROJECT_BUDGET})"
    warning_ratio = float(NEAR_RATIO)
    return (
        Alert(
            "GPUProjectBudgetNearlySpent",
            f"{part} >= {warning_ratio:g} < 1",
            "warning",
            "Project {{ $labels.project }} has spent {{ $value | humanizePercentage }} of its GPU budget.",
            "Of this month's (UTC). Nothing is stopped; at 100 % another alert says so.",
        ),
        Alert(
            "GPUProjectBudgetSpent",
            f"{part} >= 1",
            "critical",
            "Project {{ $labels.project }} has spent its GPU budget: {{ $value | humanizePercentage }}.",
            "Of this month's (UTC). Its jobs go on and new ones are taken: "
            "the budget of a project tells, it stops nothing.",
        ),
    )


def _not_told() -> Alert:
    return Alert(
        "GPUBudgetAlertNotDelivered",
        f"max by (channel) ({q.BUDGET_ALERTS_FAILING}) > 0",
        "warning",
        "A message about a project's GPU budget cannot be delivered by {{ $labels.channel }}.",
        "It is tried again every minute. Nobody is told that a budget is nearly or altogether spent; "
        "the alerts GPUProjectBudgetNearlySpent and GPUProjectBudgetSpent say it here.",
        for_seconds=NOT_TOLD_FOR_SECONDS,
    )
