"""The watchdog's decision: which pod, if any, gives its memory back on each card.

The rules, in the order in which they are asked for each card:

1. A sample that is stale, from the future, failed or contradictory decides nothing.
2. No pressure (free at or above the floor): nothing is done.
3. An act under way on this card, a victim of ours that is still terminating, or a sample older
   than the end of the last act there: wait. One victim a deficit, whatever it gave back so far.
4. Memory of terminating and gone pods that fills the deficit: wait for it.
5. Offenders are living pods over their budget: a number is one for all cards together, a claim is for
   its own card, so that what its pod uses of another is over budget there. Protected, system-critical,
   bare, static and DaemonSet pods, and those without a budget under `unbudgeted: report`, stand outside
   the contest; each one that is passed over is named. A pod within its budget is never looked at.
6. The subject (tenant) with the largest overshoot on the card is the offender. Ties, in this order:
   more used on the card, batch before realtime, lower name. Within it the pod with the largest
   overshoot; ties: more used, younger, lower name.
7. The offender's cool-down and the caps. They are brakes and not exemptions: while they hold, no
   smaller offender is taken in its stead.

Cards are gone through by falling deficit, so that a cap is spent where the need is greatest; a
subject is acted on at most once a pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from helpers.domain.watchdog.decisions import CardState, Decision, NoAction, Reason, Recycle, Refusal
from helpers.domain.watchdog.facts import ActRecord, GpuSample, PodFacts
from helpers.domain.watchdog.offenders import Offender, choose, passed_over_text, untouchable
from helpers.domain.watchdog.pressure import (
    Doubt,
    Holder,
    Holdings,
    attribute,
    doubt,
    newest_by_card,
    no_pods_mib,
    node_use_mib,
)
from helpers.domain.watchdog.pressure import pods_by_key as _pods_by_key
from helpers.domain.watchdog.settings import TenantRule, WatchdogSettings

CAP_WINDOW = timedelta(hours=1)


def decide(
    settings: WatchdogSettings,
    samples: Sequence[GpuSample],
    pods: Sequence[PodFacts],
    history: Sequence[ActRecord],
    now: datetime,
) -> tuple[Decision, ...]:
    """One verdict for each card in `samples`, after the notes on pods that were passed over there.

    Args:
        settings: the watchdog's document.
        samples: the last sample of every card, however old: a silent exporter is a stale sample.
        pods: every pod on the nodes of `samples` that has not finished, terminating ones included.
        history: past acts; those of the last hour and of the cool-down are enough.
        now: this machine's clock, aware.

    Ordered by node and card. With the outcome carried out (an unfinished ActRecord, and in time a
    deletionTimestamp on the victim) a second call recycles nobody.
    """
    return _Pass(settings, samples, pods, history, now).run()


def revalidate(
    decision: Recycle,
    settings: WatchdogSettings,
    samples: Sequence[GpuSample],
    pods: Sequence[PodFacts],
    history: Sequence[ActRecord],
    now: datetime,
) -> Decision:
    """What fresh facts say of `decision`, right before each act: a Recycle of the same pod, or why not.

    It is `decide` again, on facts that must be newer than the decision's, without the act's own
    record in the way. Asked before every rung of the ladder, so also after a release hook.
    """
    mine = [sample for sample in samples if sample.node == decision.card.node]
    others = [r for r in history if not (r.uid == decision.victim.uid and r.finished_at is None)]
    verdict = next(
        (d for d in reversed(decide(settings, mine, pods, others, now)) if d.card.uuid == decision.card.uuid), None
    )
    if verdict is None:
        return Refusal(decision.card, Reason.UNKNOWN, "the card has no sample any more")
    if not isinstance(verdict, Recycle):
        return verdict
    if verdict.card.sampled_at <= decision.card.sampled_at:
        return Refusal(verdict.card, Reason.NOT_CONFIRMED, "no newer sample confirms the pressure yet")
    if verdict.victim.uid != decision.victim.uid:
        text = f"the largest overshoot is {verdict.victim}'s by now, not {decision.victim}'s"
        return Refusal(verdict.card, Reason.NOT_CONFIRMED, text)
    return verdict


def still_valid(
    decision: Recycle,
    settings: WatchdogSettings,
    samples: Sequence[GpuSample],
    pods: Sequence[PodFacts],
    history: Sequence[ActRecord],
    now: datetime,
) -> bool:
    """Whether `revalidate` still names the same pod, to be acted on for real or not as before."""
    fresh = revalidate(decision, settings, samples, pods, history, now)
    return isinstance(fresh, Recycle) and fresh.dry_run == decision.dry_run


@dataclass
class _Taken:
    """What this pass has decided so far."""

    subjects: set[str] = field(default_factory=set)
    counts: Counter[bool] = field(default_factory=Counter)


class _Pass:
    """One call of `decide`: the facts, indexed once."""

    def __init__(
        self,
        settings: WatchdogSettings,
        samples: Sequence[GpuSample],
        pods: Sequence[PodFacts],
        history: Sequence[ActRecord],
        now: datetime,
    ) -> None:
        self._settings = settings
        self._now = now
        self._rules: dict[str, TenantRule] = {rule.name: rule for rule in settings.tenants}
        self._pods = _pods_by_key(pods)
        self._by_uid = {pod.uid: pod for pod in pods}
        self._history = [record for record in history if record.counts]
        self._samples = newest_by_card(samples)
        self._doubts: dict[tuple[str, str], Doubt | None] = {
            (sample.node, sample.uuid): doubt(sample, settings, now) for sample in self._samples
        }
        believed = [sample for sample in self._samples if self._doubts[sample.node, sample.uuid] is None]
        self._node_used_mib = node_use_mib(believed, self._pods)
        self._taken = _Taken()

    def run(self) -> tuple[Decision, ...]:
        by_need = sorted(self._samples, key=lambda s: (s.free_mib is None, s.free_mib or 0, s.node, s.gpu, s.uuid))
        found = {(sample.node, sample.gpu, sample.uuid): self._decide_card(sample) for sample in by_need}
        return tuple(decision for key in sorted(found) for decision in found[key])

    def _decide_card(self, sample: GpuSample) -> list[Decision]:
        card = self._card(sample)
        problem = self._doubts[sample.node, sample.uuid]
        if problem is not None:
            return [Refusal(card, problem.reason, problem.text)]
        if not card.deficit_mib:
            return [NoAction(card)]
        holdings = attribute(sample, self._pods, self._node_used_mib)
        card = self._card(sample, holdings.returning_mib)
        waiting = self._waits_for(card, holdings)
        if waiting is not None:
            return [waiting]
        return self._judge(card, holdings)

    def _card(self, sample: GpuSample, returning_mib: int = 0) -> CardState:
        return CardState(
            node=sample.node,
            gpu=sample.gpu,
            uuid=sample.uuid,
            sampled_at=sample.sampled_at,
            floor_mib=self._settings.floor_mib,
            free_mib=sample.free_mib,
            returning_mib=returning_mib,
            unattributed_mib=no_pods_mib(sample),
        )

    def _waits_for(self, card: CardState, holdings: Holdings) -> Refusal | None:
        """Rules 3 and 4."""
        here = [r for r in self._history if (r.node, r.uuid) == (card.node, card.uuid) and not r.dry_run]
        for record in here:
            pod = self._by_uid.get(record.uid)
            if pod is not None and pod.deletion_at is not None:
                overdue_seconds = (self._now - pod.deletion_at).total_seconds()
                late = f", {overdue_seconds:.0f} s past its grace period" if overdue_seconds > 0 else ""
                return Refusal(card, Reason.ON_ITS_WAY_BACK, f"the victim {pod} is terminating{late}")
            if record.finished_at is None and not self._given_up(record):
                text = f"{record.namespace}/{record.pod} is being recycled since {record.started_at.isoformat()}"
                return Refusal(card, Reason.ACT_UNDER_WAY, text)
            if record.finished_at is not None and card.sampled_at <= record.finished_at:
                text = f"the sample is older than the end of the act on {record.namespace}/{record.pod}"
                return Refusal(card, Reason.NOT_MEASURED_SINCE, text)
        if holdings.returning_mib >= (card.deficit_mib or 0):
            parts = ", ".join(f"{name} {mib} MiB" for name, mib in sorted(holdings.returning.items()))
            return Refusal(card, Reason.ON_ITS_WAY_BACK, f"{parts}; the deficit is {card.deficit_mib} MiB")
        return None

    def _given_up(self, record: ActRecord) -> bool:
        """Whether whoever began the act must be dead: no ladder lasts that long before the pod terminates."""
        rule = self._rules.get(record.subject)
        hook = rule.release_hook if rule else None
        settings = self._settings
        longest_seconds = (
            settings.confirm_seconds
            + (hook.timeout_seconds + hook.remeasure_seconds if hook else 0.0)
            + settings.eviction_timeout_seconds
            + settings.gone_timeout_seconds
            + settings.measure_timeout_seconds
        )
        return (self._now - record.started_at).total_seconds() > longest_seconds

    def _judge(self, card: CardState, holdings: Holdings) -> list[Decision]:
        """Rules 5 to 7."""
        passed_over: list[Decision] = []
        eligible: list[Holder] = []
        for holder in sorted(holdings.holders, key=lambda h: (-h.overshoot_mib, str(h.pod))):
            if holder.overshoot_mib == 0 and not holder.pod.budget_problem:
                continue
            why = untouchable(holder.pod, self._settings, self._rules)
            if why is None:
                eligible.append(holder)
            else:
                passed_over.append(Refusal(card, why, passed_over_text(holder), holder.pod))
        if card.unattributed_mib is not None and card.unattributed_mib >= (card.deficit_mib or 0):
            text = f"{card.unattributed_mib} MiB belong to no pod, which alone is the deficit of {card.deficit_mib} MiB"
            passed_over.append(Refusal(card, Reason.UNATTRIBUTED, text))
        if not eligible:
            return [*passed_over, Refusal(card, Reason.NO_OFFENDER, _nobody_text(card, holdings))]
        offender = choose(eligible)
        return [*passed_over, self._brake(card, offender) or self._take(card, offender)]

    def _dry_run(self, subject: str) -> bool:
        rule = self._rules.get(subject)
        own = rule.dry_run if rule is not None else None
        return self._settings.dry_run if own is None else own

    def _brake(self, card: CardState, offender: Offender) -> Refusal | None:
        settings, pod = self._settings, offender.holder.pod
        subject, dry_run = pod.subject, self._dry_run(pod.subject)
        same_kind = [record for record in self._history if record.dry_run == dry_run]
        own = [record for record in same_kind if record.subject == subject]
        if subject in self._taken.subjects:
            return Refusal(card, Reason.COOLDOWN, f"{subject} is recycled on another card in this pass")
        cooldown = timedelta(seconds=settings.cooldown_seconds)
        last_at = max((record.finished_at or record.started_at for record in own), default=None)
        if last_at is not None and self._now < last_at + cooldown:
            left_seconds = (last_at + cooldown - self._now).total_seconds()
            return Refusal(card, Reason.COOLDOWN, f"{subject} is in cool-down for {left_seconds:.0f} s more")
        own_count = _within_window(own, self._now)
        if own_count >= settings.recycles_per_hour_tenant:
            return Refusal(card, Reason.TENANT_CAP, f"{subject} was recycled {own_count} times in the last hour")
        all_count = _within_window(same_kind, self._now) + self._taken.counts[dry_run]
        if all_count >= settings.recycles_per_hour:
            return Refusal(card, Reason.OVERALL_CAP, f"{all_count} recycles in the last hour, over all tenants")
        return None

    def _take(self, card: CardState, offender: Offender) -> Recycle:
        holder = offender.holder
        subject = holder.pod.subject
        dry_run = self._dry_run(subject)
        self._taken.subjects.add(subject)
        self._taken.counts[dry_run] += 1
        return Recycle(
            card=card,
            victim=holder.pod,
            used_mib=holder.used_mib,
            budget_mib=holder.budget_mib,
            overshoot_mib=holder.overshoot_mib,
            subject_overshoot_mib=offender.subject_overshoot_mib,
            dry_run=dry_run,
            decided_at=self._now,
        )


def _within_window(records: Sequence[ActRecord], now: datetime) -> int:
    """Acts of the last hour; one that this clock puts into the future counts as made now."""
    return sum(now - record.started_at < CAP_WINDOW for record in records)


def _nobody_text(card: CardState, holdings: Holdings) -> str:
    unattributed = "unknown" if card.unattributed_mib is None else f"{card.unattributed_mib} MiB"
    held_mib = sum(holder.used_mib for holder in holdings.holders)
    return (
        f"pods hold {held_mib} MiB, none over its budget may be touched; "
        f"returning {holdings.returning_mib} MiB, unattributed {unattributed}"
    )
