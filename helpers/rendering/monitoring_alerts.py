"""The alerts as data. Each has one meaning, one page under docs/runbooks, and its own promtool tests.

What an alert compares against comes from the estate: the floor, interval and caps are the watchdog's
own settings, the resource and the reserves those that are advertised.
"""

from __future__ import annotations

from collections.abc import Iterator

from helpers.domain.demand_gates.rules import gate_rules
from helpers.domain.estate.model import Estate
from helpers.domain.estate.monitoring import JOB_EXPORTER, Monitoring
from helpers.domain.jobs.settings import manager_settings
from helpers.domain.watchdog.facts import Outcome
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.rendering import monitoring_queries as q
from helpers.rendering.admission_webhook import runs_webhook
from helpers.rendering.alert import Alert
from helpers.rendering.claims_agent_alerts import claims_agent_alerts
from helpers.rendering.coordinator_alerts import coordinator_alerts, gate_alerts, lease_alerts
from helpers.rendering.dra import runs_claims_agent
from helpers.rendering.manager_alerts import manager_alerts
from helpers.rendering.webhook_alerts import webhook_alerts

# The capacity watch looks at every node at least every 300 s; three such looks may fail.
CAPACITY_SILENT_SECONDS = 900
# Beyond the slowest pass and a change of leaders.
LEAST_WATCHDOG_LATE_SECONDS = 60
GONE_CARD_WINDOW = "15m"

_CARD_TEXT = "GPU {{ $labels.gpu }}{{ with $labels.node }} of node {{ . }}{{ end }} ({{ $labels.uuid }})"
_POD_TEXT = "{{ $labels.namespace }}/{{ $labels.pod }}"
_WHOLE = '{{ $value | printf "%.0f" }}'


def monitoring_alerts(estate: Estate, settings: WatchdogSettings, monitoring: Monitoring) -> tuple[Alert, ...]:
    """All alerts of `estate`. `settings` is the document that its watchdog runs with."""
    jobs = manager_settings(estate)
    return (
        _vram_low(settings, monitoring),
        _telemetry_down(estate, settings, monitoring),
        _watchdog_down(settings, monitoring),
        _tenant_pending(estate, monitoring),
        _tenant_over_budget(monitoring),
        *_capacity_missing(estate, monitoring),
        _memory_unattributed(estate, monitoring),
        _recycling_repeatedly(settings),
        _watchdog_disarmed(),
        _xid_error(),
        _temperature_high(monitoring),
        *(claims_agent_alerts(estate) if runs_claims_agent(estate) else ()),
        *(webhook_alerts() if runs_webhook(estate) else ()),
        *(coordinator_alerts(estate.coordinator) if estate.coordinator is not None else ()),
        *(lease_alerts() if estate.coordinator is not None and estate.coordinator.leases is not None else ()),
        *(gate_alerts() if gate_rules(estate, "coordinator") else ()),
        *(manager_alerts(jobs) if jobs is not None else ()),
    )


def knows_numbered_nodes(estate: Estate) -> bool:
    """Whether series tell which nodes must show a number: all, or all without an agent of ours."""
    return bool(estate.number_nodes()) and (not estate.claim_nodes() or runs_claims_agent(estate))


def watchdog_late_seconds(settings: WatchdogSettings) -> float:
    """The age of the newest finished pass at which nobody is watching any more."""
    return max(12 * settings.interval_seconds, LEAST_WATCHDOG_LATE_SECONDS)


def _vram_low(settings: WatchdogSettings, monitoring: Monitoring) -> Alert:
    return Alert(
        "GPUVRAMLow",
        f"{q.lowest_a_card(q.FREE)} / {q.MIB} < {settings.floor_mib}",
        "critical",
        f"{_CARD_TEXT} is under pressure.",
        f"{_WHOLE} MiB are free, under the floor of {settings.floor_mib} MiB: "
        "the next allocation of any tenant there may fail.",
        for_seconds=monitoring.low_for_seconds,
        keep_firing_for_seconds=monitoring.keep_firing_for_seconds,
    )


def _telemetry_down(estate: Estate, settings: WatchdogSettings, monitoring: Monitoring) -> Alert:
    # A sample that is fresh for the watchdog has still to wait for a scrape or two to be seen here.
    old_seconds = settings.stale_after_seconds + 2 * monitoring.scrape_interval_seconds
    card_up, node_up = q.one_a_card(q.CARD_UP), f"max by (node) ({q.TELEMETRY_UP})"
    before = q.one_a_card(f"last_over_time({q.CARD_UP}[{GONE_CARD_WINDOW}])")
    parts = [
        ("sample_failed", f"{card_up} == 0"),
        ("sample_old", f"time() - {q.one_a_card(q.SAMPLE_TIMESTAMP)} > {old_seconds:g}"),
        ("card_gone", f"({before} and on (node) {node_up} == 1) unless on (uuid) {card_up}"),
        ("source_down", f"{node_up} == 0 unless on (node) {q.CARD_UP}"),
        ("scrape_failed", f'max by (node, instance) (up{{job="{JOB_EXPORTER}"}}) == 0'),
    ]
    if any(node.min_nodes for node in estate.nodes):  # an elastic pool may be empty, and rightly silent
        parts.append(("no_exporter", f'absent({q.TELEMETRY_UP}) unless on () up{{job="{JOB_EXPORTER}"}}'))
    return Alert(
        "GPUVRAMTelemetryDown",
        q.with_cause(parts),
        "critical",
        "GPU memory is not measured{{ with $labels.node }} on node {{ . }}{{ end }}"
        "{{ with $labels.gpu }}, GPU {{ . }}{{ end }}.",
        "Cause {{ $labels.cause }}. What is used there is unknown, which is not zero: the watchdog does nothing there.",
        for_seconds=monitoring.telemetry_for_seconds,
    )


def _watchdog_down(settings: WatchdogSettings, monitoring: Monitoring) -> Alert:
    late_seconds = watchdog_late_seconds(settings)
    # abs: a timestamp from the future (a clock was set back) says as little as an old one.
    late = f"abs(time() - max({q.LAST_PASS})) > {late_seconds:g}"
    return Alert(
        "GPUVRAMWatchdogDown",
        q.with_cause([("late", late), ("no_leader", f"max({q.LEADER}) == 0"), ("absent", f"absent({q.LAST_PASS})")]),
        # A watchdog that would only say what it would do leaves no gap in the defence when it is gone.
        "warning" if settings.dry_run else "critical",
        "No watchdog looks after the GPUs' memory.",
        f"Cause {{{{ $labels.cause }}}}: no pass was finished within {late_seconds:g} s, "
        "so a tenant that grows over its budget is stopped by nobody.",
        for_seconds=monitoring.watchdog_for_seconds,
    )


def _tenant_pending(estate: Estate, monitoring: Monitoring) -> Alert:
    elastic = q.pods_of_elastic_tenants(estate)
    unless = f"\nunless on ({q.POD}) ({elastic})" if elastic else ""
    return Alert(
        "GPUTenantPendingOnMemory",
        q.unplaced_mib(estate) + unless,
        "warning",
        f"{_POD_TEXT} finds no GPU memory.",
        f"It asks for {_WHOLE} {_unit_and_place(estate)} has that much left to promise.",
        for_seconds=monitoring.pending_for_seconds,
    )


def _unit_and_place(estate: Estate) -> str:
    if not estate.claim_nodes():
        return f"of {estate.resource}, and no node"
    return f"MiB, and no {'node or card' if estate.number_nodes() else 'card'}"


def _tenant_over_budget(monitoring: Monitoring) -> Alert:
    return Alert(
        "GPUTenantOverBudget",
        f"{q.used_by_pod()}\n- on ({q.POD})\n{q.budget_of_pod()}\n> 0",
        "warning",
        f"{_POD_TEXT} uses more GPU memory than its budget.",
        f"It is {_WHOLE} MiB over; once a card of it is under pressure, the largest overshoot there is recycled.",
        for_seconds=monitoring.over_budget_for_seconds,
    )


def _capacity_missing(estate: Estate, monitoring: Monitoring) -> Iterator[Alert]:
    """Nothing where every budget is a claim: no node has a number then."""
    parts: list[tuple[str, str]] = []
    if knows_numbered_nodes(estate):
        parts.append(("not_advertised", q.nodes_without_number(estate)))
    if estate.capacity.watch and estate.number_nodes():
        silent = f"time() - max({q.CAPACITY_SUCCESS}) > {CAPACITY_SILENT_SECONDS}"
        parts += [("watch_fails", silent), ("watch_absent", f"absent({q.CAPACITY_SUCCESS})")]
    if not parts:
        return
    yield Alert(
        "GPUCapacityMissing",
        q.with_cause(parts),
        "critical",
        "The number of GPU memory is not kept{{ with $labels.node }} on node {{ . }}{{ end }}.",
        f"Cause {{{{ $labels.cause }}}}: where a node does not show {estate.resource}, "
        "every tenant there stays Pending or is refused.",
        for_seconds=monitoring.capacity_for_seconds,
    )


def _memory_unattributed(estate: Estate, monitoring: Monitoring) -> Alert:
    smallest_reserve_mib = min(gpu.reserve_mib for node in estate.nodes for gpu in node.gpus)
    most_mib = monitoring.unattributed_mib if monitoring.unattributed_mib is not None else smallest_reserve_mib
    return Alert(
        "GPUMemoryUnattributed",
        f"{q.one_a_card(q.UNATTRIBUTED)} / {q.MIB} > {most_mib}",
        "warning",
        f"{_CARD_TEXT} holds memory that no pod owns.",
        f"{_WHOLE} MiB belong to nobody who is known, more than the {most_mib} MiB set aside; "
        "they are missing from the tenants' budgets.",
        for_seconds=monitoring.unattributed_for_seconds,
    )


def _recycling_repeatedly(settings: WatchdogSettings) -> Alert:
    # Before the tenant's cap, at which the watchdog stops acting and the pressure stays.
    often = max(1, min(2, settings.recycles_per_hour_tenant))
    tried = q.recycles(f'{{outcome!~"{Outcome.DRY_RUN}|{Outcome.ABANDONED}"}}', "1h")
    return Alert(
        "GPUWatchdogRecyclingRepeatedly",
        # Half an act less: extrapolation makes 1.99 of 2.
        f"sum by (tenant) ({tried}) > {often - 0.5:g}",
        "warning",
        "Tenant {{ $labels.tenant }} is recycled again and again.",
        f"{_WHOLE} times within an hour; at {settings.recycles_per_hour_tenant} the watchdog stops. "
        "Its budget is too small, or it leaks.",
    )


def _watchdog_disarmed() -> Alert:
    would = q.recycles(f'{{outcome="{Outcome.DRY_RUN}"}}', "1d")
    dry = f"max by (tenant) ({q.DRY_RUN}) == 1"
    return Alert(
        "GPUWatchdogDisarmed",
        f"sum by (tenant) ({would}) > 0.5 and on (tenant) {dry}",
        "info",
        "The watchdog only watched as tenant {{ $labels.tenant }} took memory from others.",
        f"It would have been recycled {_WHOLE} times in a day; `gpumem arm` shows the evidence and the change to make.",
    )


def _xid_error() -> Alert:
    return Alert(
        "GPUXidError",
        f"max by ({q.CARD}, xid) ({q.grown(q.XID_EVENTS, '10m')}) > 0",
        "warning",
        f"{_CARD_TEXT} reported Xid {{{{ $labels.xid }}}}.",
        f"{_WHOLE} within ten minutes; the code tells whether a program, the driver or the card is at fault.",
    )


def _temperature_high(monitoring: Monitoring) -> Alert:
    limit_celsius = monitoring.temperature_celsius
    return Alert(
        "GPUTemperatureHigh",
        f"{q.one_a_card(q.TEMPERATURE)} > {limit_celsius}",
        "warning",
        f"{_CARD_TEXT} is too hot.",
        f"{_WHOLE} °C, above {limit_celsius} °C: it slows down, and every tenant on it with it.",
        for_seconds=monitoring.temperature_for_seconds,
    )
