"""Asking running pods to save their state: a request to each one's own address, or a signal to its first process.

In the background, and all pods of a job side by side: a handler that is slow, or never answers, keeps nobody waiting.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from helpers.domain import names
from helpers.domain.errors import ClusterError
from helpers.domain.jobs.job import Job
from helpers.domain.jobs.spec import Checkpoint
from helpers.ports.clock import Clock
from helpers.ports.cluster import ObjectRef
from helpers.ports.log import Log
from helpers.ports.pod_commands import PodCommands

# For all pods of a job together, from the first request to the last answer.
ASK_BOUND_SECONDS = 10.0
# A job is asked again so long after a try to which not every pod said yes. No job is asked more often anyway.
AGAIN_SECONDS = 60.0
MOST_JOBS_COUNT = 16
MOST_PODS_COUNT = 16
MOST_REMEMBERED_COUNT = 5_000
_LONGEST_STATUS_LINE_BYTES = 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.\d (\d{3})\b")


@dataclass(frozen=True)
class _Try:
    """`answer`: whether all pods said yes."""

    at: datetime
    answer: Future[bool]


class Askings:
    """What is asked in the background, and the last try of each job. For one thread: the turn's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pool = ThreadPoolExecutor(MOST_JOBS_COUNT, thread_name_prefix="checkpoint")
        self._tries: dict[str, _Try] = {}

    def told_at(self, job: Job) -> datetime | None:
        """When the last try began, if all pods said yes to it and `job` does not know of it yet."""
        last = self._tries.get(job.job_id)
        if last is None or not last.answer.done() or not last.answer.result():
            return None
        # What an earlier attempt was told says nothing about this one.
        is_news = all(at is None or last.at > at for at in (job.checkpoint_at, job.started_at))
        return last.at if is_news else None

    def may_begin(self, job: Job) -> bool:
        """Whether no try is under way, and none was made a moment ago."""
        last = self._tries.get(job.job_id)
        if last is None:
            return True
        return last.answer.done() and self._clock.now_at() >= last.at + timedelta(seconds=AGAIN_SECONDS)

    def begin(self, job: Job, ask: Callable[[], bool]) -> None:
        """Runs `ask` besides the turns."""
        self._tries.pop(job.job_id, None)
        self._tries[job.job_id] = _Try(self._clock.now_at(), self._pool.submit(ask))
        while len(self._tries) > MOST_REMEMBERED_COUNT:
            del self._tries[next(iter(self._tries))]  # the oldest: at worst its job is asked again too early

    def stop(self) -> None:
        """Begins nothing more; what is under way ends by its bound."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class CheckpointHooks:
    """`commands` None: signals cannot be sent."""

    def __init__(self, commands: PodCommands | None, log: Log) -> None:
        self._commands = commands
        self._log = log

    def ask(self, hook: Checkpoint, pods: Sequence[Mapping[str, Any]]) -> bool:
        """Whether all said yes before the bound; why one did not is logged. `pods`: at least one."""
        until_seconds = time.monotonic() + ASK_BOUND_SECONDS
        with ThreadPoolExecutor(min(len(pods), MOST_PODS_COUNT), thread_name_prefix="checkpoint-pod") as pool:
            return all(list(pool.map(lambda pod: self._asked(hook, pod, until_seconds), pods)))

    def _asked(self, hook: Checkpoint, pod: Mapping[str, Any], until_seconds: float) -> bool:
        if time.monotonic() >= until_seconds:
            refused = f"the pods before it took all of {ASK_BOUND_SECONDS:.0f} s"
        elif hook.signal is not None:
            refused = self._signalled(hook.signal, pod, until_seconds)
        else:
            refused = _posted(hook, pod, until_seconds)
        if refused:
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            self._log.warning("checkpoint_not_asked", pod=name, namespace=namespace, reason=refused)
        return not refused

    def _signalled(self, signal: str, pod: Mapping[str, Any], until_seconds: float) -> str:
        if self._commands is None:
            return "this manager cannot run commands in pods"
        ref = ObjectRef("v1", "Pod", pod["metadata"]["name"], pod["metadata"]["namespace"])
        # The shell's own `kill`: an image with a shell need not have the program.
        command = ["sh", "-c", f"kill -s {signal.removeprefix('SIG')} 1"]
        try:
            ended = self._commands.run(ref, names.JOB_CONTAINER, command, _left_seconds(until_seconds))
        except (ClusterError, TimeoutError) as error:
            return str(error)
        return "" if ended.exit_status == 0 else f"exit status {ended.exit_status}: {ended.output.strip()}"


def _posted(hook: Checkpoint, pod: Mapping[str, Any], until_seconds: float) -> str:
    address = str(pod["status"].get("podIP", ""))
    try:
        ipaddress.ip_address(address)
        connection = http.client.HTTPConnection(address, hook.http_port, timeout=_left_seconds(until_seconds))
        try:
            connection.request("POST", hook.http_path or "/")
            status = _status(connection.sock, until_seconds)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"POST :{hook.http_port}{hook.http_path}: {error or type(error).__name__}"
    return "" if status < http.client.MULTIPLE_CHOICES else f"POST :{hook.http_port}{hook.http_path}: {status}"


def _status(connection: socket.socket, until_seconds: float) -> int:
    """Of an answer, whose first line alone is read.

    By hand: a socket's timeout is for one read, so that the library waits without end for a pod that drips.
    """
    line = b""
    while b"\n" not in line:
        connection.settimeout(_left_seconds(until_seconds))
        got = connection.recv(_LONGEST_STATUS_LINE_BYTES)
        line += got
        if not got or len(line) > _LONGEST_STATUS_LINE_BYTES * 2:
            break
    found = _STATUS_LINE.match(line)
    if found is None:
        raise http.client.BadStatusLine(line[:80].decode(errors="replace"))
    return int(found[1])


def _left_seconds(until_seconds: float) -> float:
    left_seconds = until_seconds - time.monotonic()
    if left_seconds <= 0:
        raise TimeoutError(f"no answer within {ASK_BOUND_SECONDS:.0f} s")
    return left_seconds
