"""Wires ports to adapters and runs the agent. No decisions here, and no reading of the environment."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from helpers.adapters.cdi_files import CdiFolder
from helpers.adapters.clock import SystemClock
from helpers.adapters.dra_agent_metrics import PrometheusDraMetrics
from helpers.adapters.dra_checkpoint import CheckpointFile
from helpers.adapters.dra_kubelet import KubeletPlugin
from helpers.adapters.events import KubernetesEvents
from helpers.adapters.folder_lock import folder_locked
from helpers.adapters.logging_ import JsonLog, failure_logged, threads_log
from helpers.adapters.metrics import ListenAddress, new_registry, served
from helpers.adapters.nvml.gpus import NvmlDevices
from helpers.adapters.process import Pulse, installed_version, stopped_by_signal
from helpers.adapters.queued_events import QueuedEvents
from helpers.domain.dra.devices import ReserveRule
from helpers.domain.dra.rights import DRA_AGENT_COMPONENT
from helpers.domain.dra.settings import DraAgentSettings
from helpers.domain.errors import InputError
from helpers.ports.cluster import Cluster
from helpers.ports.dra_agent import DraMetrics
from helpers.ports.events import Events
from helpers.ports.log import Log
from helpers.services.dra_board import NodeBoard
from helpers.services.dra_loop import DraLoop
from helpers.services.dra_prepare import PreparePorts, Preparer
from helpers.services.dra_publish import Publisher, PublishPorts, PublishRules

# Longer than a request that is answered at the last moment, several times over.
STUCK_AFTER_SECONDS = 60.0
CHECKPOINT = "checkpoint.json"


def agent_log(*, dry_run: bool) -> JsonLog:
    """The component's log."""
    return JsonLog(DRA_AGENT_COMPONENT, version=installed_version(), dry_run=dry_run, clock=SystemClock())


def run_agent(cluster: Cluster, settings: DraAgentSettings) -> None:
    """Publishes and prepares until SIGTERM or SIGINT; what is in hand then is finished.

    The slice stays: a new agent takes it up, and where none comes the kubelet removes it.

    Raises:
        CheckFailed: another agent has this node's plugin folder.
        InputError: a folder or the metrics address cannot be used.
        Forbidden: a permission is missing; the message names it.
        RestartNeeded: only a new process can ask the driver again.
    """
    log, clock = agent_log(dry_run=settings.dry_run), SystemClock()
    log.info("started", settings=settings.model_dump(mode="json"))
    registry = new_registry(DRA_AGENT_COMPONENT, installed_version())
    with failure_logged(log), threads_log(log), contextlib.ExitStack() as stack:
        stopped = stack.enter_context(stopped_by_signal())
        pulse = Pulse(stopped.is_set, clock, stuck_after_seconds=STUCK_AFTER_SECONDS)
        if not settings.dry_run:
            stack.enter_context(folder_locked(Path(settings.plugin_dir), wait_seconds=settings.lock_wait_seconds))
        written = KubernetesEvents(cluster, component=DRA_AGENT_COMPONENT, instance=_instance(), clock=clock, log=log)
        events = stack.enter_context(QueuedEvents(written, log))
        devices = NvmlDevices(deadline_seconds=settings.nvml_deadline_seconds)
        stack.callback(devices.close)
        agent = _assembled(cluster, settings, PrometheusDraMetrics(registry), events, devices, log)
        if settings.metrics_address:
            address = ListenAddress.parse(settings.metrics_address)
            port = stack.enter_context(served(registry, address, pulse.is_felt, agent.ready))
            log.info("metrics_served", address=settings.metrics_address, port=port)
        if not settings.dry_run:
            _recover(agent)
            stack.enter_context(agent.plugin)
        agent.loop.run(pulse.stop)
    log.info("stopped")


@dataclass(frozen=True)
class _Agent:
    publisher: Publisher
    preparer: Preparer
    plugin: KubeletPlugin
    loop: DraLoop
    registers: bool

    def ready(self) -> bool:
        """Whether the slice is as it should be and the kubelet would call."""
        return self.publisher.settled and (self.plugin.registered or not self.registers)


def _assembled(
    cluster: Cluster,
    settings: DraAgentSettings,
    metrics: DraMetrics,
    events: Events,
    devices: NvmlDevices,
    log: Log,
) -> _Agent:
    clock, board = SystemClock(), NodeBoard()
    checkpoint, cdi = CheckpointFile(Path(settings.plugin_dir, CHECKPOINT)), CdiFolder(Path(settings.cdi_dir))
    preparer = Preparer(PreparePorts(cluster, checkpoint, cdi, metrics, log), node_name=settings.node_name, board=board)
    publisher = Publisher(PublishPorts(cluster, events, metrics, clock, log), _rules(settings), board)
    loop = DraLoop(
        publisher,
        api=cluster,
        devices=devices,
        metrics=metrics,
        clock=clock,
        log=log,
        node_name=settings.node_name,
        interval_seconds=settings.interval_seconds,
    )
    folders = {"plugin_dir": Path(settings.plugin_dir), "registry_dir": Path(settings.registry_dir)}
    plugin = KubeletPlugin(preparer, **folders, metrics=metrics, log=log)
    return _Agent(publisher, preparer, plugin, loop, registers=not settings.dry_run)


def _rules(settings: DraAgentSettings) -> PublishRules:
    return PublishRules(
        settings.node_name,
        ReserveRule(settings.reserve_mib, settings.reserve_by_model_mib, settings.mig_reserve_mib),
        frozenset(settings.mig_profiles),
        forget_xids=settings.forget_xids,
        dry_run=settings.dry_run,
    )


def _recover(agent: _Agent) -> None:
    try:
        why = agent.preparer.recover()
    except OSError as error:
        raise InputError(
            f"{error.filename}: {error.strerror}; give plugin and CDI folders that can be written"
        ) from error
    if why:
        agent.publisher.note("GpumemCheckpointRebuilt", why)


def _instance() -> str:
    return f"{socket.gethostname()}_{os.getpid()}"
