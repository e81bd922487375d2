"""Puts the exporter together and runs it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from helpers.adapters.kubelet_pods import ApiPods, HttpAccess, KubeletPods
from helpers.adapters.proc_cgroup import HostProc
from helpers.adapters.process import stopped_by_signal
from helpers.apps.exporter.board import Board
from helpers.apps.exporter.server import MetricsServer
from helpers.apps.exporter.settings import ExporterSettings
from helpers.domain.errors import ExitCode, InputError
from helpers.domain.telemetry.attribution import ProcessTenant
from helpers.domain.telemetry.exposition import exposition
from helpers.domain.telemetry.metrics import families
from helpers.domain.telemetry.reading import Budget, RestartNeeded, Snapshot
from helpers.ports.clock import Clock
from helpers.ports.log import Log
from helpers.ports.telemetry import PodList
from helpers.services.dcgm import DcgmSampler
from helpers.services.exporter import Sampler, SampleRules
from helpers.services.pod_cache import PodCache

_FIRST_PODS_SECONDS = 5.0


class _Sampling(Protocol):
    def sample(self) -> Snapshot: ...


@dataclass(frozen=True)
class _Exporter:
    sampling: _Sampling
    pods: PodCache | None
    close: Callable[[], None]


def run_exporter(
    settings: ExporterSettings, *, clock: Clock, log: Log, version: str, stop: threading.Event | None = None
) -> ExitCode:
    """Samples and serves until `stop` is set; None: until SIGTERM or SIGINT.

    Returns:
        OK after a stop; DEPENDENCY where only a new process can read the driver.

    Raises:
        InputError: The address cannot be listened on, or the environment lacks what the settings rest on.
    """
    if stop is None:
        with stopped_by_signal() as stopped:
            return run_exporter(settings, clock=clock, log=log, version=version, stop=stopped)
    exporter = _assembled(settings, clock, log)
    board = Board(longest_age_seconds=settings.longest_age_seconds, version=version, clock=clock)
    server = _listening(settings, board)
    server.start()
    log.info("started", settings=settings.model_dump(mode="json"), port=server.port)
    try:
        rounds = _rounds(exporter, board, settings.interval_seconds, clock, stop)
    except RestartNeeded as error:
        log.error("restart_needed", reason=str(error))
        return ExitCode.DEPENDENCY
    finally:
        server.close()
        _end(exporter)
    log.info("stopped", rounds=rounds)
    return ExitCode.OK


def sample_once(settings: ExporterSettings, *, clock: Clock, log: Log, version: str) -> tuple[str, ExitCode]:
    """One round as metrics text, nothing served.

    Returns:
        The text, and OK where every device's sample is whole, CHECK_FAILED where one is not, DEPENDENCY
        where the driver (or dcgm-exporter) did not answer at all.
    """
    exporter = _assembled(settings, clock, log)
    try:
        snapshot = exporter.sampling.sample()
    except RestartNeeded as error:
        log.error("restart_needed", reason=str(error))
        return "", ExitCode.DEPENDENCY
    finally:
        _end(exporter)
    text = exposition(families(snapshot, version=version))
    if not snapshot.source_up:
        return text, ExitCode.DEPENDENCY
    return text, ExitCode.OK if snapshot.whole else ExitCode.CHECK_FAILED


def _rounds(exporter: _Exporter, board: Board, interval_seconds: float, clock: Clock, stop: threading.Event) -> int:
    rounds = 0
    while not stop.is_set():
        began_seconds = clock.monotonic_seconds()
        board.publish(exporter.sampling.sample())
        rounds += 1
        stop.wait(max(0.0, interval_seconds - (clock.monotonic_seconds() - began_seconds)))
    return rounds


def _end(exporter: _Exporter) -> None:
    if exporter.pods is not None:
        exporter.pods.stop()
    exporter.close()


def _listening(settings: ExporterSettings, board: Board) -> MetricsServer:
    address, port = settings.listen_address, settings.listen_port
    try:
        return MetricsServer(address, port, metrics=board.metrics, healthy=board.healthy)
    except OSError as error:
        raise InputError(
            f"listen {address}:{port}: {error.strerror or error}; choose another address or port"
        ) from error


def _assembled(settings: ExporterSettings, clock: Clock, log: Log) -> _Exporter:
    pods = _pod_cache(settings, clock, log)
    if pods is not None:
        pods.start()
        # The first round would otherwise call every pod unknown; a slow API delays it no longer than this.
        pods.ask(_FIRST_PODS_SECONDS)
    if settings.source == "dcgm":
        access = HttpAccess(settings.dcgm_url.removesuffix("/metrics"))
        dcgm = DcgmSampler(
            lambda: access.get("/metrics").decode(errors="replace"),
            pods,
            collection_seconds=settings.dcgm_collection_seconds,
            clock=clock,
            log=log,
        )
        return _Exporter(dcgm, pods, lambda: None)
    return _with_nvml(settings, pods, clock, log)


def _with_nvml(settings: ExporterSettings, pods: PodCache | None, clock: Clock, log: Log) -> _Exporter:
    from helpers.adapters.nvml.gpus import NvmlDevices  # noqa: PLC0415 - not loaded where DCGM is the source

    devices = NvmlDevices(deadline_seconds=settings.nvml_deadline_seconds, cgroup_root=settings.cgroup_root)
    required = settings.kubernetes if settings.require_host_pids is None else settings.require_host_pids
    rules = SampleRules(
        require_host_pids=required,
        tenants=tuple(ProcessTenant(one.name, one.unit, one.comm) for one in settings.tenants),
        budgets=tuple(Budget("", "", one.name, one.budget_mib) for one in settings.tenants if one.budget_mib),
    )
    processes = HostProc(settings.host_proc, settings.host_cgroup)
    if not required and not processes.shows_host_pids():
        log.warning(
            "host_pids_not_shown",
            host_proc=str(settings.host_proc),
            reason="processes of other pid namespaces are unattributed, or mistaken for others by older drivers",
        )
    sampler = Sampler(devices, processes, pods, rules=rules, clock=clock, log=log)
    return _Exporter(sampler, pods, devices.close)


def _pod_cache(settings: ExporterSettings, clock: Clock, log: Log) -> PodCache | None:
    if not settings.kubernetes:
        return None
    url = settings.pods_url or _api_server_url()
    access = HttpAccess(url, settings.token_file, settings.ca_file, settings.insecure_tls)
    pods: PodList = KubeletPods(access) if settings.pods_source == "kubelet" else ApiPods(access, settings.node_name)
    return PodCache(
        pods,
        resource=settings.resource,
        interval_seconds=settings.pods_interval_seconds,
        clock=clock,
        log=log,
        claimed=None if settings.cdi_dir is None else claimed_in(settings.cdi_dir, log),
    )


def claimed_in(folder: Path, log: Log) -> Callable[[], Mapping[tuple[str, str], int]]:
    """What claims hold on this node, as the agent wrote it for the container runtime: nobody is asked for it."""
    from helpers.adapters.cdi_files import CdiFolder  # noqa: PLC0415 - not loaded where no budget is a claim

    files, said = CdiFolder(folder), set[str]()

    def claimed() -> dict[tuple[str, str], int]:
        claims, unreadable = files.found()
        for problem in sorted(set(unreadable) - said):
            log.warning("claim_unreadable", reason=problem)
        said.update(unreadable)
        return {(claim.namespace, claim.name): claim.budget_mib() for claim in claims}

    return claimed


def _api_server_url() -> str:
    """By the address that every pod has in its environment: a broken cluster DNS changes nothing."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise InputError(
            "KUBERNETES_SERVICE_HOST is not set, so this is no pod: give --pods-url, or --no-kubernetes on a machine "
            "outside a cluster"
        )
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
