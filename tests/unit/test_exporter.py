"""A round of sampling, on fakes."""

from __future__ import annotations

from typing import Any

from helpers.domain.telemetry.attribution import ProcessIdentity
from helpers.domain.telemetry.reading import Failure, Fault, Gpu, GpuReading, Snapshot
from helpers.services.exporter import Sampler, SampleRules
from helpers.services.pod_cache import PodCache
from tests.fakes.telemetry import (
    GIB,
    NOW,
    RESOURCE,
    FakeClock,
    FakeDevices,
    FakeLog,
    FakePods,
    FakeProcesses,
    cgroup_v2,
    pod,
    process,
    reading,
)


class World:
    """One node: what a test changes, and the sampler on it."""

    def __init__(self, *rounds: tuple[GpuReading, ...] | Fault, rules: SampleRules | None = None) -> None:
        self.devices = FakeDevices(list(rounds))
        self.processes = FakeProcesses({10: process(10, cgroup_v2(1)), 11: process(11, cgroup_v2(2))})
        self.pods = FakePods([pod(1, limit="3k"), pod(2, limit="1k")])
        self.log = FakeLog()
        self.clock = FakeClock()
        self.cache = PodCache(
            self.pods, resource=RESOURCE, interval_seconds=3600.0, gap_seconds=0.01, clock=self.clock, log=self.log
        )
        self._rules = rules or SampleRules()

    def run(self, rounds: int = 1) -> Snapshot:
        """Some rounds; the last one's snapshot."""
        self.cache.start()
        sampler = Sampler(self.devices, self.processes, self.cache, rules=self._rules, clock=self.clock, log=self.log)
        try:
            for _ in range(rounds):
                snapshot = sampler.sample()
        finally:
            self.cache.stop()
        return snapshot


def failures(snapshot: Snapshot) -> list[Failure | None]:
    return [sample.fault.failure if sample.fault is not None else None for sample in snapshot.devices]


def test_a_whole_round_names_pods_and_budgets() -> None:
    snapshot = World((reading(0, {10: 2 * GIB, 11: GIB}),)).run()
    (sample,) = snapshot.devices
    assert sample.up
    assert sample.attribution is not None
    assert [(use.pod, use.used_bytes) for use in sample.attribution.uses] == [("pod-1", 2 * GIB), ("pod-2", GIB)]
    assert sample.attribution.unattributed_bytes == 7 * GIB
    assert [(one.pod, one.budget_mib) for one in snapshot.budgets] == [("pod-1", 3000), ("pod-2", 1000)]
    assert snapshot.whole


def test_fault_4_every_card_of_the_node_is_sampled() -> None:
    """Only the first card of one node was looked at, with its size in code."""
    snapshot = World((reading(0, {10: GIB}), reading(1, {11: GIB}, used=3 * GIB))).run()
    assert [sample.gpu.index for sample in snapshot.devices] == [0, 1]
    assert [sample.memory.used_bytes for sample in snapshot.devices if sample.memory] == [10 * GIB, 3 * GIB]


def test_fault_8_a_failed_card_has_no_tenants_and_the_other_card_keeps_its_own() -> None:
    fault = Fault(Failure.PROCESS_MEMORY_UNKNOWN, "memory of pid 10 is not available")
    snapshot = World((reading(0, None, fault=fault), reading(1, {11: GIB}))).run()
    bad, good = snapshot.devices
    assert (bad.up, bad.attribution) == (False, None)
    assert bad.memory is not None, "free memory stays visible to alerts"
    assert good.up
    assert snapshot.failure_counts == {("0", Failure.PROCESS_MEMORY_UNKNOWN): 1}
    assert not snapshot.whole


def test_a_process_that_ends_between_two_calls_is_in_neither_figure() -> None:
    world = World((reading(0, {10: 2 * GIB, 99: 5 * GIB}, used=7 * GIB),))
    world.devices.again = {0: reading(0, {10: 2 * GIB}, used=2 * GIB)}
    (sample,) = world.run().devices
    assert world.devices.asked_again == [0]
    assert sample.up
    assert sample.attribution is not None
    assert sample.attribution.unattributed_bytes == 0
    assert sample.attribution.unattributed_processes == {}


def test_a_pid_that_stays_invisible_is_unattributed_and_asked_for_once_a_round() -> None:
    stays = reading(0, {99: 5 * GIB}, used=5 * GIB)
    world = World((stays,))
    world.devices.again = {0: stays}
    (sample,) = world.run().devices
    assert world.devices.asked_again == [0]
    assert sample.attribution is not None
    assert sample.attribution.unattributed_processes == {"invisible": 1}
    assert sample.attribution.unattributed_bytes == 5 * GIB


def test_fault_13_without_the_hosts_pids_nothing_is_attributed_and_the_repair_is_named() -> None:
    """Limits were silently off for a missing hostPID."""
    world = World((reading(0, {10: GIB}),))
    world.processes.host_pids = False
    (sample,) = world.run().devices
    assert sample.attribution is None
    assert sample.fault is not None
    assert sample.fault.failure is Failure.HOST_PIDS_INVISIBLE
    assert "hostPID: true" in sample.fault.detail


def test_an_idle_card_needs_no_pids_and_no_pods_to_be_whole() -> None:
    world = World((reading(0, {}, used=0),))
    world.processes.host_pids = False
    world.pods.items = None
    assert world.run().devices[0].up


def test_an_unreadable_proc_tree_fails_cards_with_processes() -> None:
    world = World((reading(0, {10: GIB}), reading(1, {})))
    world.processes.unreadable = Fault(Failure.PROC_UNREADABLE, "no")
    assert failures(world.run()) == [Failure.PROC_UNREADABLE, None]


def test_pods_that_were_never_read_make_attribution_unknown_and_not_unattributed() -> None:
    world = World((reading(0, {10: GIB}),))
    world.pods.items = None
    snapshot = world.run()
    assert failures(snapshot) == [Failure.PODS_UNKNOWN]
    assert snapshot.pods_up is False


def test_a_pod_that_is_new_is_asked_for_at_once() -> None:
    class NewPod(FakePods):
        def pods(self) -> list[dict[str, Any]]:
            super().pods()
            return [pod(1)] if self.calls == 1 else [pod(1), pod(2)]

    world = World((reading(0, {11: GIB}),))
    world.pods = NewPod([])
    world.cache = PodCache(
        world.pods, resource=RESOURCE, interval_seconds=3600.0, gap_seconds=0.01, clock=world.clock, log=world.log
    )
    world.cache.start()
    world.cache.ask(60.0)
    sampler = Sampler(
        world.devices, world.processes, world.cache, rules=SampleRules(), clock=world.clock, log=world.log
    )
    # The list may take its one second of rest first; until then the sample says unknown, never zero.
    for _ in range(60):
        (sample,) = sampler.sample().devices
        if sample.up:
            break
        assert failures(sampler.sample()) in ([Failure.PODS_UNKNOWN], [None])
    world.cache.stop()
    assert sample.attribution is not None
    assert [use.pod for use in sample.attribution.uses] == ["pod-2"]


def test_an_api_that_stops_answering_keeps_the_names_it_gave_and_fails_only_new_ones() -> None:
    world = World((reading(0, {10: GIB}),), (reading(0, {10: GIB}), reading(1, {12: GIB})))
    world.processes.known[12] = process(12, cgroup_v2(7))
    world.cache.start()
    sampler = Sampler(
        world.devices, world.processes, world.cache, rules=SampleRules(), clock=world.clock, log=world.log
    )
    world.cache.ask(60.0)
    assert sampler.sample().devices[0].up
    world.pods.items = None
    assert failures(sampler.sample()) == [None, Failure.PODS_UNKNOWN]
    world.cache.stop()


def test_a_driver_that_is_gone_takes_all_known_cards_down_with_their_names() -> None:
    world = World((reading(0, {10: GIB}), reading(1, {})), Fault(Failure.DRIVER, "NVML: Driver Not Loaded"))
    snapshot = world.run(rounds=2)
    assert [(sample.gpu.uuid, sample.up, sample.memory) for sample in snapshot.devices] == [
        ("GPU-0", False, None),
        ("GPU-1", False, None),
    ]
    assert not snapshot.source_up
    assert len(snapshot.budgets) == 2, "what pods declare does not depend on the driver"


def test_a_driver_that_never_answered_is_counted_without_a_card() -> None:
    snapshot = World(Fault(Failure.DRIVER, "no")).run(rounds=2)
    assert snapshot.failure_counts == {("", Failure.DRIVER): 2}
    assert not snapshot.whole


def test_a_hung_card_is_down_under_the_names_of_its_last_devices_and_comes_back() -> None:
    hung = GpuReading(Gpu(0, "GPU-0"), fault=Fault(Failure.HUNG, "no answer"))
    world = World((reading(0, {10: GIB}),), (hung,), (reading(0, {10: GIB}),))
    assert failures(world.run(rounds=2)) == [Failure.HUNG]
    assert world.run().devices[0].up


def test_a_failure_is_logged_when_it_begins_and_when_it_ends_and_not_in_between() -> None:
    bad = (reading(0, None, fault=Fault(Failure.NVML_ERROR, "x")),)
    good = (reading(0, {10: GIB}),)
    world = World(good, bad, bad, bad, good, good)
    world.run(rounds=6)
    assert world.log.events() == ["sample_failed", "sample_whole_again"]


def test_an_unreadable_budget_is_counted_and_logged_with_its_text() -> None:
    world = World((reading(0, {10: GIB}),))
    world.pods.items = [pod(1, limit="1500m")]
    snapshot = world.run()
    assert snapshot.unreadable_budget_count == 1
    (line,) = [fields for _, event, fields in world.log.lines if event == "budget_unreadable"]
    assert (line["pod"], line["container"]) == ("pod-1", "main")


def test_outside_kubernetes_no_pods_are_asked_for() -> None:
    identity: ProcessIdentity = process(10, "0::/system.slice/ollama.service\n")
    sampler = Sampler(
        FakeDevices([(reading(0, {10: GIB}),)]),
        FakeProcesses({10: identity}, host_pids=False),
        None,
        rules=SampleRules(require_host_pids=False),
        clock=FakeClock(),
        log=FakeLog(),
    )
    snapshot = sampler.sample()
    assert snapshot.devices[0].up
    assert snapshot.pods_up is None
    assert snapshot.at == NOW
