"""A job that somebody waits for at the command line."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType

import click

from helpers.domain.jobs.views import JobView
from helpers.sdk.gpu import GPUJobClient
from helpers.sdk.gpu_wire import Waiting


@contextlib.contextmanager
def signals_stop() -> Iterator[None]:
    """SIGTERM does within the block what Ctrl-C does: whoever started it ends in order."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def followed(client: GPUJobClient, job_id: str, timeout_seconds: float | None, *, cancel_when_stopped: bool) -> JobView:
    """The job when it is over; each new state is a line on stderr.

    Raises:
        WaitedTooLong: it is not over in time.
    """
    began_seconds, waiting, shown = time.monotonic(), Waiting(timeout_seconds, check=False), ""
    try:
        while True:
            job = client.get(job_id)
            if job.status != shown:
                shown = job.status
                click.echo(f"{job.job_id} is {job.status}" + (f": {job.reason}" if job.reason else ""), err=True)
            pause_seconds = waiting.over(job, time.monotonic() - began_seconds)
            if pause_seconds is None:
                return job
            time.sleep(pause_seconds)
    except KeyboardInterrupt:
        if cancel_when_stopped:
            click.echo(f"{job_id} is {client.cancel(job_id).status}", err=True)
        else:
            click.echo(f"{job_id} goes on; `gpumem gpu cancel {job_id}` ends it", err=True)
        raise
