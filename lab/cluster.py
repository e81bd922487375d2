"""Starts, ends and describes labs: what `gpumem lab`, the demo and the tests call."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from lab import processes
from lab.api import ApiError
from lab.control_plane import CONTROL_PLANE, PORT_NAMES, ControlPlane
from lab.errors import LabError
from lab.firewall import remove_kubelet_chains
from lab.leftovers import KUBELET_LOGS, remove_leftovers
from lab.nodes import Nodes, is_ready
from lab.pki import ADMIN, create_pki, write_kubeconfig
from lab.ports import free_ports
from lab.processes import LabProcess
from lab.running import POD_LIFE, Lab, admin_api, ensure_pod_life, key_pair, require
from lab.state import DEFAULT_NAME, UNKNOWN_PROVIDERS, LabNode, LabPaths, LabState, load, save
from lab.toolchain import KUBERNETES_VERSION, ensure_tools

__all__ = ["Lab", "LabNode", "down", "get", "status", "up"]

Progress = Callable[[str], None]


def _silent(_: str) -> None:
    """Progress that nobody wants to see."""


def up(
    name: str = DEFAULT_NAME,
    nodes: Sequence[LabNode] = (),
    root: Path | None = None,
    progress: Progress = _silent,
    *,
    endpoint_routing: bool = False,
    gang_scheduling: bool = False,
) -> Lab:
    """Starts a lab, or returns the one that runs already (and says so).

    Args:
        name: The lab's name; labs of different names or roots run side by side.
        nodes: Simulated nodes to register.
        root: The folder that gets ``.lab/``; the project around the current folder if not given.
        progress: Gets one line a step.
        endpoint_routing: The API server reaches Services by their endpoints (`--enable-aggregator-routing`).
        gang_scheduling: The scheduler's own gangs (PodGroup, alpha) are on.

    Raises:
        LabError: A program could not be built or started; everything started is ended again.
        LabInputError: The name or the nodes make no sense.
    """
    paths = LabPaths(root, name)
    with paths.locked():
        state = load(paths)
        if state is not None and _answers(paths, state):
            progress(f"lab {name!r} is up already: nothing to do ({paths.kubeconfig})")
            return Lab(paths)
        if _clean(paths, state):
            progress(f"lab {name!r}: cleaned up what a lab that had died left behind")
        tools = ensure_tools(progress)
        try:
            with _terminated_as_exception():
                _start(
                    paths, nodes, tools, progress, endpoint_routing=endpoint_routing, gang_scheduling=gang_scheduling
                )
        except BaseException:  # an interrupt, too, must leave nothing behind
            _clean(paths, load(paths))
            raise
    return Lab(paths)


def down(name: str = DEFAULT_NAME, root: Path | None = None) -> bool:
    """Ends a lab and removes all but its logs; False where there was none.

    A damaged state file does not stop it: processes are found by their mark, too.
    """
    paths = LabPaths(root, name)
    if not paths.dir.is_dir():
        return False
    with paths.locked():
        return _clean(paths, _load_if_readable(paths))


def status(name: str = DEFAULT_NAME, root: Path | None = None) -> dict[str, Any]:
    """What `gpumem lab status` shows: at least ``name, ready, kubeconfig, nodes, providers``."""
    paths = LabPaths(root, name)
    state = load(paths)
    answer: dict[str, Any] = {
        "name": name,
        "ready": False,
        "kubeconfig": None,
        "kubernetes": KUBERNETES_VERSION,
        "nodes": [],
        "providers": UNKNOWN_PROVIDERS,
        "processes": [],
        "logs": str(paths.logs),
    }
    if state is None:
        return answer
    answer["kubeconfig"] = str(paths.kubeconfig)
    answer["providers"] = state.providers
    answer["ready"] = _answers(paths, state)
    answer["processes"] = [
        {
            "name": process.name,
            "pid": process.pid,
            "alive": processes.alive(process),
            "resident_mib": processes.resident_mib(process),
        }
        for process in state.processes
    ]
    ready = _ready_nodes(paths, state) if answer["ready"] else set()
    answer["nodes"] = [{"name": node.name, "kind": node.kind, "ready": node.name in ready} for node in state.nodes]
    return answer


def get(name: str = DEFAULT_NAME, root: Path | None = None) -> Lab:
    """The running lab of that name.

    Raises:
        LabInputError: It is not up.
    """
    paths = LabPaths(root, name)
    require(paths)
    return Lab(paths)


def _start(
    paths: LabPaths,
    nodes: Sequence[LabNode],
    tools: Mapping[str, Path],
    progress: Progress,
    *,
    endpoint_routing: bool,
    gang_scheduling: bool,
) -> None:
    began = time.monotonic()
    paths.clean()
    for log in paths.logs.glob("*.log"):  # kept since the last `down`, until now
        log.unlink()
    for folder in (paths.dir, paths.logs, paths.scratch):
        folder.mkdir(mode=0o700, parents=True, exist_ok=folder != paths.scratch)
    state = LabState(name=paths.name, tools={tool: str(path) for tool, path in tools.items()})
    state.ports = dict(zip(PORT_NAMES, free_ports(len(PORT_NAMES)), strict=True))
    save(paths, state)

    def started(process: LabProcess) -> None:
        state.processes.append(process)
        save(paths, state)

    progress(f"starting Kubernetes {KUBERNETES_VERSION} on 127.0.0.1:{state.ports['apiserver']}")
    create_pki(paths.pki)
    ControlPlane(paths, state.ports, tools, endpoint_routing=endpoint_routing, gang_scheduling=gang_scheduling).start(
        started
    )
    server = f"https://127.0.0.1:{state.ports['apiserver']}"
    write_kubeconfig(paths.kubeconfig, server, paths.pki / "ca.crt", ADMIN, pair=key_pair(paths, "admin"))
    progress(f"control plane ready after {time.monotonic() - began:.1f} s")
    if any(node.kind == "bare" for node in nodes):
        ensure_pod_life(paths, state)
    if nodes:
        Nodes(paths, state, admin_api(paths, state.ports["apiserver"]), tools).add(list(nodes))
        progress(f"{len(nodes)} nodes ready after {time.monotonic() - began:.1f} s")
    state.phase = "ready"
    save(paths, state)


def _clean(paths: LabPaths, state: LabState | None) -> bool:
    """Ends and removes whatever there is of a lab; True if there was anything."""
    known = [] if state is None else [process for process in state.processes if processes.alive(process)]
    processes.stop(reversed(known))
    strays = processes.stop_marked(paths.dir)
    remove_leftovers(paths.logs.glob(KUBELET_LOGS))
    if state is not None and state.hollow_nodes_started:
        remove_kubelet_chains()
    left = paths.state.exists() or paths.etcd.exists() or paths.scratch.exists()
    paths.clean()
    return bool(known or strays or left)


def _answers(paths: LabPaths, state: LabState) -> bool:
    """Whether all that was started still runs and the API server says it is ready."""
    needed = [*CONTROL_PLANE, POD_LIFE] if any(node.kind == "bare" for node in state.nodes) else [*CONTROL_PLANE]
    if state.phase != "ready":
        return False
    for role in needed:
        process = state.process(role)
        if process is None or not processes.alive(process):
            return False
    try:
        admin_api(paths, state.ports["apiserver"]).text("/readyz")
    except ApiError:
        return False
    return True


def _ready_nodes(paths: LabPaths, state: LabState) -> set[str]:
    items = admin_api(paths, state.ports["apiserver"]).get("/api/v1/nodes")["items"]
    return {node["metadata"]["name"] for node in items if is_ready(node)}


def _load_if_readable(paths: LabPaths) -> LabState | None:
    try:
        return load(paths)
    except LabError:
        return None


@contextmanager
def _terminated_as_exception() -> Iterator[None]:
    """SIGTERM raises SystemExit inside, so that a half-started lab is taken down again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(_number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
