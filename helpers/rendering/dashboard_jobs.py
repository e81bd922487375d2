"""The dashboard's part about GPU jobs, for estates that have a manager."""

from __future__ import annotations

from typing import Any

from helpers.domain.estate.manager import Manager
from helpers.rendering import monitoring_queries as q
from helpers.rendering.dashboard_panels import Page, Query, fixed, line, override, series, stat
from helpers.rendering.manager_alerts import FAILED_WINDOW, MOST_FAILED_RATIO
from helpers.rendering.manager_objectives import PROMISED_WAIT_SECONDS

_WAITING = "pending|queued|preempted"
_USD = "currencyUSD"
_COLORS = {
    "pending": "light-blue",
    "queued": "blue",
    "provisioning": "purple",
    "running": "green",
    "preempted": "orange",
}


def job_panels(page: Page, manager: Manager) -> None:
    """First what is now, then waits, ends and money over time."""
    page.row("GPU jobs")
    for title, text, unit, thresholds, expr in _now(manager):
        page.panel(stat(title, text, unit, thresholds), Query(expr, instant=True), width=4, height=4)
    states = series("Jobs by state", "Of all projects.", unit="none", fill=30, stack=True)
    states["fieldConfig"]["overrides"] = [override(name, {"color": fixed(color)}) for name, color in _COLORS.items()]
    page.panel(states, Query(f"sum by (status) ({q.jobs_in('.+')})", "{{status}}"), width=8, height=8)
    page.panel(
        series(
            "Wait until let go",
            f"Of 95 of 100 jobs, by priority; promised are {PROMISED_WAIT_SECONDS} s.",
            unit="s",
        ),
        Query(q.job_wait(0.95, "priority"), "{{priority}}"),
        Query(q.job_wait(0.5), "half of all"),
        width=8,
        height=8,
    )
    page.panel(
        series("Ended", "Jobs that completed, failed or were cancelled.", unit="none", bars=True),
        Query(_ended(), "{{status}}"),
        width=8,
        height=8,
    )
    _money(page, manager)


def _now(manager: Manager) -> list[tuple[str, str, str, dict[str, Any], str]]:
    plain = _steps(("blue", None))
    late = _steps(("green", None), ("red", manager.aging_hours * 3600))
    failing = _steps(("green", None), ("red", MOST_FAILED_RATIO))
    slow = _steps(("green", None), ("red", PROMISED_WAIT_SECONDS))
    ended = f"sum({q.ended_jobs('failed|completed', FAILED_WINDOW)}) > 0"
    waits = f"histogram_quantile(0.95, sum by (le) (rate({q.JOB_WAIT}_bucket[1h])))"
    return [
        ("Running", "Jobs that have their GPUs.", "none", plain, f"sum({q.jobs_in('running')})"),
        ("Waiting", "For their turn.", "none", plain, f"sum({q.jobs_in(_WAITING)})"),
        ("Longest wait", "Of a job that still waits.", "s", late, f"max({q.JOB_LONGEST_WAIT})"),
        ("Wait, 95 of 100 jobs", "Of those let go within the hour.", "s", slow, waits),
        (
            "Failed of those that ended today",
            "Jobs stopped at a limit are among them.",
            "percentunit",
            failing,
            f"sum({q.ended_jobs('failed', FAILED_WINDOW)}) / ({ended})",
        ),
        ("Spent this month", "All projects, UTC.", _USD, plain, f"sum(max by (project) ({q.PROJECT_SPENT}))"),
    ]


def _money(page: Page, manager: Manager) -> None:
    budgets = [project.name for project in manager.projects if project.budget_usd_per_month is not None]
    spent = series("Spent this month, by project", "Dashed: the project's budget.", unit=_USD, fill=5)
    spent["fieldConfig"]["overrides"] = [line(f"budget of {name}", "red") for name in budgets]
    page.panel(
        spent,
        Query(f"max by (project) ({q.PROJECT_SPENT})", "{{project}}"),
        Query(f"max by (project) ({q.PROJECT_BUDGET})", "budget of {{project}}"),
        width=12,
        height=8,
    )
    requests = "sum by (le) (rate(gpumem_manager_request_seconds_bucket[$__rate_interval]))"
    page.panel(
        series("Answers of the API", "Of 100 requests, 95 and 50 were faster.", unit="s"),
        Query(f"histogram_quantile(0.95, {requests})", "95 of 100"),
        Query(f"histogram_quantile(0.5, {requests})", "half of all"),
        width=12,
        height=8,
    )


def _ended() -> str:
    series_name = f'{q.JOB_TRANSITIONS}{{status=~"completed|failed|cancelled"}}[$__rate_interval]'
    return f"sum by (status) (max by (project, status, instance) (increase({series_name})))"


def _steps(*steps: tuple[str, float | None]) -> dict[str, Any]:
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in steps]}
