"""Starts containerd and a kubelet, and ends them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from lab import processes
from lab.api import ApiError
from lab.errors import LabError
from lab.fake_nvml.build import ensure_library
from lab.nodes import is_ready
from lab.pki import Authority, write_kubeconfig
from lab.ports import free_ports
from lab.processes import LabProcess
from lab.real_kubelet import images, network
from lab.real_kubelet.configuration import containerd_config, kubelet_config
from lab.real_kubelet.footprint import KUBELET_PATH, footprint
from lab.real_kubelet.forward import Forward
from lab.real_kubelet.software import Software, find_software
from lab.running import Lab
from lab.toolchain import ensure_tools

# Logs go by the node's name, and no other name resolves to this machine everywhere.
NODE_NAME = "localhost"
CONTAINERD, KUBELET, FORWARD = "real-containerd", "real-kubelet", "real-forward"
POD_LOGS = "real-pods"
BOUND_SECONDS = 60.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class RealNode:
    """A node of a lab whose containers are real.

    `driver_folder` is where its pods see the driver's state, and `cdi_folder` where the container runtime
    looks for CDI specifications besides the usual folder (one that knows them).
    """

    lab: Lab
    folder: Path
    driver_folder: Path
    start_kubelet: Callable[[], None]

    @property
    def kubelet_folder(self) -> Path:
        """Where every kubelet has it: rendered pods name it."""
        return Path(KUBELET_PATH)

    @property
    def cdi_folder(self) -> Path:
        """One that is empty whatever the machine has in /var/run/cdi."""
        return self.folder / "cdi-specs"

    def restart_kubelet(self) -> None:
        """Ends the kubelet and starts it again, as an upgrade does; pods go on meanwhile."""
        self.lab.stop(KUBELET)
        self.start_kubelet()

    def advertise(self, resources: Mapping[str, int]) -> None:
        """Writes extended resources as a device plugin's kubelet would."""
        amounts = {name: str(count) for name, count in resources.items()}
        status = {"capacity": amounts, "allocatable": amounts}
        self.lab.api().patch(f"/api/v1/nodes/{NODE_NAME}/status", {"status": status})


@contextmanager
def joined(
    lab: Lab,
    labels: Mapping[str, str],
    helper_image: str,
    progress: Progress = lambda _: None,
    *,
    containerd: Path | None = None,
) -> Iterator[RealNode]:
    """A real kubelet of this machine in `lab`; nothing of it is left when the block ends.

    Args:
        lab: A lab that is up.
        labels: What the Node gets besides the kubelet's own.
        helper_image: The name under which the helpers' image is had.
        progress: Gets one line a step.
        containerd: A containerd 2.x instead of the machine's or the distribution's, for CDI.

    Raises:
        LabError: It cannot run here (ask `why_not` first), or did not become ready in time.
    """
    software = find_software(progress)
    if not isinstance(software, Software):
        raise LabError(software.reason)
    with_cdi = containerd is not None
    software = replace(software, containerd=containerd) if containerd is not None else software
    kubelet = ensure_tools(progress, extra=["kubelet"])["kubelet"]
    with footprint() as folder:
        try:
            yield _started(lab, folder, software, kubelet, labels, helper_image, progress, with_cdi=with_cdi)
        finally:
            _keep_logs(folder, lab.paths.logs / POD_LOGS)
            for name in (KUBELET, CONTAINERD, FORWARD):
                lab.stop(name)


def _started(
    lab: Lab,
    folder: Path,
    software: Software,
    kubelet: Path,
    labels: Mapping[str, str],
    helper_image: str,
    progress: Progress,
    *,
    with_cdi: bool,
) -> RealNode:
    node = RealNode(lab, folder, folder / "driver", partial(_start_kubelet, lab, folder, kubelet, labels))
    node.driver_folder.mkdir(mode=0o755)
    node.cdi_folder.mkdir(mode=0o755)
    network.make_bridge(software.busybox)
    _start_forward(lab, folder)
    progress("starting containerd")
    _start_containerd(lab, folder, software, helper_image, node.cdi_folder if with_cdi else None)
    progress("starting a real kubelet")
    node.start_kubelet()
    return node


def _start_forward(lab: Lab, folder: Path) -> None:
    settings = folder / "forward.json"
    target_port = urlsplit(lab.server).port
    Forward(network.SERVICE_ADDRESS, 443, target_port or 443, network.POD_RANGE).write(settings)
    command = [sys.executable, "-m", "lab.real_kubelet.forward", str(settings)]
    lab.spawn(FORWARD, command, {"PYTHONPATH": str(images.PROJECT)})


def _start_containerd(lab: Lab, folder: Path, software: Software, helper_image: str, cdi: Path | None) -> None:
    network.write_cni(folder / "cni", folder / "cni-addresses")
    config = folder / "containerd.toml"
    config.write_text(containerd_config(folder, software, cdi))
    # It looks for its shim beside itself and then on PATH.
    path = os.pathsep.join([str(software.containerd.parent), str(software.runc.parent), os.environ["PATH"]])
    process = lab.spawn(CONTAINERD, [str(software.containerd), "-c", str(config)], {"PATH": path})
    ctr = [str(_beside(software.containerd, "ctr")), "-a", str(folder / "containerd.sock"), "-n", "k8s.io"]
    _wait("containerd", process, lambda: _succeeds([*ctr, "version"]))
    driver = images.helper_files(software.busybox, ensure_library())
    images.write_image(folder / "helper.tar", helper_image, driver, images.helper_environment())
    plain = images.busybox_files(software.busybox)
    images.write_image(folder / "tenant.tar", images.TENANT_IMAGE, plain)
    images.write_image(folder / "sandbox.tar", images.SANDBOX_IMAGE, plain, waits=True)
    # From 2.x on the daemon itself would unpack, and only into a snapshotter that it was configured for.
    local = [] if cdi is None else ["--local"]
    for name in ("helper", "tenant", "sandbox"):
        done = subprocess.run(
            [*ctr, "images", "import", *local, "--snapshotter=native", str(folder / f"{name}.tar")],
            capture_output=True,
            text=True,
            timeout=BOUND_SECONDS,
        )
        if done.returncode != 0:
            raise LabError(f"containerd refused the {name} image: {done.stderr.strip()}")


def _start_kubelet(lab: Lab, folder: Path, kubelet: Path, labels: Mapping[str, str]) -> None:
    user = f"system:node:{NODE_NAME}"
    lab.paths.identities.mkdir(mode=0o700, exist_ok=True)
    pair = Authority.load(lab.paths.pki, "ca").client(f"node-{NODE_NAME}", user, ["system:nodes"])
    kubeconfig = lab.paths.identities / f"node-{NODE_NAME}.kubeconfig"
    ca = lab.paths.pki / "ca.crt"
    write_kubeconfig(kubeconfig, lab.server, ca, user, pair=pair)
    port, health_port = free_ports(2)
    config = folder / "kubelet.yaml"
    config.write_text(yaml.safe_dump(kubelet_config(folder, folder / POD_LOGS, ca, (port, health_port))))
    command = [
        str(kubelet),
        f"--config={config}",
        f"--kubeconfig={kubeconfig}",
        f"--root-dir={KUBELET_PATH}",
        f"--cert-dir={folder / 'kubelet-pki'}",
        f"--hostname-override={NODE_NAME}",
        f"--node-labels={','.join(f'{key}={value}' for key, value in sorted(labels.items()))}",
    ]
    process = lab.spawn(KUBELET, command)
    _wait("the real kubelet", process, lambda: _node_is_ready(lab))


def _node_is_ready(lab: Lab) -> bool:
    try:
        node = lab.api().get(f"/api/v1/nodes/{NODE_NAME}")
    except ApiError:
        return False
    return is_ready(node) and not node["spec"].get("taints")


def _keep_logs(folder: Path, target: Path) -> None:
    """What the pods said stays with the lab's own logs: it is wanted most where something failed."""
    shutil.rmtree(target, ignore_errors=True)
    source = folder / POD_LOGS
    if source.is_dir():
        # Files come and go while the kubelet runs; a copy that lacks one is still worth having.
        with contextlib.suppress(shutil.Error, OSError):
            shutil.copytree(source, target)


def _beside(program: Path, name: str) -> Path:
    beside = program.with_name(name)
    if beside.is_file():
        return beside
    if found := shutil.which(name):
        return Path(found)
    raise LabError(f"{program} is there, but {name}, which comes with it, is neither beside it nor on PATH")


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, timeout=BOUND_SECONDS).returncode == 0


def _wait(what: str, process: LabProcess, ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND_SECONDS
    while not ready():
        if not processes.alive(process) or time.monotonic() > deadline:
            fate = f"was not ready after {BOUND_SECONDS:.0f} s" if processes.alive(process) else "ended"
            raise LabError(f"{what} {fate} ({process.log}):\n{processes.log_tail(process)}")
        time.sleep(0.1)
