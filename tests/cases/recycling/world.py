"""Builds facts for cases and property tests: everything ordinary has a default, time is `NOW`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from helpers.domain.watchdog.decisions import Decision, NoAction, Recycle
from helpers.domain.watchdog.facts import ActRecord, CardBudget, ContainerUse, GpuSample, Outcome, PodFacts
from helpers.domain.watchdog.settings import TenantRule, WatchdogSettings

NOW = datetime(2026, 6, 2, 8, 0, tzinfo=UTC)
CASES = Path(__file__).parent


def ago(seconds: float) -> datetime:
    """The instant `seconds` before NOW."""
    return NOW - timedelta(seconds=seconds)


def rule(name: str, **fields: Any) -> TenantRule:
    """A tenant called `name` in the namespace `ns`."""
    values = {"namespace": "ns", "kind": "Deployment", "workload": name, "container": "main", "budget_mib": 1000}
    return TenantRule(name=name, **{**values, **fields})


def settings(tenants: Mapping[str, Mapping[str, Any]] | None = None, **fields: Any) -> WatchdogSettings:
    """Armed settings with a floor of 1536."""
    rules = tuple(rule(name, **extra) for name, extra in (tenants or {}).items())
    return WatchdogSettings(**{"floor_mib": 1536, "dry_run": False, "tenants": rules, **fields})


def pod(key: str, **fields: Any) -> PodFacts:
    """The pod `namespace/name` on t4-node, a tenant of its own name with a budget of 1000."""
    namespace, _, name = key.rpartition("/")
    values: dict[str, Any] = {
        "uid": f"uid-{name}",
        "node": "t4-node",
        "tenant": name,
        "budget_mib": 1000,
        "owner_kind": "ReplicaSet",
        "owner_name": f"{name}-rs",
        "started_at": ago(86_400),
    }
    return PodFacts(namespace=namespace or "ns", name=name, **{**values, **fields})


def sample(pods: Mapping[str, int], *, free_mib: int | None, **fields: Any) -> GpuSample:
    """Card 0 of t4-node, read two seconds ago; `pods` is `{namespace/name: MiB}`."""
    rows = tuple(ContainerUse(*_split(key), "main", used_mib) for key, used_mib in pods.items())
    total_mib = fields.pop("total_mib", 15_360)
    values: dict[str, Any] = {
        "node": "t4-node",
        "gpu": "0",
        "uuid": "GPU-0",
        "sampled_at": ago(2),
        "ok": True,
        "used_mib": None if free_mib is None or total_mib is None else total_mib - free_mib,
        "unattributed_mib": 0,
    }
    return GpuSample(total_mib=total_mib, free_mib=free_mib, pods=rows, **{**values, **fields})


def act(of: PodFacts, *, started: float, finished: float | None, **fields: Any) -> ActRecord:
    """A real act on `of`, on card 0; seconds ago."""
    values: dict[str, Any] = {
        "uid": of.uid,
        "uuid": "GPU-0",
        "dry_run": False,
        "outcome": Outcome.EVICTED if finished else None,
    }
    return ActRecord(
        subject=of.subject,
        namespace=of.namespace,
        pod=of.name,
        node=of.node,
        started_at=ago(started),
        finished_at=None if finished is None else ago(finished),
        **{**values, **fields},
    )


def shown(decision: Decision) -> str:
    """A decision as case files write it."""
    card = f"{decision.card.node}/{decision.card.gpu}"
    if isinstance(decision, Recycle):
        verb = "would recycle" if decision.dry_run else "recycle"
        return f"{card} {verb} {decision.victim} over {decision.overshoot_mib}"
    if isinstance(decision, NoAction):
        return f"{card} nothing"
    about = f" {decision.pod}" if decision.pod else ""
    return f"{card} {decision.reason.value}{about}"


@dataclass(frozen=True)
class Case:
    """One case file, built."""

    settings: WatchdogSettings
    samples: tuple[GpuSample, ...]
    pods: tuple[PodFacts, ...]
    history: tuple[ActRecord, ...]
    expect: tuple[str, ...]
    texts: tuple[str, ...]


def load_case(path: Path) -> Case:
    """The case in `path`; a key that this loader does not know is an error."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    unknown = set(document) - {"about", "settings", "tenants", "cards", "pods", "history", "expect", "texts"}
    assert not unknown, f"{path.name}: unknown keys {unknown}"
    pods = {key: pod(key, **_instants(fields or {})) for key, fields in document.get("pods", {}).items()}
    return Case(
        settings=settings(document.get("tenants"), **document.get("settings", {})),
        samples=tuple(_card(dict(card)) for card in document["cards"]),
        pods=tuple(pods.values()),
        history=tuple(
            act(pods.get(item["pod"]) or pod(item["pod"]), **{k: v for k, v in item.items() if k != "pod"})
            for item in document.get("history", ())
        ),
        expect=tuple(document["expect"]),
        texts=tuple(document.get("texts", ())),
    )


def _card(fields: dict[str, Any]) -> GpuSample:
    age_seconds = fields.pop("age_seconds", 2)
    gpu = str(fields.pop("gpu", "0"))
    return sample(
        fields.pop("pods", {}),
        free_mib=fields.pop("free_mib", None),
        gpu=gpu,
        uuid=f"GPU-{gpu}",
        sampled_at=ago(age_seconds),
        **fields,
    )


def _instants(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`started_seconds_ago: 5` becomes `started_at`, and so on; `claims: {GPU-1: 1000}` a budget on that card."""
    built: dict[str, Any] = {}
    for key, value in fields.items():
        if key.endswith("_seconds_ago"):
            built[key.removesuffix("_seconds_ago") + "_at"] = None if value is None else ago(value)
        elif key == "claims":
            built["cards"] = tuple(CardBudget(*one) for one in value.items())
            built["budget_mib"] = sum(value.values())
        else:
            built[key] = value
    return built


def _split(key: str) -> tuple[str, str]:
    namespace, _, name = key.rpartition("/")
    return namespace, name
