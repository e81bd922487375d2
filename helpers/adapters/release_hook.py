"""Release hooks: a request to the pod's own address, or a command in its container.

One request as the estate says it, with one exception: Ollama unloads model by model, so a body of
`keep_alive: 0` to `/api/generate` without a model is sent once for each model that is loaded.
Measured on Ollama 0.33: the answer comes before the memory is free, and while requests run the
model is only marked to expire. vLLM has `/sleep` only with VLLM_SERVER_DEV_MODE=1 and
`--enable-sleep-mode`; llama-swap has `POST /api/models/unload`.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import time
from typing import Any

from helpers.domain.errors import ClusterError
from helpers.domain.estate.watchdog import ReleaseHook
from helpers.domain.watchdog.ladder_steps import HookAnswered
from helpers.ports.cluster import ObjectRef
from helpers.ports.pod_commands import PodCommands
from helpers.ports.release_hook import HookTarget

_LONGEST_ANSWER_BYTES = 256 * 1024
_LONGEST_TEXT = 120
_CHUNK_BYTES = 16 * 1024
_OLLAMA_UNLOAD_PATH = "/api/generate"
_OLLAMA_LOADED_PATH = "/api/ps"
_NO_COMMANDS = "a command in the container needs watchdog.allow_exec: true"


class TenantReleaseHooks:
    """`ports.release_hook.ReleaseHooks`. `commands` None: hooks that are commands are refused."""

    def __init__(self, commands: PodCommands | None = None) -> None:
        self._commands = commands

    def call(self, hook: ReleaseHook, target: HookTarget, timeout_seconds: float) -> HookAnswered:
        """Asks the tenant. A yes is an answer below 300, or exit status 0."""
        if hook.port is None:
            return self._run(hook, target, timeout_seconds)
        return _request(hook, hook.port, target.address, timeout_seconds)

    def _run(self, hook: ReleaseHook, target: HookTarget, timeout_seconds: float) -> HookAnswered:
        if self._commands is None:
            return HookAnswered(False, _NO_COMMANDS)
        pod = ObjectRef("v1", "Pod", target.pod, target.namespace)
        try:
            ended = self._commands.run(pod, target.container, hook.command, timeout_seconds)
        except ClusterError as error:
            return HookAnswered(False, str(error))
        text = f"exit status {ended.exit_status} {_short(ended.output)}".strip()
        return HookAnswered(ended.exit_status == 0, text)


def _request(hook: ReleaseHook, port: int, address: str, timeout_seconds: float) -> HookAnswered:
    """One hook over HTTP. No proxy, no redirect, no name: the address and the port."""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return HookAnswered(False, f"the pod has no address yet ({address!r})")
    asked = _Asked(address, port, time.monotonic() + timeout_seconds)
    try:
        if _unloads_all_of_ollama(hook):
            return _unload_ollama(asked, hook)
        return _judged(*asked.send(hook.method, hook.path, hook.body))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return HookAnswered(False, f"{hook.method} {hook.path} on port {port}: {error or type(error).__name__}")


class _Asked:
    """One tenant, until the time is up."""

    def __init__(self, address: str, port: int, until_seconds: float) -> None:
        self._address = address
        self._port = port
        self._until_seconds = until_seconds

    def send(self, method: str, path: str, body: str) -> tuple[int, bytes]:
        """Status and body of one request.

        Raises:
            OSError, http.client.HTTPException: no answer, or none in time.
        """
        connection = http.client.HTTPConnection(self._address, self._port, timeout=self._left_seconds())
        try:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(method, path, body.encode() or None, headers)
            answer = connection.getresponse()
            content = bytearray()
            while len(content) < _LONGEST_ANSWER_BYTES and (chunk := answer.read1(_CHUNK_BYTES)):
                content += chunk
                if connection.sock is not None:
                    connection.sock.settimeout(self._left_seconds())
            return answer.status, bytes(content)
        finally:
            connection.close()

    def _left_seconds(self) -> float:
        left_seconds = self._until_seconds - time.monotonic()
        if left_seconds <= 0:
            raise TimeoutError("no answer in time")
        return left_seconds


def _judged(status: int, content: bytes) -> HookAnswered:
    text = _short(content.decode(errors="replace"))
    return HookAnswered(status < http.client.MULTIPLE_CHOICES, f"{status} {text}".strip())


def _short(text: str) -> str:
    """One line that fits into an Event beside everything else."""
    return " ".join(text.split())[:_LONGEST_TEXT]


def _unloads_all_of_ollama(hook: ReleaseHook) -> bool:
    if hook.path != _OLLAMA_UNLOAD_PATH:
        return False
    body = _mapping(hook.body.encode())
    return body.get("keep_alive") == 0 and "model" not in body


def _unload_ollama(asked: _Asked, hook: ReleaseHook) -> HookAnswered:
    status, content = asked.send("GET", _OLLAMA_LOADED_PATH, "")
    if status >= http.client.MULTIPLE_CHOICES:
        return _judged(status, content)
    models = [str(model["name"]) for model in _mapping(content).get("models") or () if isinstance(model, dict)]
    for model in models:
        body = json.dumps({**_mapping(hook.body.encode()), "model": model})
        status, content = asked.send(hook.method, hook.path, body)
        if status >= http.client.MULTIPLE_CHOICES:
            return _judged(status, content)
    return HookAnswered(bool(models), f"unloads {', '.join(models)}" if models else "no model is loaded")


def _mapping(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
