"""Cases of alerting rules, run by the real promtool on rules rendered from the example estate."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from helpers.domain.estate.model import Estate
from helpers.domain.estate.monitoring import Monitoring
from helpers.domain.watchdog.settings import WatchdogSettings, watchdog_settings
from helpers.rendering.monitoring import rules_text
from helpers.rendering.monitoring_alerts import monitoring_alerts
from lab.programs import Program
from tests.synth.estates import EXAMPLE, shipped

STEP_SECONDS = 15
# libyaml's are ten times faster, where it is there.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True)
class Firing:
    """One alert that is expected: labels besides alertname and severity, and its rendered texts."""

    labels: Mapping[str, str]
    summary: str
    description: str


@dataclass(frozen=True)
class Case:
    """What Prometheus knows (`{series: values, one a step}`), and what fires at some times.

    `kind` is one of KINDS, or a name of its own; `at` maps promtool's times to what fires then. Samples and
    evaluations are a step apart; a case of a whole day has a longer one, or promtool runs half a minute.
    """

    alert: str
    kind: str
    series: Mapping[str, str]
    at: Mapping[str, tuple[Firing, ...]]
    step_seconds: int = STEP_SECONDS

    def __str__(self) -> str:
        return f"{self.alert}: {self.kind}"

    def opposite(self) -> Case:
        """What must fail where this passes: something fires in a silent case, nothing where something should."""
        wrong = (Firing({}, "", ""),) if self.kind == "silent" else ()
        at = {time: wrong for time, firing in self.at.items() if firing or self.kind == "silent"}
        return replace(self, at=at)


KINDS = ("silent", "firing", "duplicate series", "absent series")


@dataclass(frozen=True)
class Rules:
    """What the rules are rendered from."""

    estate: Estate
    settings: WatchdogSettings
    monitoring: Monitoring = field(default_factory=Monitoring)

    @classmethod
    def of_example(cls, **monitoring: Any) -> Rules:
        """Of the example estate, with those settings under `monitoring`."""
        estate = shipped(EXAMPLE)
        return cls(estate, watchdog_settings(estate), Monitoring(**monitoring))

    def text(self) -> str:
        """The plain rules file."""
        return rules_text(self.estate, self.settings, self.monitoring)

    def text_of(self, alert: str) -> str:
        """The same with recording rules and one alert only: promtool evaluates each rule of a file at every step."""
        found = yaml.load(self.text(), _Loader)  # noqa: S506 - a safe one
        for group in found["groups"]:
            group["rules"] = [rule for rule in group["rules"] if rule.get("alert", alert) == alert]
        return str(yaml.dump(found, Dumper=_Dumper, sort_keys=False))

    def severity(self, alert: str) -> str:
        """The severity of the alert of that name."""
        alerts = monitoring_alerts(self.estate, self.settings, self.monitoring)
        return next(one.severity for one in alerts if one.name == alert)


def run_case(promtool: Program, case: Case, rules: Rules, folder: Path) -> subprocess.CompletedProcess[str]:
    """promtool's verdict on `case`; exit 0 is a pass, and its output says what differs."""
    (folder / "rules.yaml").write_text(rules.text_of(case.alert))
    severity = rules.severity(case.alert)
    checks = [
        {
            "eval_time": at,
            "alertname": case.alert,
            "exp_alerts": [
                {
                    "exp_labels": {"severity": severity, **one.labels},
                    "exp_annotations": {
                        "summary": one.summary,
                        "description": one.description,
                        "runbook_url": f"{rules.monitoring.runbook_base_url}/{case.alert}.md",
                    },
                }
                for one in firing
            ],
        }
        for at, firing in case.at.items()
    ]
    interval = f"{case.step_seconds}s"
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    document = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": interval,
        "tests": [{"interval": interval, "input_series": series, "alert_rule_test": checks}],
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return promtool_run(promtool, "test", "rules", "test.yaml", folder=folder)


def promtool_run(promtool: Program, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """promtool with `arguments`, in `folder`."""
    return subprocess.run(
        [promtool.path, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **promtool.env},
    )
