"""A trace from Prometheus: the JSON that `GET /api/v1/query_range` answers with.

One or more answers, each with the exporter's own series (`metric_names`), for instance of the query
`{__name__=~"gpu_.*|gpumem_tenant_budget_bytes"}`. A pod's tenant is known by its name alone, its
owner by the tenant's kind; a pod of no tenant counts as bare, so that replay never recycles it.

Prometheus repeats a silent exporter's last value for up to five minutes. With the sample timestamp
in the export such looks are stale; without it they cannot be told.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from helpers.domain.errors import InputError
from helpers.domain.memory import BYTES_PER_MIB, bytes_to_mib_rounded_up
from helpers.domain.telemetry import metric_names as m
from helpers.domain.watchdog.facts import ContainerUse, GpuSample, PodFacts
from helpers.domain.watchdog.settings import TenantRule, WatchdogSettings
from helpers.domain.watchdog.trace import Frame, Trace

_OWNERS = {"Deployment": "ReplicaSet"}
_CARD_SERIES = (m.TOTAL, m.USED, m.FREE, m.RESERVED, m.UNATTRIBUTED, m.SAMPLE_TIMESTAMP, m.SAMPLE_UP, m.ATTRIBUTION_UP)
# Every series that a trace is made of.
TRACE_SERIES = (*_CARD_SERIES, m.POD_USED, m.TENANT_BUDGET)

_Labels = Mapping[str, str]
_Card = tuple[str, str, str]


@dataclass
class _Look:
    """Everything of one instant: `{card: {series: value}}`, `{card: {container: bytes}}`, budgets in bytes."""

    cards: dict[_Card, dict[str, float]] = field(default_factory=dict)
    rows: dict[_Card, dict[tuple[str, str, str], float]] = field(default_factory=dict)
    budgets: dict[tuple[str, str], float] = field(default_factory=dict)


def parse_range(texts: Sequence[str], file: str, settings: WatchdogSettings) -> Trace:
    """The trace in the answers `texts`; `file` is only named in errors.

    Raises:
        InputError: a text is no range answer, or none of the exporter's series is in it.
    """
    looks: dict[float, _Look] = {}
    for text in texts:
        for series in _series_of(text, file):
            _read_series(series, looks, file)
    if not any(look.cards for look in looks.values()):
        raise InputError(f"{file}: none of {', '.join(_CARD_SERIES[:3])} is in it. Export the exporter's own series.")
    return _frames(looks, settings)


def _series_of(text: str, file: str) -> list[Mapping[str, Any]]:
    try:
        answer = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{file}:{error.lineno}: no JSON: {error.msg}.") from error
    data = answer.get("data", answer) if isinstance(answer, dict) else {}
    if not isinstance(data, dict) or data.get("resultType") != "matrix":
        raise InputError(f"{file}: resultType is no matrix. Export with /api/v1/query_range.")
    return list(data["result"])


def _read_series(series: Mapping[str, Any], looks: dict[float, _Look], file: str) -> None:
    labels: _Labels = series.get("metric", {})
    name = labels.get("__name__", "")
    if name not in TRACE_SERIES:
        return
    for at_seconds, shown in series.get("values", ()):
        try:
            value = float(shown)
        except ValueError as error:
            raise InputError(f"{file}: {name} at {at_seconds} = {shown}: no number.") from error
        look = looks.setdefault(float(at_seconds), _Look())
        if not math.isfinite(value):  # Prometheus writes NaN where a rule found nothing.
            continue
        if name == m.TENANT_BUDGET:
            pod = (_label(labels, "namespace"), _label(labels, "pod"))
            look.budgets[pod] = look.budgets.get(pod, 0.0) + value
            continue
        card = (labels.get("node") or labels.get("instance", ""), labels.get("gpu", ""), labels.get("uuid", ""))
        if name == m.POD_USED:
            container = (_label(labels, "namespace"), _label(labels, "pod"), _label(labels, "container"))
            look.rows.setdefault(card, {})[container] = value
        else:
            look.cards.setdefault(card, {})[name] = value


def _label(labels: _Labels, name: str) -> str:
    """A label as the exporter set it; Prometheus renames it where `honorLabels` is off."""
    return labels.get(f"exported_{name}") or labels.get(name, "")


def _frames(looks: Mapping[float, _Look], settings: WatchdogSettings) -> Trace:
    instants = sorted(looks)
    cards = sorted({card for look in looks.values() for card in look.cards})
    first_seen: dict[tuple[str, str], float] = {}
    for at_seconds in instants:
        for rows in looks[at_seconds].rows.values():
            for namespace, pod, _ in rows:
                first_seen.setdefault((namespace, pod), at_seconds)
    step_seconds = min((b - a for a, b in pairwise(instants)), default=1.0)
    rules = {pod: settings.rule_for_pod(pod[0], pod[1]) for pod in first_seen}
    frames = []
    for at_seconds in instants:
        look = looks[at_seconds]
        pods = tuple(
            _pod(pod, card[0], rules[pod], look, first_seen[pod] - max(step_seconds, 1.0))
            for pod, card in sorted({(c[0], c[1]): card for card, rows in look.rows.items() for c in rows}.items())
        )
        frames.append(Frame(_instant(at_seconds), tuple(_sample(card, look, at_seconds) for card in cards), pods))
    return tuple(frames)


def _instant(at_seconds: float) -> datetime:
    return datetime.fromtimestamp(at_seconds, tz=UTC)


def _sample(card: _Card, look: _Look, at_seconds: float) -> GpuSample:
    figures = look.cards.get(card, {})
    # Without knowing whose the memory is, absent rows would read as pods that hold nothing.
    up = figures.get(m.SAMPLE_UP, 1.0) == 1.0 == figures.get(m.ATTRIBUTION_UP, 1.0)
    whole = {m.TOTAL, m.USED, m.FREE} <= figures.keys()
    free = figures.get(m.FREE)
    return GpuSample(
        node=card[0],
        gpu=card[1],
        uuid=card[2],
        sampled_at=_instant(figures.get(m.SAMPLE_TIMESTAMP, at_seconds)),
        ok=up and whole,
        total_mib=_mib(figures.get(m.TOTAL)),
        used_mib=_mib(figures.get(m.USED)),
        # Use is rounded up and free down, so that neither flatters.
        free_mib=None if free is None else int(free) // BYTES_PER_MIB,
        reserved_mib=_mib(figures.get(m.RESERVED)),
        pods=tuple(
            ContainerUse(*key, used_mib=_known_mib(used)) for key, used in sorted(look.rows.get(card, {}).items())
        ),
        unattributed_mib=_mib(figures.get(m.UNATTRIBUTED)),
        error="" if up and whole else "the exporter's series say down, or are absent",
    )


def _mib(size_bytes: float | None) -> int | None:
    return None if size_bytes is None else _known_mib(size_bytes)


def _known_mib(size_bytes: float) -> int:
    return bytes_to_mib_rounded_up(int(size_bytes))


def _pod(key: tuple[str, str], node: str, rule: TenantRule | None, look: _Look, started_seconds: float) -> PodFacts:
    namespace, name = key
    declared = look.budgets.get(key)
    budget_mib = _mib(declared) if declared is not None else (rule.budget_mib if rule else None)
    return PodFacts(
        namespace=namespace,
        name=name,
        uid=f"{namespace}/{name}",
        node=node,
        tenant=rule.name if rule else None,
        budget_mib=budget_mib,
        owner_kind=_OWNERS.get(rule.kind, rule.kind) if rule else None,
        owner_name=rule.workload if rule else "",
        workload_class=rule.workload_class if rule else "realtime",
        started_at=_instant(started_seconds),
    )
