"""Reading one card's sample: may it be believed, who holds what, and what is on its way back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from helpers.domain.watchdog.decisions import Reason
from helpers.domain.watchdog.facts import GpuSample, PodFacts
from helpers.domain.watchdog.settings import WatchdogSettings

PodKey = tuple[str, str]

# `status.startTime` has whole seconds, so a pod may be up to this much younger than it says.
_START_ROUNDING = timedelta(seconds=1)
# Rows are rounded up to MiB each, and processes end between two NVML calls.
_ATTRIBUTION_TOLERANCE_RATIO = 0.02


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a sample proves nothing."""

    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Holder:
    """A living pod that holds memory on the card `uuid`; `node_used_mib` is on all readable cards of its node."""

    pod: PodFacts
    used_mib: int
    node_used_mib: int
    uuid: str

    @property
    def budget_mib(self) -> int | None:
        """MiB that it may use on this card; None: it has no budget at all."""
        return self.pod.budget_on_mib(self.uuid)

    @property
    def overshoot_mib(self) -> int:
        """MiB on this card above the budget; a pod without a budget is judged as having 0.

        A number holds for the whole pod, so what it holds on other cards counts too; an unreadable
        card there only makes the figure smaller. A claim is on one card: on any other the pod has 0.
        """
        if self.pod.cards is not None:
            return max(0, self.used_mib - (self.budget_mib or 0))
        over_mib = self.node_used_mib - (self.pod.budget_mib or 0)
        return max(0, min(self.used_mib, over_mib))


@dataclass(frozen=True, slots=True)
class Holdings:
    """One card's rows matched to pods. `returning` is `{pod as text: MiB}` on its way back."""

    holders: tuple[Holder, ...]
    returning: Mapping[str, int]

    @property
    def returning_mib(self) -> int:
        """MiB that come back without any act."""
        return sum(self.returning.values())


def doubt(sample: GpuSample, settings: WatchdogSettings, now: datetime) -> Doubt | None:
    """Why `sample` may not be acted on at `now`, or None where it may.

    Too old is more than `stale_after_seconds`; from the future is more than
    `future_tolerance_seconds` ahead, as after a clock jump on either machine. Figures that cannot
    be true together are as unknown as absent ones.
    """
    age_seconds = (now - sample.sampled_at).total_seconds()
    if age_seconds < -settings.future_tolerance_seconds:
        return Doubt(Reason.FUTURE, f"the sample is {-age_seconds:.1f} s ahead of this clock")
    if age_seconds > settings.stale_after_seconds:
        return Doubt(
            Reason.STALE, f"the sample is {age_seconds:.1f} s old, more than {settings.stale_after_seconds:.0f} s"
        )
    if not sample.ok:
        return Doubt(Reason.UNKNOWN, sample.error or "the exporter marks this card's sample as failed")
    contradiction = _contradiction(sample)
    return Doubt(Reason.UNKNOWN, contradiction) if contradiction else None


def _contradiction(sample: GpuSample) -> str:
    total_mib, used_mib, free_mib = sample.total_mib, sample.used_mib, sample.free_mib
    if total_mib is None or used_mib is None or free_mib is None:
        return "total, used or free is absent"
    if total_mib <= 0 or min(used_mib, free_mib) < 0 or free_mib > total_mib:
        return f"impossible figures: total {total_mib}, used {used_mib}, free {free_mib} MiB"
    slack_mib = total_mib * _ATTRIBUTION_TOLERANCE_RATIO
    if used_mib + free_mib > total_mib + slack_mib:
        return f"used {used_mib} + free {free_mib} MiB is more than the card's {total_mib}"
    if any(row.used_mib < 0 for row in sample.pods):
        return "a container's use is negative"
    if len({(row.namespace, row.pod, row.container) for row in sample.pods}) != len(sample.pods):
        return "a container is listed twice"
    pods_mib = sum(row.used_mib for row in sample.pods)
    if pods_mib > total_mib - free_mib + slack_mib:
        # dcgm-exporter before per-pod readings repeats the device's value on every sharing pod.
        return f"containers hold {pods_mib} MiB together, and only {total_mib - free_mib} MiB are not free"
    return ""


def newest_by_card(samples: Iterable[GpuSample]) -> list[GpuSample]:
    """One sample a card, the newest; of two of one instant the failed one."""
    newest: dict[tuple[str, str], GpuSample] = {}
    for sample in samples:
        key = (sample.node, sample.uuid)
        other = newest.get(key)
        if other is None or (sample.sampled_at, not sample.ok) > (other.sampled_at, not other.ok):
            newest[key] = sample
    return list(newest.values())


def pods_by_key(pods: Iterable[PodFacts]) -> dict[PodKey, PodFacts]:
    """`{(namespace, name): pod}`."""
    return {(pod.namespace, pod.name): pod for pod in pods}


def node_use_mib(samples: Sequence[GpuSample], pods: Mapping[PodKey, PodFacts]) -> dict[tuple[str, PodKey], int]:
    """`{(node, pod): MiB on all cards of the node}` over `samples`, which must all be believable."""
    used: dict[tuple[str, PodKey], int] = {}
    for sample in samples:
        for row in sample.pods:
            key = (row.namespace, row.pod)
            pod = pods.get(key)
            if pod is not None and _wrote(pod, sample):
                used[sample.node, key] = used.get((sample.node, key), 0) + row.used_mib
    return used


def attribute(
    sample: GpuSample, pods: Mapping[PodKey, PodFacts], node_used_mib: Mapping[tuple[str, PodKey], int]
) -> Holdings:
    """Who holds memory on the card of `sample`.

    A row whose pod the API does not list on this node, or lists as younger than the sample, is of a
    pod that is gone: a StatefulSet's new pod has its predecessor's name, and must not answer for
    it. Its memory, like a terminating pod's, is on its way back. A row without a pod is of a process
    outside Kubernetes, which nobody here ends (`no_pods_mib`).
    """
    used: dict[PodKey, int] = {}
    for row in sample.pods:
        if row.pod:
            key = (row.namespace, row.pod)
            used[key] = used.get(key, 0) + row.used_mib
    holders: list[Holder] = []
    returning: dict[str, int] = {}
    for key, used_mib in used.items():
        pod = pods.get(key)
        if pod is None or not _wrote(pod, sample):
            returning[f"{key[0]}/{key[1]} (gone)"] = used_mib
        elif pod.terminating:
            returning[f"{pod} (terminating)"] = used_mib
        else:
            holders.append(Holder(pod, used_mib, node_used_mib.get((sample.node, key), used_mib), sample.uuid))
    return Holdings(tuple(holders), returning)


def no_pods_mib(sample: GpuSample) -> int | None:
    """MiB on the card that no pod owns, processes that run outside Kubernetes included; None: unknown."""
    if sample.unattributed_mib is None:
        return None
    return sample.unattributed_mib + sum(row.used_mib for row in sample.pods if not row.pod)


def _wrote(pod: PodFacts, sample: GpuSample) -> bool:
    """Whether a row of `sample` under the pod's name is about this very pod."""
    if pod.node != sample.node or pod.started_at is None:
        return False
    return sample.sampled_at >= pod.started_at + _START_ROUNDING
