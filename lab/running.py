"""A lab that is up, as the command line, the demo and the tests hold it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import processes
from lab.api import Api, Credentials
from lab.control_plane import wait_until_healthy
from lab.errors import LabInputError
from lab.identity import write_service_account_kubeconfig
from lab.nodes import Nodes
from lab.pki import KeyPair
from lab.processes import LabProcess
from lab.state import LabNode, LabPaths, LabState, load, save
from lab.usage import PodUsage, UsageStore, set_workload_usage

POD_LIFE = "pod-life"
PYTHON_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Lab:
    """A lab that is up. Every method reads the state anew: other commands may have changed it."""

    paths: LabPaths

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.paths.name

    @property
    def dir(self) -> Path:
        """The lab's folder."""
        return self.paths.dir

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig (mode 0600, everything embedded)."""
        return self.paths.kubeconfig

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://127.0.0.1:{self._state().ports['apiserver']}"

    @property
    def usage(self) -> UsageStore:
        """GPU memory that the simulated pods use."""
        return UsageStore(self.paths.dir)

    def bin(self, name: str) -> Path:
        """The path of one of the lab's programs, such as ``kubectl``.

        Raises:
            LabInputError: The lab has no such program.
        """
        tools = self._state().tools
        if name not in tools:
            raise LabInputError(f"the lab has no program {name!r}; it has: {', '.join(sorted(tools))}")
        return Path(tools[name])

    def api(self) -> Api:
        """An administrator's client of the API server."""
        return admin_api(self.paths, self._state().ports["apiserver"])

    def node_add(self, *nodes: LabNode) -> None:
        """Registers nodes and waits until pods can be scheduled on them."""
        with self._changing() as state:
            if any(node.kind == "bare" for node in nodes):
                ensure_pod_life(self.paths, state)
            self._nodes(state).add(nodes)

    def node_remove(self, name: str) -> None:
        """Takes a node away: its kubelet ends, its Node object is deleted."""
        with self._changing() as state:
            self._nodes(state).remove(name)

    def node_adopt(self, node: LabNode) -> None:
        """Gives a Node object that an autoscaler has made a kubelet, or pod life; see `lab.nodes.Nodes.adopt`."""
        with self._changing() as state:
            if node.kind == "bare":
                ensure_pod_life(self.paths, state)
            self._nodes(state).adopt(node)

    def node_let_go(self, name: str) -> None:
        """Ends the kubelet, if any, of a node that an autoscaler has deleted."""
        with self._changing() as state:
            self._nodes(state).let_go(name)

    def node_reregister(self, name: str, *, wait: bool = True) -> None:
        """Deletes a Node object and registers the machine again; see `lab.nodes.Nodes.reregister`."""
        with self._changing() as state:
            self._nodes(state).reregister(name, wait=wait)

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig with the rights of that ServiceAccount only (a token for one day)."""
        return write_service_account_kubeconfig(self.paths, self.api(), self.server, namespace, name)

    def set_usage(self, namespace: str, workload: str, used_mib: int) -> list[str]:
        """Sets the MiB that each running pod of a workload uses; returns the pods."""
        return set_workload_usage(self.api(), self.usage, namespace, workload, used_mib)

    def read_usage(self) -> dict[str, PodUsage]:
        """What each pod uses, by ``namespace/name``."""
        return self.usage.read()

    def spawn(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> LabProcess:
        """Starts one of the project's helpers as a process of this lab, log in ``logs/<name>.log``.

        It outlives the caller and ends with `stop` or with the lab.

        Raises:
            LabInputError: A process of that name runs already.
            LabError: The program cannot be executed.
        """
        with self._changing() as state:
            old = state.process(name)
            if old is not None and processes.alive(old):
                raise LabInputError(f"lab {self.name!r} runs {name!r} already (process {old.pid})")
            if old is not None:
                state.processes.remove(old)
            started = processes.start(
                name, command, lab_dir=self.paths.dir, log=self.paths.logs / f"{name}.log", env=env
            )
            state.processes.append(started)
            save(self.paths, state)
        return started

    def stop(self, name: str) -> None:
        """Asks a process that `spawn` started to end, and ends it; nothing happens where there is none."""
        with self._changing() as state:
            if process := state.process(name):
                processes.end(process)
                state.processes.remove(process)
                save(self.paths, state)

    def set_providers(self, providers: str) -> None:
        """Remembers which Terraform providers the lab uses, for `status` and reports."""
        with self._changing() as state:
            state.providers = providers
            save(self.paths, state)

    def _state(self) -> LabState:
        return require(self.paths)

    @contextmanager
    def _changing(self) -> Iterator[LabState]:
        with self.paths.locked():
            yield self._state()

    def _nodes(self, state: LabState) -> Nodes:
        tools = {name: Path(path) for name, path in state.tools.items()}
        return Nodes(self.paths, state, admin_api(self.paths, state.ports["apiserver"]), tools)


def ensure_pod_life(paths: LabPaths, state: LabState) -> None:
    """Starts pod life where it does not run, and waits until it answers."""
    old = state.process(POD_LIFE)
    if old is not None and processes.alive(old):
        return
    if old is not None:
        state.processes.remove(old)
    process = processes.start(
        POD_LIFE,
        [sys.executable, "-m", "lab.pod_life", "--lab-dir", str(paths.dir)],
        lab_dir=paths.dir,
        log=paths.logs / f"{POD_LIFE}.log",
        env={"PYTHONPATH": str(PYTHON_ROOT), "PYTHONUNBUFFERED": "1"},
    )
    state.processes.append(process)
    save(paths, state)
    wait_until_healthy(admin_api(paths, state.ports[POD_LIFE]), "/healthz", process, [])


def require(paths: LabPaths) -> LabState:
    """The state of a lab that is up.

    Raises:
        LabInputError: It is not.
    """
    state = load(paths)
    if state is None or state.phase != "ready":
        raise LabInputError(f"lab {paths.name!r} is not up in {paths.dir.parent}: `gpumem lab up --lab {paths.name}`")
    return state


def key_pair(paths: LabPaths, name: str) -> KeyPair:
    """The files of one of the lab's certificates."""
    return KeyPair(paths.pki / f"{name}.crt", paths.pki / f"{name}.key")


def admin_api(paths: LabPaths, port: int) -> Api:
    """An administrator's client of the program on that port."""
    pair = key_pair(paths, "admin")
    return Api(Credentials(port, paths.pki / "ca.crt", pair.cert, pair.key))
