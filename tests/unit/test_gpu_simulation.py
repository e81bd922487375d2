"""The lab's pods as processes on simulated cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.domain.estate.nodes import Node
from lab.fake_nvml.state import STATE_VARIABLE
from lab.gpu_simulation import Card, GpuSimulation, cards_of
from lab.usage import PodUsage, UsageStore

T4 = Card("Tesla T4", 15360, reserved_mib=450)


def pod(name: str, uid: str) -> dict[str, Any]:
    status = {"containerStatuses": [{"name": "main", "containerID": f"lab-pod-life://{uid}-main"}]}
    return {"metadata": {"namespace": "ns", "name": name, "uid": uid}, "status": status}


A = pod("a", "0a1b2c3d-1111-4222-8333-000000000001")
B = pod("b", "0a1b2c3d-1111-4222-8333-000000000002")


def lines(simulation: GpuSimulation, node: str, kind: str) -> list[str]:
    text = simulation.nodes[node].state_file.read_text()
    return [line for line in text.splitlines() if line.startswith(f"{kind} ")]


def test_the_use_of_a_nodes_pods_is_on_its_cards_and_in_its_proc_tree(tmp_path: Path) -> None:
    UsageStore(tmp_path).update({"ns/a": PodUsage("n1", 1000), "ns/b": PodUsage("n2", 500)})
    simulation = GpuSimulation(tmp_path, {"n1": [T4], "n2": [T4], "no-gpu": []})
    simulation.refresh([A, B])
    mib = 1024 * 1024
    assert lines(simulation, "n1", "proc") == [f"proc 0 C 1000 {1000 * mib}"]
    assert lines(simulation, "n2", "proc") == [f"proc 0 C 1000 {500 * mib}"]
    assert lines(simulation, "n1", "gpu") == [
        f"gpu 0 GPU-n1-0 {15360 * mib} {450 * mib} {1000 * mib} {(15360 - 450 - 1000) * mib} Tesla T4"
    ]
    cgroup = (simulation.nodes["n1"].proc_folder / "1000" / "cgroup").read_text()
    assert (
        "pod0a1b2c3d_1111_4222_8333_000000000001.slice/cri-containerd-0a1b2c3d-1111-4222-8333-000000000001-main"
        in cgroup
    )
    assert "no-gpu" not in simulation.nodes


def test_a_pod_stays_on_its_card_and_the_next_one_takes_the_roomiest(tmp_path: Path) -> None:
    store = UsageStore(tmp_path)
    simulation = GpuSimulation(tmp_path, {"n1": [T4, T4]})
    store.update({"ns/a": PodUsage("n1", 1000)})
    simulation.refresh([A])
    store.update({"ns/b": PodUsage("n1", 9000)})
    simulation.refresh([A, B])
    store.update({"ns/a": PodUsage("n1", 12000)})
    simulation.refresh([A, B])
    assert [line.split()[1:4] for line in lines(simulation, "n1", "proc")] == [["0", "C", "1000"], ["1", "C", "1001"]]


def test_a_pod_that_ended_frees_its_memory_and_a_new_one_of_its_name_is_another_process(tmp_path: Path) -> None:
    UsageStore(tmp_path).update({"ns/a": PodUsage("n1", 1000)})
    simulation = GpuSimulation(tmp_path, {"n1": [T4]})
    simulation.refresh([A])
    simulation.refresh([])
    assert lines(simulation, "n1", "proc") == []
    assert not (simulation.nodes["n1"].proc_folder / "1000").exists()
    simulation.refresh([pod("a", "0a1b2c3d-1111-4222-8333-000000000009")])
    assert [line.split()[3] for line in lines(simulation, "n1", "proc")] == ["1001"]


def test_memory_that_no_pod_owns_can_be_shown(tmp_path: Path) -> None:
    simulation = GpuSimulation(tmp_path, {"n1": [Card("Tesla T4", 15360, foreign_mib=700)]})
    simulation.refresh([])
    assert lines(simulation, "n1", "gpu")[0].split()[5] == str(700 * 1024 * 1024)


def test_an_estates_node_gives_its_cards() -> None:
    gpus = [
        {"model": "Tesla T4", "count": 2, "physical_mib": 15360, "reserve_mib": 1360},
        {"model": "Quadro P2000", "count": 1, "physical_mib": 5120, "reserve_mib": 200},
    ]
    node = Node.model_validate({"name": "n", "selector": {"a": "b"}, "gpus": gpus})
    assert cards_of(node) == (
        Card("Tesla T4", 15360, 450),
        Card("Tesla T4", 15360, 450),
        Card("Quadro P2000", 5120, 200),
    )


def test_an_exporter_is_pointed_at_the_nodes_own_state(tmp_path: Path) -> None:
    simulation = GpuSimulation(tmp_path, {"n1": [T4]})
    environment = simulation.nodes["n1"].exporter_environment()
    assert environment[STATE_VARIABLE] == str(simulation.nodes["n1"].state_file)
    assert (Path(environment["LD_LIBRARY_PATH"]) / "libnvidia-ml.so.1").is_file()
