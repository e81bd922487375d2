"""Messages about budgets, from jobs that hold cards to real servers: each once, whoever leads, and none lost."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from helpers.adapters.sql_.alert_memory import SqlAlertMemory
from helpers.adapters.sql_.connection import open_database
from helpers.adapters.sql_.migrate import migrate
from helpers.adapters.sql_.store import SqlJobStore
from helpers.apps.manager.alerts import alert_channels
from helpers.domain.cost.budget_alerts import NEAR_RATIO, REACHED_RATIO, SentAlert
from helpers.domain.cost.money import Month
from helpers.domain.errors import InputError
from helpers.domain.estate.budget_alerts import AlertEmail, AlertWebhook, BudgetAlerts
from helpers.domain.estate.manager import Project
from helpers.domain.jobs.change import step
from helpers.domain.jobs.observation import Phase
from helpers.domain.jobs.states import JobStatus
from helpers.services.budget_alerts import BudgetAlerting
from helpers.services.budget_watch import LOOK_SECONDS, BudgetWatch
from lab.manager_process import ROOT, ManagerProcess
from lab.ports import free_ports
from tests.fakes.jobs import NOON, job
from tests.fakes.manager import SETTINGS, ManagerBench
from tests.fakes.outside import FakeClock
from tests.manager.test_process import command, until
from tests.manager.test_store import submission
from tests.unit.test_alert_channels import LOOPBACK, SECRET, Hook, hook, mail_server

__all__ = ["hook"]
URL_ENV, PASSWORD_ENV = "HOOK_URL", "MAIL_PASSWORD"
MARCH = Month(2026, 3)


def block(mail_port: int = 25) -> BudgetAlerts:
    mail = AlertEmail(
        host=LOOPBACK, port=mail_port, security="none", sender="gpumem@example.org", recipients=("ops@example.org",)
    )
    return BudgetAlerts(webhook=AlertWebhook(url_env=URL_ENV), email=mail)


def bench_of(folder: Path, url: str = "") -> ManagerBench:
    """One A100 for 3.43 USD an hour against 10 USD a month."""
    projects = (Project(name="vision", budget_usd_per_month=Decimal(10)), Project(name="text"))
    return ManagerBench(folder, SETTINGS.model_copy(update={"projects": projects}), url)


def watch_of(
    bench: ManagerBench, alerts: BudgetAlerts, secrets: Mapping[str, str], *, dry_run: bool = False
) -> BudgetWatch:
    memory = SqlAlertMemory(bench.store._engine, bench.clock)
    alerting = BudgetAlerting(alert_channels(alerts, secrets), memory, dry_run=dry_run)
    return BudgetWatch(
        bench.store, bench.purse, bench.settings, alerting, bench.leadership, bench.metrics, bench.clock, bench.log
    )


def running(bench: ManagerBench) -> None:
    job_id = bench.submit(project_id="vision")
    bench.turn()
    bench.turn()
    bench.engine.see(job_id, Phase.RUNNING)
    bench.turn()


def test_each_threshold_is_said_once_by_each_channel_whoever_leads(tmp_path: Path, url: str, hook: Hook) -> None:
    bench = bench_of(tmp_path, url)
    running(bench)
    with mail_server() as (box, port):
        secrets = {URL_ENV: hook.url}
        watch_of(bench, block(port), secrets).look()
        assert (hook.came, box.mails) == ([], [])
        bench.clock.advance(2.5 * 3600)
        watch_of(bench, block(port), secrets).look()
        for _ in range(2):  # other processes, which know only what the database knows
            watch_of(bench, block(port), secrets).look()
        assert len(hook.came) == len(box.mails) == 1
        bench.clock.advance(3600)
        watch_of(bench, block(port), secrets).look()
        watch_of(bench, block(port), secrets).look()
    said = [body["text"].split(" GPU budget")[0] for _, _, body in hook.came]
    assert said == ["Project vision has reached 80% of its", "Project vision has used up its"]
    assert len(box.mails) == 2
    assert bench.metrics.alerts == {("webhook", "delivered"): 2, ("email", "delivered"): 2}
    assert bench.metrics.failing_channels == frozenset()


def test_a_channel_that_is_down_is_tried_again_and_holds_up_no_other(tmp_path: Path, hook: Hook) -> None:
    bench = bench_of(tmp_path)
    running(bench)
    bench.clock.advance(2.5 * 3600)
    port = free_ports(1)[0]
    watch = watch_of(bench, block(port), {URL_ENV: hook.url})
    watch.look()
    watch.look()
    assert len(hook.came) == 1
    assert bench.metrics.alerts == {("webhook", "delivered"): 1, ("email", "failed"): 2}
    assert bench.metrics.failing_channels == {"email"}
    assert [one["channel"] for one in bench.log.of("budget_alert_failed")] == ["email", "email"]
    hook.status = 500  # what was delivered is not sent again
    with mail_server() as (box, port):
        watch_of(bench, block(port), {URL_ENV: hook.url}).look()
        assert len(box.mails) == 1
    assert bench.metrics.failing_channels == frozenset()


def test_who_does_not_lead_sends_nothing_and_shows_nothing(tmp_path: Path, hook: Hook) -> None:
    bench = bench_of(tmp_path)
    running(bench)
    bench.clock.advance(2.5 * 3600)
    bench.leadership.leading = False
    hooked = BudgetAlerts(webhook=AlertWebhook(url_env=URL_ENV))
    watch_of(bench, hooked, {URL_ENV: hook.url}).look()
    assert (hook.came, bench.metrics.alerts) == ([], {})


def test_a_dry_run_says_once_what_it_would_send(tmp_path: Path, hook: Hook) -> None:
    bench = bench_of(tmp_path)
    running(bench)
    bench.clock.advance(2.5 * 3600)
    watch = watch_of(bench, BudgetAlerts(webhook=AlertWebhook(url_env=URL_ENV)), {URL_ENV: hook.url}, dry_run=True)
    watch.look()
    watch.look()
    assert hook.came == []
    assert len(bench.log.of("budget_alert_dry_run")) == 1


def test_a_database_that_does_not_answer_is_asked_again(
    tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(tmp_path)
    running(bench)
    bench.clock.advance(2.5 * 3600)
    watch = watch_of(bench, BudgetAlerts(webhook=AlertWebhook(url_env=URL_ENV)), {URL_ENV: hook.url})
    until_seconds = bench.clock.monotonic_seconds() + LOOK_SECONDS + 5
    whole = bench.store._engine
    monkeypatch.setattr(bench.store, "_engine", sa.create_engine(f"sqlite:///{tmp_path}/none/there.db"))

    def stop() -> bool:
        if bench.log.of("budgets_not_looked_at"):
            bench.store._engine = whole
        return bench.clock.monotonic_seconds() > until_seconds

    watch.run(stop)
    assert len(bench.log.of("budgets_not_looked_at")) == len(hook.came) == 1


def test_the_memory_only_grows(database: sa.Engine) -> None:
    memory = SqlAlertMemory(database, FakeClock())
    rows = tuple(SentAlert("ml", MARCH, ratio, Decimal("120.5")) for ratio in (NEAR_RATIO, REACHED_RATIO))
    memory.remember("email", rows)
    memory.remember("email", ())
    assert memory.sent("email", "ml", MARCH) == rows
    for channel, project, month in (
        ("webhook", "ml", MARCH),
        ("email", "web", MARCH),
        ("email", "ml", Month(2026, 4)),
    ):
        assert memory.sent(channel, project, month) == ()
    for statement in ("delete from sent_alerts", "update sent_alerts set month = '2026-04'"):
        with pytest.raises(exc.DBAPIError, match="never changed or removed"), database.begin() as connection:
            connection.execute(sa.text(statement))


def test_a_variable_that_is_not_set_is_named_and_one_that_is_no_address_is_not_shown() -> None:
    mail = AlertEmail(
        host=LOOPBACK, user="gpumem", password_env=PASSWORD_ENV, sender="a@example.org", recipients=("o@example.org",)
    )
    both = BudgetAlerts(webhook=AlertWebhook(url_env=URL_ENV), email=mail)
    with pytest.raises(InputError, match=r"needs \$HOOK_URL, \$MAIL_PASSWORD, which is not set"):
        alert_channels(both, {})
    with pytest.raises(InputError, match="begins with http") as raised:
        alert_channels(both, {URL_ENV: "very-secret", PASSWORD_ENV: "x"})
    assert "very-secret" not in str(raised.value)
    assert set(alert_channels(both, {URL_ENV: "http://h/x", PASSWORD_ENV: "x"})) == {"webhook", "email"}
    assert alert_channels(None, {}) == {}


def estate(folder: Path) -> None:
    """The example with a manager whose project has a budget."""
    text = (ROOT / "gpumem.yaml").read_text(encoding="utf-8")
    told = "\nmanager:\n  projects: [{name: vision, budget_usd_per_month: 0.0001}]\n  budget_alerts: {webhook: {}}\n"
    (folder / "estate.yaml").write_text(text + told, encoding="utf-8")


def test_the_command_sends_what_is_due(tmp_path: Path, hook: Hook) -> None:
    url, port = f"sqlite:///{tmp_path}/jobs.db", free_ports(1)[0]
    held_since_yesterday(url)

    def run(process: ManagerProcess) -> list[str]:
        options = ["--tokens", str(process.tokens), "--address", process.address]
        made = command(tmp_path, url, *options, "--metrics-address", f"127.0.0.1:{port}")
        estate(tmp_path)
        return ["env", f"GPUMEM_ALERT_WEBHOOK_URL={hook.url}", *made]

    process = ManagerProcess(tmp_path, url, SETTINGS, run)
    process.start()
    until(lambda: len(hook.came) == 1)
    until(lambda: 'channel="webhook",outcome="delivered"} 1.0' in httpx.get(f"http://127.0.0.1:{port}/metrics").text)
    assert process.stop() == 0
    assert SECRET not in process.log


def held_since_yesterday(url: str) -> None:
    """A card of a job that began in another month, so that something is spent at any instant of this one."""
    engine = open_database(url)
    migrate(engine)
    store = SqlJobStore(engine)
    one = job(created_at=NOON, queued_at=NOON)
    store.submit(submission(one))
    began_at = datetime.now(UTC) - timedelta(days=40)
    for status in (JobStatus.QUEUED, JobStatus.PROVISIONING, JobStatus.RUNNING):
        change = step(one, status, began_at, "")
        assert store.apply([change])
        one = change.new
    engine.dispose()


def test_the_command_does_not_start_without_its_secret(tmp_path: Path) -> None:
    made = command(tmp_path, f"sqlite:///{tmp_path}/jobs.db")
    estate(tmp_path)
    ended = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "$GPUMEM_ALERT_WEBHOOK_URL, which is not set" in ended.stderr
