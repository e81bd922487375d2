"""One pass over the nodes: what is written, what is refused, and what is never dropped."""

from __future__ import annotations

import pytest

from helpers.domain import names
from helpers.domain.capacity import CapacitySettings, KeepCapacity, NodeCapacity, RunningPod, SetCapacity
from helpers.domain.errors import CheckFailed, ClusterError, Forbidden, QuantityError
from helpers.ports.cluster import ObjectRef
from helpers.services.capacity import CapacityReport, assert_capacity, unset_capacity
from helpers.services.capacity_observation import node_facts, pod_budget_mib, running_pods
from tests.fakes.cluster import FakeCluster
from tests.fakes.outside import FakeEvents, FakeLog
from tests.fakes.world import RESOURCE, node, node_ref, pod, settings


class Case:
    """A cluster and what the services said about it."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.log = FakeLog()
        self.events = FakeEvents()

    def advertise(self, wanted: CapacitySettings, *, dry_run: bool = False) -> CapacityReport:
        return assert_capacity(self.cluster, wanted, events=self.events, log=self.log, dry_run=dry_run)

    def unset(self, *, dry_run: bool = False) -> CapacityReport:
        return unset_capacity(self.cluster, settings(), events=self.events, log=self.log, dry_run=dry_run)

    def shown(self, name: str = "gpu-0") -> tuple[str | None, str | None]:
        status = self.cluster.now(node_ref(name))["status"]
        return status["capacity"].get(RESOURCE), status["allocatable"].get(RESOURCE)


@pytest.fixture
def case() -> Case:
    return Case()


def test_every_node_of_the_kind_gets_the_number_not_only_the_first(case: Case) -> None:
    """Field fault 4: the first reference's code knew one node."""
    for name in ("gpu-0", "gpu-1", "gpu-2"):
        case.cluster.add(node(name))
    case.cluster.add(node("cpu-0", labels={}))
    report = case.advertise(settings())
    assert [case.shown(f"gpu-{index}") for index in range(3)] == [("14k", "14k")] * 3
    assert case.shown("cpu-0") == (None, None)
    assert report.lines()[0] == "node gpu-0: 14000 MiB (was absent)"


def test_only_the_two_entries_of_the_resource_are_owned(case: Case) -> None:
    case.cluster.add(node())
    case.advertise(settings())
    assert case.cluster.owned_by(node_ref(), names.FIELD_MANAGER_CAPACITY) == {
        f".status.capacity.{RESOURCE}",
        f".status.allocatable.{RESOURCE}",
    }


def test_a_second_run_changes_nothing(case: Case) -> None:
    case.cluster.add(node())
    case.advertise(settings())
    version = case.cluster.now(node_ref())["metadata"]["resourceVersion"]
    report = case.advertise(settings())
    assert report.actions == (KeepCapacity("gpu-0", "t4-node", 14000),)
    assert case.cluster.now(node_ref())["metadata"]["resourceVersion"] == version
    assert len(case.events.recorded) == 1


def test_a_number_that_somebody_patched_by_hand_is_taken_over(case: Case) -> None:
    case.cluster.add(node())
    by_hand = {"status": {"capacity": {RESOURCE: "12k"}}}
    case.cluster.write(node_ref(), by_hand, manager="kubectl-patch", subresource="status")
    case.advertise(settings())
    assert case.shown() == ("14k", "14k")
    assert not case.cluster.owned_by(node_ref(), "kubectl-patch")


def test_the_right_number_in_other_hands_is_owned_from_then_on(case: Case) -> None:
    case.cluster.add(node())
    by_hand = {"status": {"capacity": {RESOURCE: "14k"}, "allocatable": {RESOURCE: "14k"}}}
    case.cluster.write(node_ref(), by_hand, manager="kubectl-patch", subresource="status")
    assert case.advertise(settings()).actions == (SetCapacity("gpu-0", "t4-node", 14000, 14000),)
    assert case.cluster.owned_by(node_ref(), names.FIELD_MANAGER_CAPACITY)


def test_a_kubelet_that_reset_the_number_to_zero_is_answered(case: Case) -> None:
    """A kubelet whose state was wiped zeroes extended resources on the Node object that is still there."""
    case.cluster.add(node(resources={RESOURCE: "0"}))
    assert case.advertise(settings()).actions == (SetCapacity("gpu-0", "t4-node", 0, 14000),)


def test_lowering_under_what_runs_is_refused_with_the_pods_named(case: Case) -> None:
    case.cluster.add(node(resources={RESOURCE: "14k"}))
    case.cluster.add(pod("immich-ml", "3k"))
    case.cluster.add(pod("llama-swap", "5k", namespace="llama-cpp"))
    with pytest.raises(CheckFailed) as failed:
        case.advertise(settings(6000))
    assert str(failed.value) == (
        "node gpu-0 (t4-node): 6000 MiB is less than the 8000 MiB that run there, and the next kubelet restart "
        "would fail them: immich/immich-ml (3000 MiB), llama-cpp/llama-swap (5000 MiB). "
        "Release tenants first, or set capacity.drain: true to accept that."
    )
    assert case.shown() == ("14k", "14k")
    assert case.events.recorded[0][1:3] == ("Warning", "GpumemCapacityRefused")


def test_the_other_nodes_are_done_before_a_refusal_is_raised(case: Case) -> None:
    case.cluster.add(node("gpu-0", resources={RESOURCE: "14k"}))
    case.cluster.add(pod("immich-ml", "13k"))
    case.cluster.add(node("gpu-1"))
    with pytest.raises(CheckFailed, match="gpu-0"):
        case.advertise(settings(6000))
    assert case.shown("gpu-1") == ("6k", "6k")


def test_lowering_is_allowed_where_the_estate_says_drain(case: Case) -> None:
    case.cluster.add(node(resources={RESOURCE: "14k"}))
    case.cluster.add(pod("immich-ml", "13k"))
    case.advertise(settings(6000, drain=True))
    assert case.shown() == ("6k", "6k")


def test_lowering_to_what_still_fits_is_allowed(case: Case) -> None:
    case.cluster.add(node(resources={RESOURCE: "14k"}))
    case.cluster.add(pod("immich-ml", "6k"))
    case.advertise(settings(6000))
    assert case.shown() == ("6k", "6k")


def test_a_pod_that_ended_holds_nothing(case: Case) -> None:
    case.cluster.add(node(resources={RESOURCE: "14k"}))
    case.cluster.add(pod("ended", "13k", phase="Succeeded"))
    case.cluster.add(pod("failed", "13k", phase="Failed"))
    case.advertise(settings(6000))
    assert case.shown() == ("6k", "6k")


@pytest.mark.parametrize(
    ("spelling", "budget_mib"), [("5k", 5000), ("5e3", 5000), ("5000", 5000), ("1P", 10**15), ("2Ki", 2048)]
)
def test_every_spelling_of_a_budget_is_counted(spelling: str, budget_mib: int) -> None:
    """Field fault 1: `int("5k")` dropped every round-thousand tenant, and its repair `5e3` and `1P`."""
    cluster = FakeCluster()
    cluster.add(node())
    cluster.add(pod("tenant", spelling))
    assert running_pods(cluster, RESOURCE) == {"gpu-0": (RunningPod("immich", "tenant", budget_mib),)}


@pytest.mark.parametrize("spelling", ["5K", "", "1.5", "-3", " 5", "NaN"])
def test_a_budget_that_cannot_be_read_is_an_error_with_its_place(spelling: str) -> None:
    unreadable = pod("tenant", "0")
    unreadable["spec"]["containers"][0]["resources"] = {"limits": {RESOURCE: spelling}}
    with pytest.raises(QuantityError) as error:
        pod_budget_mib(unreadable, RESOURCE)
    assert f"pod immich/tenant container main resources.limits[{RESOURCE}]: " in str(error.value)


def test_sidecars_add_up_and_init_containers_count_at_their_highest() -> None:
    def container(name: str, budget: str, **more: str) -> dict[str, object]:
        return {"name": name, "resources": {"requests": {RESOURCE: budget}}, **more}

    several = pod("tenant", "0")
    several["spec"]["containers"] = [container("a", "1k"), container("b", "2k")]
    several["spec"]["initContainers"] = [container("side", "500", restartPolicy="Always"), container("load", "4k")]
    assert pod_budget_mib(several, RESOURCE) == 4500
    several["spec"]["initContainers"] = several["spec"]["initContainers"][:1]
    assert pod_budget_mib(several, RESOURCE) == 3500


def test_a_number_on_a_node_that_cannot_be_read_is_an_error_with_its_place() -> None:
    odd = node(resources={RESOURCE: "5K"})
    with pytest.raises(QuantityError, match=r"^node gpu-0 status\.capacity\[viktorbarzin\.me/gpumem\]: '5K' is not"):
        node_facts(odd, settings())


def test_a_node_of_two_kinds_is_refused_and_the_others_are_done(case: Case) -> None:
    twin = NodeCapacity(
        name="twin", node_name="gpu-0", labels={}, min_nodes=0, advertised_mib=1, share_resource="x/y", shares_count=0
    )
    case.cluster.add(node("gpu-0"))
    case.cluster.add(node("gpu-1"))
    with pytest.raises(CheckFailed, match="node gpu-0 matches the entries t4-node and twin"):
        case.advertise(settings(14000, twin=twin))
    assert case.shown("gpu-0") == (None, None)
    assert case.shown("gpu-1") == ("14k", "14k")


def test_a_node_that_is_of_no_kind_any_more_loses_the_number(case: Case) -> None:
    case.cluster.add(node())
    case.advertise(settings())
    case.cluster.write(node_ref(), {"metadata": {"labels": {"nvidia.com/gpu.present": None}}})
    case.advertise(settings(min_nodes=0))
    assert case.shown() == (None, None)


def test_too_few_nodes_are_said_and_no_failure(case: Case) -> None:
    assert case.advertise(settings()).actions == ()
    assert case.log.of("capacity_nodes_missing")[0]["min_nodes_count"] == 1


def test_a_dry_run_changes_nothing_and_says_what_it_would_do(case: Case) -> None:
    """Field fault 7: a dry run that said nothing was never turned off."""
    case.cluster.add(node())
    assert case.advertise(settings(), dry_run=True).lines() == ("node gpu-0: 14000 MiB (was absent)",)
    assert case.shown() == (None, None)
    assert case.log.of("capacity_set")[0]["advertised_mib"] == 14000
    assert not case.events.recorded


@pytest.mark.parametrize(("verb", "resource"), [("list", "Node"), ("list", "Pod"), ("patch", "Node/status")])
def test_a_missing_permission_surfaces_even_in_a_dry_run(case: Case, verb: str, resource: str) -> None:
    """Field fault 3: a missing nodes get/list stayed hidden for weeks."""
    case.cluster.add(node())
    case.cluster.forbid(verb, resource)
    with pytest.raises(Forbidden, match=f"cannot {verb} resource {resource}"):
        case.advertise(settings(), dry_run=True)


def test_an_unreachable_api_is_raised_not_counted_as_done(case: Case) -> None:
    case.cluster.add(node())
    case.cluster.fail_next("patch", ClusterError("no answer"))
    with pytest.raises(ClusterError, match="no answer"):
        case.advertise(settings())


def test_unset_takes_off_the_number_and_nothing_else(case: Case) -> None:
    """Applying the bare object would take cpu, addresses and conditions along: nobody owns those."""
    before = case.cluster.add(node())["status"]
    case.advertise(settings())
    assert case.unset().lines() == ("node gpu-0: number taken off",)
    assert case.cluster.now(node_ref())["status"] == before
    assert not case.cluster.owned_by(node_ref(), names.FIELD_MANAGER_CAPACITY)


def test_the_fake_wipes_a_status_whose_last_owner_applies_the_bare_object(case: Case) -> None:
    """What 1.36.1 does (measured): without this trap in the fake the test above could not fail."""
    case.cluster.add(node())
    case.advertise(settings())
    bare = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-0"}}
    case.cluster.apply(bare, field_manager=names.FIELD_MANAGER_CAPACITY, subresource="status")
    assert "status" not in case.cluster.now(node_ref())


def test_unset_takes_off_a_number_that_others_own_as_well(case: Case) -> None:
    case.cluster.add(node())
    by_hand = {"status": {"capacity": {RESOURCE: "14k"}, "allocatable": {RESOURCE: "14k"}}}
    case.cluster.write(node_ref(), by_hand, manager="kubectl-patch", subresource="status")
    case.advertise(settings())
    case.unset()
    assert case.shown() == (None, None)


def test_unset_works_where_only_allocatable_is_ours(case: Case) -> None:
    case.cluster.add(node())
    case.advertise(settings())
    case.cluster.write(node_ref(), {"status": {"capacity": {RESOURCE: None}}}, subresource="status")
    case.unset()
    assert case.shown() == (None, None)


def test_unset_leaves_a_number_that_was_never_ours_and_says_so(case: Case) -> None:
    case.cluster.add(node(resources={RESOURCE: "9k"}))
    assert case.unset().actions == ()
    assert case.shown() == ("9k", "9k")
    assert case.log.of("capacity_not_ours")[0]["node"] == "gpu-0"


def test_unset_a_second_time_finds_nothing(case: Case) -> None:
    case.cluster.add(node())
    case.advertise(settings())
    case.unset()
    assert case.unset().actions == ()


def test_unset_in_a_dry_run_takes_nothing_off(case: Case) -> None:
    case.cluster.add(node())
    case.advertise(settings())
    assert case.unset(dry_run=True).lines() == ("node gpu-0: number taken off",)
    assert case.shown() == ("14k", "14k")


def test_a_node_that_left_meanwhile_is_no_failure(case: Case) -> None:
    case.cluster.add(node("gpu-0"))
    case.cluster.add(node("gpu-1"))
    listed = case.cluster.list

    def list_then_leave(ref: ObjectRef, **selectors: str) -> list[dict[str, object]]:
        found = listed(ref, **selectors)
        if ref.kind == "Node":
            case.cluster.remove(node_ref("gpu-0"))
        return found

    case.cluster.list = list_then_leave  # type: ignore[method-assign]
    assert [action.node for action in case.advertise(settings()).actions] == ["gpu-1"]
    assert case.log.of("capacity_node_left") == [{"node": "gpu-0"}]
