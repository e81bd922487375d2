"""What containerd and the kubelet are told: one folder for all but what pods name, and no outside address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.real_kubelet.footprint import CDI_PATH
from lab.real_kubelet.images import SANDBOX_IMAGE
from lab.real_kubelet.software import Software

_CRI = 'plugins."io.containerd.grpc.v1.cri"'


def containerd_config(folder: Path, software: Software, cdi: Path | None = None) -> str:
    """containerd.toml (version 2, which 1.6 and 2.x read); `cdi` is where a 2.x looks for CDI specifications, too."""
    # The usual folder is what a rendered agent's pod mounts.
    cdi_keys = "" if cdi is None else f'\n  enable_cdi = true\n  cdi_spec_dirs = ["{cdi}", "{CDI_PATH}"]'
    runtimes = "\n".join(_runtime(name, folder, software) for name in ("runc", "nvidia"))
    return f"""version = 2
root = "{folder}/containerd"
state = "{folder}/run"
disabled_plugins = ["io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[{_CRI}]
  sandbox_image = "{SANDBOX_IMAGE}"
  # Without CAP_SYS_RESOURCE no score may be lowered, and every sandbox would die of it.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true{cdi_keys}
  [{_CRI}.cni]
    bin_dir = "{software.cni}"
    conf_dir = "{folder}/cni"
  [{_CRI}.containerd]
    # Copies instead of overlays: it works on every file system, and the images have 2 MB.
    snapshotter = "native"
    default_runtime_name = "runc"
{runtimes}
"""


def _runtime(name: str, folder: Path, software: Software) -> str:
    """`nvidia` is what the rendered RuntimeClass asks for; the stand-in driver needs nothing from it."""
    return f"""    [{_CRI}.containerd.runtimes.{name}]
      runtime_type = "io.containerd.runc.v2"
      [{_CRI}.containerd.runtimes.{name}.options]
        BinaryName = "{software.runc}"
        Root = "{folder}/runc"
        SystemdCgroup = false"""


def kubelet_config(folder: Path, pod_logs: Path, ca: Path, ports: tuple[int, int]) -> dict[str, Any]:
    """A KubeletConfiguration; the ports are the kubelet's own and its health's."""
    port, health_port = ports
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "address": "127.0.0.1",
        "port": port,
        "readOnlyPort": 0,
        "healthzPort": health_port,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(ca)},
        },
        "authorization": {"mode": "Webhook"},
        # An address where nothing answers: no helper may need a name to be resolved.
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        "failCgroupV1": False,  # kubelets refuse cgroup v1 unless told otherwise
        "cgroupDriver": "cgroupfs",
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "podLogsDir": str(pod_logs),
        "volumePluginDir": f"{folder}/volume-plugins",
        "evictionHard": {"memory.available": "10Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,  # what was imported cannot be pulled again
        "nodeStatusUpdateFrequency": "1s",
        "syncFrequency": "5s",
    }
