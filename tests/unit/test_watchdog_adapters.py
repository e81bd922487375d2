"""The watchdog's own adapters: the Lease with its acts, the trace file, evictions, figures, Events."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import prometheus_client
import pytest

from helpers.adapters.kubernetes_ import connect
from helpers.adapters.queued_events import QueuedEvents
from helpers.adapters.trace_file import TraceFile
from helpers.adapters.watchdog_lease import MOST_RECORDS_COUNT, LeaseActs, WatchdogElection
from helpers.adapters.watchdog_metrics import PrometheusWatchdogMetrics
from helpers.domain.errors import ClusterError, Conflict, InputError
from helpers.domain.watchdog.decisions import CardState
from helpers.domain.watchdog.facts import ActRecord, Outcome
from helpers.domain.watchdog.trace import Frame, parse_lines
from helpers.ports.cluster import ObjectRef
from helpers.services.watchdog_pods import PodReading, watched_pod
from tests.fakes.api_server import scripted_api
from tests.fakes.cluster import FakeCluster
from tests.fakes.outside import FakeClock, FakeEvents, FakeLog
from tests.fakes.watchdog_world import NODE, FakeExporter, settings, tenant_pod
from tests.fakes.world import RESOURCE

AT = datetime(2026, 6, 2, 12, tzinfo=UTC)
RECORD = ActRecord("ml", "ml", "ml-0", "u1", NODE, "GPU-a", AT, AT, False, Outcome.EVICTED, 9000)


class Leases:
    """Two processes on one Lease."""

    def __init__(self) -> None:
        self.cluster, self.clock, self.log = FakeCluster(), FakeClock(), FakeLog()

    def process(self, identity: str) -> tuple[WatchdogElection, LeaseActs]:
        lock = threading.RLock()
        about = {"namespace": "nvidia", "name": "gpumem-watchdog", "identity": identity}
        election = WatchdogElection(self.cluster, self.clock, self.log, lock=lock, **about)
        return election, LeaseActs(self.cluster, label_prefix="gpumem.io", lock=lock, **about)


def test_acts_are_read_by_the_next_leader_as_they_were_written() -> None:
    leases = Leases()
    election, acts = leases.process("first")
    assert election.try_once()
    unfinished = replace(RECORD, uid="u2", finished_at=None, outcome=None, freed_mib=None)
    acts.save([RECORD, unfinished])
    assert election.try_once()  # renewing keeps them
    leases.clock.advance(20)
    second, seen = leases.process("second")
    second.try_once()
    leases.clock.advance(20)
    assert second.try_once()
    assert seen.load() == (RECORD, unfinished)


def test_a_process_that_was_overtaken_can_announce_nothing() -> None:
    leases = Leases()
    first, acts = leases.process("first")
    second, _ = leases.process("second")
    first.try_once()
    second.try_once()
    leases.clock.advance(20)
    assert second.try_once()
    with pytest.raises(Conflict, match="does not hold it"):
        acts.save([RECORD])


def test_a_process_overtaken_between_reading_and_writing_announces_nothing() -> None:
    leases = Leases()
    first, acts = leases.process("first")
    first.try_once()
    get = leases.cluster.get

    def overtaken(ref: ObjectRef) -> Any:
        lease = get(ref)
        leases.cluster.write(ref, {"spec": {"holderIdentity": "second"}})
        return lease

    leases.cluster.get = overtaken  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        acts.save([RECORD])


def test_the_list_of_acts_is_bounded_and_fits_into_an_annotation() -> None:
    leases = Leases()
    election, acts = leases.process("first")
    election.try_once()
    long = replace(RECORD, namespace="n" * 63, pod="p" * 200, subject="s" * 63, uid="u" * 36, uuid="g" * 40)
    acts.save([long] * MOST_RECORDS_COUNT)
    lease = leases.cluster.now(ObjectRef("coordination.k8s.io/v1", "Lease", "gpumem-watchdog", "nvidia"))
    assert len(lease["metadata"]["annotations"]["gpumem.io/acts"]) < 200 * 1024
    with pytest.raises(ValueError, match="only"):
        acts.save([RECORD] * (MOST_RECORDS_COUNT + 1))


def test_acts_that_cannot_be_read_stop_the_watchdog_with_the_repair() -> None:
    leases = Leases()
    election, acts = leases.process("first")
    election.try_once()
    ref = ObjectRef("coordination.k8s.io/v1", "Lease", "gpumem-watchdog", "nvidia")
    leases.cluster.write(ref, {"metadata": {"annotations": {"gpumem.io/acts": '[{"pod": 1}]'}}})
    with pytest.raises(InputError, match="Remove the annotation"):
        acts.load()


def frames(count: int, step_seconds: float = 5) -> list[Frame]:
    clock = FakeClock()
    exporter = FakeExporter(clock, {("immich-ml", "immich-ml-5d9c-0"): 2000})
    pod = watched_pod(tenant_pod("immich-ml", uid="u1"), PodReading(settings(), RESOURCE, "gpumem.io"))
    assert pod is not None
    found = []
    for _ in range(count):
        clock.advance(step_seconds)
        found.append(Frame(clock.now_at(), (exporter.sample(),), (pod.facts,)))
    return found


def test_a_recorded_trace_is_read_back_whole(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "trace", FakeLog(), limit_bytes=1 << 20)
    looks = frames(5)
    for look in looks:
        file.record(look)
    assert parse_lines((tmp_path / "trace").read_text(), "trace") == tuple(looks)


def test_a_full_trace_goes_on_in_a_new_file_that_can_be_read_alone(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "trace", FakeLog(), limit_bytes=4000)
    looks = frames(40)
    for look in looks:
        file.record(look)
    files = sorted(tmp_path.iterdir())
    assert [each.name for each in files] == ["trace", "trace.1"]
    assert all(each.stat().st_size <= 4000 for each in files)
    newest, older = (parse_lines(each.read_text(), each.name) for each in files)
    assert (*older, *newest) == tuple(looks[-len(older) - len(newest) :])
    assert newest[0].pods == looks[0].pods


def test_a_clock_that_goes_back_begins_a_new_file(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "trace", FakeLog(), limit_bytes=1 << 20)
    looks = frames(3)
    for look in [*looks, looks[0]]:
        file.record(look)
    assert parse_lines((tmp_path / "trace").read_text(), "trace") == (looks[0],)


def test_looks_closer_together_than_asked_are_left_out(tmp_path: Path) -> None:
    file = TraceFile(tmp_path / "trace", FakeLog(), limit_bytes=1 << 20, interval_seconds=15)
    for look in frames(7):
        file.record(look)
    assert len(parse_lines((tmp_path / "trace").read_text(), "trace")) == 3


def test_a_trace_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can be written"):
        TraceFile(tmp_path / "no" / "trace", FakeLog(), limit_bytes=1)


POD = ObjectRef("v1", "Pod", "ml-0", "ml")
PODS_PATH = "/api/v1/namespaces/ml/pods/ml-0"


def test_an_eviction_names_the_very_pod(tmp_path: Path) -> None:
    with scripted_api() as api:
        api.answers[f"{PODS_PATH}/eviction"].append((201, {}))
        assert connect(api.kubeconfig(tmp_path)).evict(POD, uid="u1", dry_run=True).answer == "accepted"
    (asked,) = api.of(f"{PODS_PATH}/eviction")
    assert asked.body["deleteOptions"] == {"preconditions": {"uid": "u1"}, "dryRun": ["All"]}
    assert asked.body["metadata"] == {"name": "ml-0", "namespace": "ml"}


def refusal(*reasons: str) -> dict[str, Any]:
    causes = [{"reason": reason, "message": "needs 1 healthy pods and has 1 currently"} for reason in reasons]
    return {"kind": "Status", "message": "not now", "details": {"causes": causes, "retryAfterSeconds": 10}}


def test_a_disruption_budgets_no_is_told_from_a_busy_servers(tmp_path: Path) -> None:
    with scripted_api() as api:
        api.answers[f"{PODS_PATH}/eviction"].extend([(429, refusal("DisruptionBudget")), (429, refusal())])
        cluster = connect(api.kubeconfig(tmp_path))
        blocked = cluster.evict(POD, uid="u1")
        assert (blocked.answer, blocked.retry_after_seconds) == ("blocked", 10.0)
        assert "needs 1 healthy pods" in blocked.text
        with pytest.raises(ClusterError, match="429"):
            cluster.evict(POD, uid="u1")


@pytest.mark.parametrize("status", [404, 409])
def test_a_pod_that_is_gone_or_anothers_by_now_is_gone(tmp_path: Path, status: int) -> None:
    with scripted_api() as api:
        api.answers[f"{PODS_PATH}/eviction"].append((status, {"message": "no"}))
        assert connect(api.kubeconfig(tmp_path)).evict(POD, uid="u1").answer == "gone"


def test_the_figures_of_a_card_that_left_end() -> None:
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusWatchdogMetrics(registry)
    card = CardState("t4", "0", "GPU-a", AT, floor_mib=1536, free_mib=1000)
    labels = {"node": "t4", "gpu": "0", "uuid": "GPU-a"}
    metrics.cards([card])
    assert registry.get_sample_value("gpumem_watchdog_card_free_bytes", labels) == 1000 * 1024 * 1024
    metrics.cards([replace(card, free_mib=None)])
    assert registry.get_sample_value("gpumem_watchdog_card_free_bytes", labels) is None
    assert registry.get_sample_value("gpumem_watchdog_card_floor_bytes", labels) == 1536 * 1024 * 1024
    metrics.cards([])
    assert registry.get_sample_value("gpumem_watchdog_card_floor_bytes", labels) is None


def test_the_figures_that_alerts_read_have_their_names() -> None:
    registry = prometheus_client.CollectorRegistry()
    metrics = PrometheusWatchdogMetrics(registry)
    metrics.leads(True)
    metrics.dry_runs({"ml": True})
    metrics.passed(AT + timedelta(seconds=1), 0.1)
    metrics.recycled("ml", "evicted", 9000)
    value = registry.get_sample_value
    assert value("gpumem_watchdog_leader") == 1
    assert value("gpumem_watchdog_dry_run", {"tenant": "ml"}) == 1
    assert value("gpumem_watchdog_last_pass_timestamp_seconds") == AT.timestamp() + 1
    assert value("gpumem_watchdog_recycles_total", {"tenant": "ml", "outcome": "evicted"}) == 1
    assert value("gpumem_watchdog_freed_bytes_total", {"tenant": "ml"}) == 9000 * 1024 * 1024
    assert value("gpumem_watchdog_decisions_total", {"reason": "enough_free"}) == 0


def test_events_are_written_in_order_without_holding_anybody_up_and_a_flood_is_logged() -> None:
    behind, log, gate = FakeEvents(), FakeLog(), threading.Event()
    record = behind.record

    def slow(*arguments: Any, **named: Any) -> None:
        gate.wait(10)
        record(*arguments, **named)

    behind.record = slow  # type: ignore[method-assign]
    about = {"kind": "Pod", "metadata": {"name": "ml-0", "uid": "u"}}
    with QueuedEvents(behind, log, most_waiting_count=3) as events:
        for number in range(10):
            events.record(about, "GpumemTest", str(number))
        gate.set()
    written = [int(message) for _, _, _, message in behind.recorded]
    dropped = [int(str(line["text"])) for line in log.of("event_dropped")]
    assert written == sorted(written)
    assert sorted(written + dropped) == list(range(10))
    assert len(written) in (3, 4)


def test_an_event_that_fails_in_a_way_nobody_foresaw_is_said_and_the_next_one_is_written() -> None:
    behind, log = FakeEvents(), FakeLog()
    record = behind.record

    def fails_once(*arguments: Any, **named: Any) -> None:
        behind.record = record  # type: ignore[method-assign]
        raise OSError("the connection is gone")

    behind.record = fails_once  # type: ignore[method-assign]
    about = {"kind": "Pod", "metadata": {"name": "ml-0", "uid": "u"}}
    with QueuedEvents(behind, log) as events:
        events.record(about, "GpumemTest", "lost")
        events.record(about, "GpumemTest", "written")
    assert [message for _, _, _, message in behind.recorded] == ["written"]
    (said,) = log.of("event_not_written")
    assert (said["text"], said["reason"]) == ("lost", "OSError: the connection is gone")
