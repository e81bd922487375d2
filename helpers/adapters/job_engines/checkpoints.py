"""Asking a running pod to save its state: a request to its own address, or a signal to its first process."""

from __future__ import annotations

import http.client
import ipaddress
from collections.abc import Mapping
from typing import Any

from helpers.domain import names
from helpers.domain.errors import ClusterError
from helpers.domain.jobs.spec import Checkpoint
from helpers.ports.cluster import ObjectRef
from helpers.ports.log import Log
from helpers.ports.pod_commands import PodCommands

ASK_BOUND_SECONDS = 5.0


class CheckpointHooks:
    """`commands` None: signals cannot be sent."""

    def __init__(self, commands: PodCommands | None, log: Log) -> None:
        self._commands = commands
        self._log = log

    def ask(self, hook: Checkpoint, pod: Mapping[str, Any]) -> bool:
        """Whether the pod said yes; why not is logged."""
        refused = self._signalled(hook.signal, pod) if hook.signal is not None else _posted(hook, pod)
        if refused:
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            self._log.warning("checkpoint_not_asked", pod=name, namespace=namespace, reason=refused)
        return not refused

    def _signalled(self, signal: str, pod: Mapping[str, Any]) -> str:
        if self._commands is None:
            return "this manager cannot run commands in pods"
        ref = ObjectRef("v1", "Pod", pod["metadata"]["name"], pod["metadata"]["namespace"])
        # The shell's own `kill`: an image with a shell need not have the program.
        command = ["sh", "-c", f"kill -s {signal.removeprefix('SIG')} 1"]
        try:
            ended = self._commands.run(ref, names.JOB_CONTAINER, command, ASK_BOUND_SECONDS)
        except ClusterError as error:
            return str(error)
        return "" if ended.exit_status == 0 else f"exit status {ended.exit_status}: {ended.output.strip()}"


def _posted(hook: Checkpoint, pod: Mapping[str, Any]) -> str:
    address = str(pod["status"].get("podIP", ""))
    try:
        ipaddress.ip_address(address)
        connection = http.client.HTTPConnection(address, hook.http_port, timeout=ASK_BOUND_SECONDS)
        try:
            connection.request("POST", hook.http_path or "/")
            status = connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"POST :{hook.http_port}{hook.http_path}: {error or type(error).__name__}"
    return "" if status < http.client.MULTIPLE_CHOICES else f"POST :{hook.http_port}{hook.http_path}: {status}"
