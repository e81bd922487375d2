"""`ports.pod_commands.PodCommands` over the API's websocket (`pods/exec`).

The client library opens the connection. The frames are read here: the library's own reader keeps
whatever a command writes, and does not come back while there is more, so one that floods would take
the memory of whoever asked.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kubernetes import client
from kubernetes.stream import stream
from websocket import ABNF, WebSocketException, WebSocketTimeoutException

from helpers.adapters.kubernetes_.configuration import client_settings
from helpers.adapters.kubernetes_.refusals import refusal, unreachable
from helpers.domain.errors import ClusterError, Forbidden
from helpers.ports.cluster import ObjectRef
from helpers.ports.pod_commands import CommandEnded

_STDOUT, _STDERR, _STATUS = 1, 2, 3  # the channels of v4.channel.k8s.io and v5.channel.k8s.io
_LONGEST_OUTPUT_BYTES = 4096
_LONGEST_STATUS_BYTES = 64 * 1024
_CLOSE_BOUND_SECONDS = 1


def connect_commands(kubeconfig: Path | None = None, context: str | None = None) -> KubernetesCommands:
    """Commands in the cluster that `configuration.connect` finds with the same arguments.

    Raises:
        InputError: There is no configuration, or it cannot be used.
    """
    return KubernetesCommands(client_settings(kubeconfig, context))


class KubernetesCommands:
    """Each command on a connection of its own, so that several may run at once."""

    def __init__(self, settings: Any) -> None:
        self._settings = settings

    def run(self, pod: ObjectRef, container: str, command: Sequence[str], timeout_seconds: float) -> CommandEnded:
        """Runs it and waits for its end.

        In a thread of its own: opening a websocket has no bound in the client library.
        """
        ended: queue.SimpleQueue[CommandEnded | ClusterError] = queue.SimpleQueue()
        subject = f"exec in {pod} ({container})"
        until_seconds = time.monotonic() + timeout_seconds

        def work() -> None:
            try:
                ended.put(self._talked(subject, pod, container, list(command), until_seconds))
            except ClusterError as error:
                ended.put(error)

        threading.Thread(target=work, name="pod-command", daemon=True).start()
        try:
            answer = ended.get(timeout=max(0.0, timeout_seconds))
        except queue.Empty:
            answer = _too_late(subject)
        if isinstance(answer, ClusterError):
            raise answer
        return answer

    def _talked(
        self, subject: str, pod: ObjectRef, container: str, command: list[str], until_seconds: float
    ) -> CommandEnded:
        about = {"subject": subject, "address": str(self._settings.host)}
        with client.ApiClient(self._settings) as api:
            try:
                opened = stream(
                    client.CoreV1Api(api).connect_get_namespaced_pod_exec,
                    pod.name,
                    pod.namespace,
                    container=container,
                    command=command,
                    stdin=False,
                    stdout=True,
                    stderr=True,
                    tty=False,
                    _preload_content=False,
                )
            except client.ApiException as error:
                raise _not_opened(error, pod.namespace, about) from error
            try:
                return _read(opened.sock, until_seconds, about)
            except WebSocketTimeoutException as error:
                raise _too_late(subject) from error
            except (WebSocketException, OSError) as error:
                raise unreachable(error, **about) from error
            finally:
                opened.close(timeout=_CLOSE_BOUND_SECONDS)


def _read(socket: Any, until_seconds: float, about: dict[str, str]) -> CommandEnded:
    """All frames until the server closes: the status may overtake the last of the output."""
    output, status = bytearray(), bytearray()
    while True:
        left_seconds = until_seconds - time.monotonic()
        if left_seconds <= 0:
            raise _too_late(about["subject"])
        socket.settimeout(left_seconds)
        opcode, frame = socket.recv_data_frame(control_frame=True)
        if opcode == ABNF.OPCODE_CLOSE:
            break
        if opcode not in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) or not frame.data:
            continue
        channel, content = frame.data[0], frame.data[1:]
        if channel in (_STDOUT, _STDERR):
            output += content[: _LONGEST_OUTPUT_BYTES - len(output)]
        elif channel == _STATUS:
            status += content[: _LONGEST_STATUS_BYTES - len(status)]
    return CommandEnded(_exit_status(bytes(status), about), output.decode(errors="replace"))


def _exit_status(content: bytes, about: dict[str, str]) -> int:
    """From the Status object that ends a command.

    Raises:
        ClusterError: it says that the command was not run, or there is none.
    """
    where = f"{about['subject']} at {about['address']}"
    try:
        status = json.loads(content)
        if status["status"] == "Success":
            return 0
        causes = (status.get("details") or {}).get("causes") or ()
        for cause in causes:
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
        raise ClusterError(f"{where}: {status.get('message', 'failed')}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClusterError(f"{where}: the connection ended without the command's exit status") from error


def _not_opened(error: Exception, namespace: str, about: dict[str, str]) -> ClusterError:
    # The library folds every failure into one text; what it was is the exception behind it.
    cause = error.__context__
    status = getattr(cause, "status_code", None)
    if status is None:
        return unreachable(cause if isinstance(cause, Exception) else error, **about)
    refused = refusal(int(status), getattr(cause, "resp_body", None) or b"", **about)
    if isinstance(refused, Forbidden):
        # The server gives no reason where only `create` is missing.
        return Forbidden(f"{refused}. Commands need get and create on pods/exec in {namespace}")
    return refused


def _too_late(subject: str) -> ClusterError:
    return ClusterError(f"{subject}: no end in time; the command may go on in the container")
