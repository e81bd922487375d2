"""A real Prometheus as a process of the lab, on loopback.

Everything that they write lies in the lab's folder and goes with it. Scrapes and rules run every
second by default: a demo and a test want to see an alert in seconds.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

from lab import processes
from lab.errors import LabError
from lab.ports import free_ports
from lab.processes import LabProcess
from lab.programs import require_program

PROMETHEUS = "prometheus"
READY_BOUND_SECONDS = 60.0
POLL_SECONDS = 0.1
ANSWER_BOUND_SECONDS = 20.0


class Host(Protocol):
    """What runs the processes: `lab.running.Lab`, or a test's own."""

    @property
    def dir(self) -> Path:
        """The folder that everything goes into."""
        ...

    def spawn(self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> LabProcess:
        """Starts a process that outlives the caller."""
        ...

    def stop(self, name: str) -> None:
        """Ends it."""
        ...


@dataclass(frozen=True)
class Target:
    """Something to scrape: the job's name, `host:port`, and labels such as the node."""

    job: str
    address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    path: str = "/metrics"


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that answers at `url`, such as `http://127.0.0.1:21000`."""

    url: str

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series of an instant query, each with `metric` and `value`; a scalar is one without labels.

        Raises:
            LabError: Prometheus does not answer, or refuses the query; its own words are in the message.
        """
        data = self._get("query", {"query": expr})
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        return list(data["result"])

    def value(self, expr: str) -> float | None:
        """The only value of `expr`; None where there is no series.

        Raises:
            LabError: There is more than one, or Prometheus does not answer.
        """
        series = self.query(expr)
        if len(series) > 1:
            raise LabError(f"{expr!r} has {len(series)} series, one was expected: aggregate it")
        return float(series[0]["value"][1]) if series else None

    def query_range(self, expr: str, from_seconds: float, to_seconds: float, step_seconds: float) -> dict[str, Any]:
        """The whole answer of a range query, as `gpumem watchdog replay` reads it.

        Raises:
            LabError: As `query`.
        """
        span = {"start": from_seconds, "end": to_seconds, "step": step_seconds}
        return {"status": "success", "data": self._get("query_range", {"query": expr, **span})}

    def alerts(self) -> list[dict[str, Any]]:
        """All pending and firing alerts: `labels`, `annotations`, `state`, `activeAt`, `value`.

        Raises:
            LabError: Prometheus does not answer.
        """
        return list(self._get("alerts", {})["alerts"])

    def firing(self, name: str) -> list[dict[str, Any]]:
        """The firing alerts called `name`."""
        return [one for one in self.alerts() if one["labels"]["alertname"] == name and one["state"] == "firing"]

    def wait_for(self, met: Callable[[Prometheus], bool], bound_seconds: float = 60.0) -> float:
        """Waits until `met`; returns the seconds that it took.

        Raises:
            LabError: It did not come within `bound_seconds`; the message has all alerts.
        """
        began = time.monotonic()
        while not met(self):
            if time.monotonic() - began > bound_seconds:
                seen = [f"{one['labels']['alertname']} {one['state']}" for one in self.alerts()]
                raise LabError(f"not within {bound_seconds:.0f} s; alerts now: {', '.join(sorted(seen)) or 'none'}")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - began

    def _get(self, what: str, parameters: Mapping[str, object]) -> dict[str, Any]:
        answer = _get_json(f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}")
        if answer.get("status") != "success":
            raise LabError(f"Prometheus refuses {what} {dict(parameters)}: {answer.get('error')}")
        data: dict[str, Any] = answer["data"]
        return data


def start_prometheus(
    lab: Host,
    targets: Sequence[Target],
    rules_text: str,
    *,
    interval_seconds: float = 1.0,
    alertmanager_url: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Prometheus:
    """Starts a Prometheus that scrapes `targets` and evaluates `rules_text`, and waits until it answers.

    Args:
        lab: What runs it; `lab.stop("prometheus")` ends it.
        targets: What is scraped; one job's targets share a path.
        rules_text: A rules file; every group in it is evaluated every `interval_seconds`.
        interval_seconds: Between two scrapes, and between two looks at the rules.
        alertmanager_url: Whose `/api/v2/alerts` gets each alert that fires or resolves, if anybody's.
        progress: Gets one line where the program is downloaded first.

    Raises:
        LabError: There is no Prometheus for this machine, or it ended or did not answer in time.
    """
    program = require_program("prometheus", progress)
    folder = _folder(lab, PROMETHEUS)
    interval = f"{round(interval_seconds * 1000)}ms"
    (folder / "rules.yaml").write_text(_quicker(rules_text, interval))
    config = _config(targets, interval, alertmanager_url)
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (port,) = free_ports(1)
    command = [
        str(program.path),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    _start(lab, PROMETHEUS, command, program.env, f"http://127.0.0.1:{port}")
    return Prometheus(f"http://127.0.0.1:{port}")


def _folder(lab: Host, name: str) -> Path:
    folder = lab.dir / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _start(lab: Host, name: str, command: Sequence[str], env: Mapping[str, str], url: str) -> None:
    process = lab.spawn(name, command, env)
    deadline = time.monotonic() + READY_BOUND_SECONDS
    while not _is_ready(f"{url}/-/ready"):
        if not processes.alive(process):
            raise LabError(f"{name} ended at once: {processes.log_tail(process)}")
        if time.monotonic() > deadline:
            lab.stop(name)
            raise LabError(f"{name} was not ready in {READY_BOUND_SECONDS:.0f} s: {processes.log_tail(process)}")
        time.sleep(POLL_SECONDS)


def _config(targets: Sequence[Target], interval: str, alertmanager_url: str | None) -> dict[str, Any]:
    jobs: dict[tuple[str, str], list[Target]] = {}
    for target in targets:
        jobs.setdefault((target.job, target.path), []).append(target)
    config: dict[str, Any] = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {
                "job_name": job,
                "metrics_path": path,
                "honor_labels": True,
                "static_configs": [{"targets": [one.address], "labels": dict(one.labels)} for one in members],
            }
            for (job, path), members in jobs.items()
        ],
    }
    if alertmanager_url is not None:
        address = alertmanager_url.removeprefix("http://")
        config["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]}
    return config


def _quicker(rules_text: str, interval: str) -> str:
    """The rules with every group's own interval replaced."""
    document = yaml.safe_load(rules_text) or {}
    groups = [{**group, "interval": interval} for group in document.get("groups", [])]
    return yaml.safe_dump({**document, "groups": groups}, sort_keys=False)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_BOUND_SECONDS) as answer:  # noqa: S310 - our own, http
            return int(answer.status) == 200
    except OSError:
        return False


def _get_json(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_BOUND_SECONDS) as answer:  # noqa: S310 - our own, http
            text = answer.read()
    except urllib.error.HTTPError as error:  # a refused query: the reason is in the body
        text = error.read()
    except OSError as error:
        raise LabError(f"{url.partition('?')[0]} does not answer: {error}") from error
    try:
        document: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise LabError(f"{url.partition('?')[0]} answers with no JSON: {text[:200]!r}") from error
    return document
