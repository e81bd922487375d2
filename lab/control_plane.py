"""Starts etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from lab import processes
from lab.api import Api, ApiError, Credentials
from lab.errors import LabError
from lab.pki import KeyPair, write_kubeconfig
from lab.processes import LabProcess
from lab.state import LabPaths

READY_BOUND_SECONDS = 90.0
POLL_SECONDS = 0.05
SERVICE_RANGE = "10.96.0.0/16"
PORT_NAMES = ("etcd", "etcd-peer", "apiserver", "controller-manager", "scheduler", "pod-life")
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
# The default 20-50 requests a second would make the clients, not the cluster, the bottleneck at scale.
CLIENT_QPS, CLIENT_BURST = 500, 1000

Started = Callable[[LabProcess], None]

GANG_GATES = "--feature-gates=GenericWorkload=true,GangScheduling=true"


class ControlPlane:
    """The command lines of one lab's control plane, and the wait until it answers."""

    def __init__(
        self,
        paths: LabPaths,
        ports: Mapping[str, int],
        tools: Mapping[str, Path],
        *,
        endpoint_routing: bool = False,
        gang_scheduling: bool = False,
    ) -> None:
        self._paths = paths
        self._ports = ports
        self._tools = tools
        self._endpoint_routing = endpoint_routing
        self._gang_scheduling = gang_scheduling

    def start(self, started: Started) -> None:
        """Starts all four and waits until each answers; `started` is told of each process at once.

        Raises:
            LabError: One of them ended or did not answer in time; the message has its log's tail.
        """
        etcd = self._run("etcd", self._etcd(), started)
        apiserver = self._run("kube-apiserver", self._apiserver(), started)
        wait_until_healthy(self._api("apiserver"), "/readyz", apiserver, [etcd])
        # Not earlier: these two end at once where no API server answers.
        controllers = self._run("kube-controller-manager", self._controller_manager(), started)
        scheduler = self._run("kube-scheduler", self._scheduler(), started)
        wait_until_healthy(self._api("controller-manager"), "/healthz", controllers, [etcd, apiserver])
        wait_until_healthy(self._api("scheduler"), "/healthz", scheduler, [etcd, apiserver])
        # Admission refuses every pod of a namespace until its default ServiceAccount is there.
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        wait_until_healthy(self._api("apiserver"), account, controllers, [etcd, apiserver])

    def _api(self, port_name: str) -> Api:
        pair = self._pair("admin")
        return Api(Credentials(self._ports[port_name], self._paths.pki / "ca.crt", pair.cert, pair.key))

    def _run(self, name: str, arguments: list[str], started: Started) -> LabProcess:
        process = processes.start(
            name,
            [str(self._tools[name]), *arguments],
            lab_dir=self._paths.dir,
            log=self._paths.logs / f"{name}.log",
            env={"TMPDIR": str(self._paths.scratch)},
        )
        started(process)
        return process

    def _pki(self, name: str) -> str:
        return str(self._paths.pki / name)

    def _pair(self, name: str) -> KeyPair:
        return KeyPair(self._paths.pki / f"{name}.crt", self._paths.pki / f"{name}.key")

    def _kubeconfig(self, component: str) -> Path:
        return write_kubeconfig(
            self._paths.pki / f"{component}.kubeconfig",
            f"https://127.0.0.1:{self._ports['apiserver']}",
            self._paths.pki / "ca.crt",
            component,
            pair=self._pair(component),
        )

    def _etcd(self) -> list[str]:
        client = f"https://127.0.0.1:{self._ports['etcd']}"
        peer = f"https://127.0.0.1:{self._ports['etcd-peer']}"
        return [
            "--name=lab",
            f"--data-dir={self._paths.etcd}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=lab={peer}",
            # Other users of this machine reach loopback too, and etcd holds every secret.
            *self._etcd_tls(""),
            *self._etcd_tls("peer-"),
            "--unsafe-no-fsync",  # the data lives as long as the lab
            "--log-level=warn",
        ]

    def _etcd_tls(self, prefix: str) -> list[str]:
        return [
            f"--{prefix}cert-file={self._pki('etcd.crt')}",
            f"--{prefix}key-file={self._pki('etcd.key')}",
            f"--{prefix}trusted-ca-file={self._pki('ca.crt')}",
            f"--{prefix}client-cert-auth",
        ]

    def _apiserver(self) -> list[str]:
        return [
            f"--etcd-servers=https://127.0.0.1:{self._ports['etcd']}",
            f"--etcd-cafile={self._pki('ca.crt')}",
            f"--etcd-certfile={self._pki('etcd.crt')}",
            f"--etcd-keyfile={self._pki('etcd.key')}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._ports['apiserver']}",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",  # EndpointSlices refuse a loopback address
            f"--tls-cert-file={self._pki('apiserver.crt')}",
            f"--tls-private-key-file={self._pki('apiserver.key')}",
            f"--client-ca-file={self._pki('ca.crt')}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged",
            f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._pki('service-account.pub')}",
            f"--service-account-signing-key-file={self._pki('service-account.key')}",
            # A bare node's address is the host name localhost: only so can logs reach pod life.
            "--kubelet-preferred-address-types=Hostname,InternalIP",
            f"--kubelet-client-certificate={self._pki('apiserver-kubelet-client.crt')}",
            f"--kubelet-client-key={self._pki('apiserver-kubelet-client.key')}",
            # How most managed clusters run: a Service's endpoints are asked for, not its address. Off where
            # nobody needs it: then an ExternalName Service can stand for an aggregated API on loopback.
            *(["--enable-aggregator-routing"] if self._endpoint_routing else []),
            *(["--runtime-config=scheduling.k8s.io/v1alpha2=true", GANG_GATES] if self._gang_scheduling else []),
            # Aggregated APIs (external metrics) need a front proxy.
            f"--requestheader-client-ca-file={self._pki('front-proxy-ca.crt')}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={self._pki('front-proxy-client.crt')}",
            f"--proxy-client-key-file={self._pki('front-proxy-client.key')}",
        ]

    def _controller_manager(self) -> list[str]:
        return [
            *self._secured("controller-manager"),
            f"--kubeconfig={self._kubeconfig('controller-manager')}",
            "--leader-elect=false",
            "--use-service-account-credentials",
            f"--root-ca-file={self._pki('ca.crt')}",
            f"--service-account-private-key-file={self._pki('service-account.key')}",
            f"--kube-api-qps={CLIENT_QPS}",
            f"--kube-api-burst={CLIENT_BURST}",
            # Autoscaling in seconds, so that a demonstration of it needs no minutes.
            "--horizontal-pod-autoscaler-sync-period=3s",
            "--horizontal-pod-autoscaler-downscale-stabilization=10s",
        ]

    def _scheduler(self) -> list[str]:
        kubeconfig = self._kubeconfig("scheduler")
        configuration = {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "leaderElection": {"leaderElect": False},
            "clientConnection": {"kubeconfig": str(kubeconfig), "qps": CLIENT_QPS, "burst": CLIENT_BURST},
        }
        path = self._paths.pki / "scheduler.yaml"
        path.write_text(yaml.safe_dump(configuration))
        gates = [GANG_GATES] if self._gang_scheduling else []
        return [*self._secured("scheduler"), f"--config={path}", *gates]

    def _secured(self, component: str) -> list[str]:
        kubeconfig = self._paths.pki / f"{component}.kubeconfig"
        return [
            "--bind-address=127.0.0.1",
            f"--secure-port={self._ports[component]}",
            f"--tls-cert-file={self._pki('apiserver.crt')}",
            f"--tls-private-key-file={self._pki('apiserver.key')}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
        ]


def wait_until_healthy(api: Api, path: str, process: LabProcess, needed: list[LabProcess]) -> None:
    """Polls `path` until it answers 200.

    Args:
        api: The client of the program that is asked.
        path: What is asked.
        process: The program whose log explains a timeout.
        needed: Programs whose end makes waiting pointless.

    Raises:
        LabError: A program ended, or `READY_BOUND_SECONDS` went by.
    """
    deadline = time.monotonic() + READY_BOUND_SECONDS
    while True:
        try:
            api.text(path)
        except ApiError as error:
            said = error
        else:
            return
        for each in [*needed, process]:
            if not processes.alive(each):
                raise LabError(
                    f"{each.name} ended while the lab was starting; its last words ({each.log}):\n"
                    f"{processes.log_tail(each)}"
                )
        if time.monotonic() > deadline:
            raise LabError(
                f"{process.name} did not answer {path} within {READY_BOUND_SECONDS:.0f} s ({said}); "
                f"its log ({process.log}) ends with:\n{processes.log_tail(process)}"
            )
        time.sleep(POLL_SECONDS)
