"""Who may be asked to give memory back, and whose turn it is among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from helpers.domain.watchdog.decisions import Reason
from helpers.domain.watchdog.facts import PodFacts
from helpers.domain.watchdog.pressure import Holder
from helpers.domain.watchdog.settings import TenantRule, WatchdogSettings


@dataclass(frozen=True, slots=True)
class Offender:
    """The chosen subject: its worst pod, and the overshoot of all its pods on the card."""

    holder: Holder
    subject_overshoot_mib: int


def untouchable(pod: PodFacts, settings: WatchdogSettings, rules: Mapping[str, TenantRule]) -> Reason | None:
    """Why `pod` stands outside the contest, or None. `rules` is `{tenant: rule}`."""
    rule = rules.get(pod.tenant) if pod.tenant is not None else None
    bare = pod.owner_kind is None and not settings.allow_bare_pods
    checks = (
        (bool(pod.budget_problem), Reason.BUDGET_UNREADABLE),
        (pod.system_critical, Reason.SYSTEM_CRITICAL),
        (pod.protected or (rule is not None and rule.protected), Reason.PROTECTED),
        (pod.namespace in settings.protected_namespaces, Reason.PROTECTED),
        # A static pod's mirror can be evicted as often as one likes: the kubelet runs on.
        (bare or pod.owner_kind == "Node", Reason.BARE_POD),
        (pod.owner_kind == "DaemonSet" and not (rule is not None and rule.allow_daemon_set), Reason.DAEMON_SET),
        (pod.budget_mib is None and settings.unbudgeted == "report", Reason.UNBUDGETED),
    )
    return next((reason for holds, reason in checks if holds), None)


def choose(eligible: Sequence[Holder]) -> Offender:
    """The subject with the largest overshoot on the card, and its worst pod there.

    Ties between subjects: more used, batch before realtime, lower name. Between pods of one: more
    used, younger, lower name.
    """
    by_subject: dict[str, list[Holder]] = {}
    for holder in eligible:
        by_subject.setdefault(holder.pod.subject, []).append(holder)

    def subject_order(subject: str) -> tuple[int, int, bool, str]:
        mine = by_subject[subject]
        overshoot_mib = sum(holder.overshoot_mib for holder in mine)
        used_mib = sum(holder.used_mib for holder in mine)
        return (-overshoot_mib, -used_mib, mine[0].pod.workload_class != "batch", subject)

    worst = min(by_subject, key=subject_order)
    return Offender(min(by_subject[worst], key=_pod_order), -subject_order(worst)[0])


def _pod_order(holder: Holder) -> tuple[int, int, float, str]:
    started_at = holder.pod.started_at
    youth = -started_at.timestamp() if started_at else 0.0
    return (-holder.overshoot_mib, -holder.used_mib, youth, str(holder.pod))


def passed_over_text(holder: Holder) -> str:
    """Who was passed over, with its numbers."""
    pod = holder.pod
    number = "no budget" if pod.budget_mib is None else f"a budget of {pod.budget_mib} MiB"
    budget = pod.budget_problem or pod.claims_text(holder.uuid) or number
    return f"{pod} holds {holder.used_mib} MiB with {budget} and is not touched"
