"""The watchdog's very decisions on a recorded trace: what would it have done, and was it right?

The effect of a recycle is simulated on what was recorded. From `act_seconds` after the decision the
victim holds nothing, for `restart_seconds`; then its successor holds the least that the pod was
seen to hold before, plus whatever the recorded pod grew since the recycle. Both ends as soon as the
trace itself shows another pod. Nobody else is assumed to use the memory that came back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

from helpers.domain.watchdog.decisions import Reason, Recycle, Refusal, is_verdict
from helpers.domain.watchdog.facts import ActRecord, ContainerUse, GpuSample, Outcome, PodFacts
from helpers.domain.watchdog.pressure import doubt
from helpers.domain.watchdog.recycling import decide
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.domain.watchdog.trace import Frame, Trace

# A gap of more looks than this is time that nobody saw.
_LONGEST_GAP_LOOKS = 5


@dataclass(frozen=True, slots=True)
class Effect:
    """What a simulated recycle does. `patience_seconds`: a pressure that ends earlier needed no act."""

    act_seconds: float = 8.0
    restart_seconds: float = 20.0
    patience_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class ReplayedRecycle:
    """One recycle. `needed` None: the trace ends, or loses sight, before that shows."""

    at: datetime
    decision: Recycle
    needed: bool | None
    evidence: str


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What one choice of floor and cool-down does to one trace. Minutes are summed over the cards.

    `under_floor_untouched_minutes` is what the trace shows without any act; `refusals` is
    `{reason: looks}` over the cards' verdicts.
    """

    floor_mib: int
    cooldown_seconds: float
    cards_count: int
    seen_minutes: float
    unknown_minutes: float
    under_floor_untouched_minutes: float
    under_floor_minutes: float
    recycles: tuple[ReplayedRecycle, ...]
    refusals: Mapping[Reason, int]

    @property
    def false_recycles(self) -> tuple[ReplayedRecycle, ...]:
        """Recycles that nothing needed: a victim in budget, or a pressure that went by itself."""
        return tuple(recycle for recycle in self.recycles if recycle.needed is False)


@dataclass(frozen=True, slots=True)
class _Relief:
    """One recycled pod: `held` and `least` are `{(card uuid, container): MiB}` as recorded."""

    before: _Relief | None
    generation: int
    gone_at: datetime
    back_at: datetime
    held: Mapping[tuple[str, str], int]
    least: Mapping[tuple[str, str], int]

    def use_mib(self, uuid: str, row: ContainerUse, at: datetime) -> int:
        """What the pod, or its successor, holds in place of what was recorded."""
        if at < self.gone_at:
            return self.before.use_mib(uuid, row, at) if self.before else row.used_mib
        if at < self.back_at:
            return 0
        key = (uuid, row.container)
        grown_mib = max(0, row.used_mib - self.held.get(key, 0))
        return min(row.used_mib, self.least.get(key, row.used_mib) + grown_mib)


@dataclass
class _Tally:
    seen_minutes: float = 0.0
    unknown_minutes: float = 0.0
    untouched_minutes: float = 0.0
    under_minutes: float = 0.0
    refusals: Counter[Reason] = field(default_factory=Counter)


def sweep(
    trace: Trace,
    settings: WatchdogSettings,
    floors_mib: Sequence[int],
    cooldowns_seconds: Sequence[float],
    effect: Effect | None = None,
) -> tuple[ReplayReport, ...]:
    """`replay` for every choice of floor and cool-down, in that order."""
    return tuple(
        replay(trace, settings.model_copy(update={"floor_mib": floor, "cooldown_seconds": cooldown}), effect)
        for floor in floors_mib
        for cooldown in cooldowns_seconds
    )


def replay(trace: Trace, settings: WatchdogSettings, effect: Effect | None = None) -> ReplayReport:
    """`trace` as an armed watchdog with `settings` would have had it."""
    return _Replay(trace, settings.armed(), effect or Effect()).run()


class _Replay:
    def __init__(self, trace: Trace, settings: WatchdogSettings, effect: Effect) -> None:
        self._trace = trace
        self._settings = settings
        self._effect = effect
        self._reliefs: dict[str, _Relief] = {}
        self._history: list[ActRecord] = []
        self._least: dict[str, dict[tuple[str, str], int]] = {}
        self._recycles: list[ReplayedRecycle] = []
        self._tally = _Tally()

    def run(self) -> ReplayReport:
        for index, (frame, minutes) in enumerate(zip(self._trace, _minutes(self._trace), strict=True)):
            self._finish_acts(frame.at)
            self._remember_least(frame)
            shown = _with_reliefs(frame, self._reliefs)
            self._count_minutes(frame, shown, minutes)
            for decision in decide(self._settings, shown.samples, shown.pods, self._history, frame.at):
                if isinstance(decision, Recycle):
                    self._act(index, decision)
                elif isinstance(decision, Refusal) and is_verdict(decision):
                    self._tally.refusals[decision.reason] += 1
        return self._report()

    def _report(self) -> ReplayReport:
        tally = self._tally
        cards = {(sample.node, sample.uuid) for frame in self._trace for sample in frame.samples}
        return ReplayReport(
            floor_mib=self._settings.floor_mib,
            cooldown_seconds=self._settings.cooldown_seconds,
            cards_count=len(cards),
            seen_minutes=tally.seen_minutes,
            unknown_minutes=tally.unknown_minutes,
            under_floor_untouched_minutes=tally.untouched_minutes,
            under_floor_minutes=tally.under_minutes,
            recycles=tuple(self._recycles),
            refusals=dict(tally.refusals),
        )

    def _finish_acts(self, now: datetime) -> None:
        act = timedelta(seconds=self._effect.act_seconds)
        for index, record in enumerate(self._history):
            if record.finished_at is None and record.started_at + act <= now:
                self._history[index] = replace(record, finished_at=record.started_at + act, outcome=Outcome.EVICTED)

    def _remember_least(self, frame: Frame) -> None:
        uids = {(pod.namespace, pod.name): pod.uid for pod in frame.pods}
        for sample in frame.samples:
            for row in sample.pods if sample.ok else ():
                uid = uids.get((row.namespace, row.pod))
                if uid is not None:
                    least = self._least.setdefault(uid, {})
                    key = (sample.uuid, row.container)
                    least[key] = min(row.used_mib, least.get(key, row.used_mib))

    def _count_minutes(self, frame: Frame, shown: Frame, minutes: float) -> None:
        for recorded, sample in zip(frame.samples, shown.samples, strict=True):
            if doubt(recorded, self._settings, frame.at) is not None:
                self._tally.unknown_minutes += minutes
                continue
            self._tally.seen_minutes += minutes
            self._tally.untouched_minutes += minutes * self._under_floor(recorded)
            self._tally.under_minutes += minutes * self._under_floor(sample)

    def _under_floor(self, sample: GpuSample) -> bool:
        return sample.free_mib is not None and sample.free_mib < self._settings.floor_mib

    def _act(self, index: int, decision: Recycle) -> None:
        frame = self._trace[index]
        needed, evidence = self._judge(index, decision)
        self._recycles.append(ReplayedRecycle(frame.at, decision, needed, evidence))
        victim = decision.victim
        self._history.append(
            ActRecord(
                subject=victim.subject,
                namespace=victim.namespace,
                pod=victim.name,
                uid=victim.uid,
                node=victim.node,
                uuid=decision.card.uuid,
                started_at=frame.at,
                finished_at=None,
                dry_run=False,
            )
        )
        recorded_uid = victim.uid.partition("~")[0]
        earlier = self._reliefs.get(recorded_uid)
        gone_at = frame.at + timedelta(seconds=self._effect.act_seconds)
        self._reliefs[recorded_uid] = _Relief(
            before=earlier,
            generation=earlier.generation + 1 if earlier else 1,
            gone_at=gone_at,
            back_at=gone_at + timedelta(seconds=self._effect.restart_seconds),
            held={
                (sample.uuid, row.container): row.used_mib
                for sample in frame.samples
                for row in sample.pods
                if (row.namespace, row.pod) == (victim.namespace, victim.name)
            },
            least=dict(self._least.get(recorded_uid, {})),
        )

    def _judge(self, index: int, decision: Recycle) -> tuple[bool | None, str]:
        """Whether the recycle was needed, from what the trace shows next without it."""
        if decision.budget_mib is not None and decision.overshoot_mib <= 0:
            return False, f"the victim holds {decision.used_mib} of its {decision.budget_mib} MiB"
        started_at = self._trace[index].at
        until = started_at + timedelta(seconds=self._effect.patience_seconds)
        recorded_uid = decision.victim.uid.partition("~")[0]
        for frame in self._trace[index + 1 :]:
            after_seconds = (frame.at - started_at).total_seconds()
            if all(pod.uid != recorded_uid for pod in frame.pods):
                return True, f"somebody removed the pod {after_seconds:.0f} s later in the trace itself"
            if frame.at > until:
                return True, f"the pressure outlasts {self._effect.patience_seconds:.0f} s"
            sample = next((s for s in frame.samples if s.uuid == decision.card.uuid), None)
            if sample is None or doubt(sample, self._settings, frame.at) is not None:
                continue
            shown = _relieved_sample(sample, frame, self._reliefs)
            if shown.free_mib is not None and shown.free_mib >= self._settings.floor_mib:
                return False, f"without it {shown.free_mib} MiB are free {after_seconds:.0f} s later"
        return None, "the trace ends before it shows"


def _minutes(trace: Trace) -> Iterator[float]:
    """How long each look stands: until the next one, a gap counts no longer than a few looks."""
    spans = [(after.at - before.at).total_seconds() / 60 for before, after in pairwise(trace)]
    usual = sorted(spans)[len(spans) // 2] if spans else 0.0
    yield from (min(span, usual * _LONGEST_GAP_LOOKS) for span in spans)
    yield usual


def _with_reliefs(frame: Frame, reliefs: Mapping[str, _Relief]) -> Frame:
    if not reliefs:
        return frame
    samples = tuple(_relieved_sample(sample, frame, reliefs) for sample in frame.samples)
    pods = tuple(pod for pod in (_relieved_pod(pod, frame.at, reliefs) for pod in frame.pods) if pod is not None)
    return Frame(frame.at, samples, pods)


def _relieved_pod(pod: PodFacts, at: datetime, reliefs: Mapping[str, _Relief]) -> PodFacts | None:
    relief = reliefs.get(pod.uid)
    if relief is None:
        return pod
    before = f"{pod.uid}~{relief.generation - 1}" if relief.generation > 1 else pod.uid
    if at < relief.gone_at:
        return replace(pod, uid=before, deletion_at=relief.gone_at)
    if at < relief.back_at:
        return None
    # A second early: the trace's looks are coarser than a start, and the row at `at` is the successor's.
    return replace(pod, uid=f"{pod.uid}~{relief.generation}", started_at=relief.back_at - timedelta(seconds=1))


def _relieved_sample(sample: GpuSample, frame: Frame, reliefs: Mapping[str, _Relief]) -> GpuSample:
    uids = {(pod.namespace, pod.name): pod.uid for pod in frame.pods}
    rows: list[ContainerUse] = []
    back_mib = 0
    for row in sample.pods:
        relief = reliefs.get(uids.get((row.namespace, row.pod), ""))
        used_mib = row.used_mib if relief is None else relief.use_mib(sample.uuid, row, frame.at)
        back_mib += row.used_mib - used_mib
        if used_mib or relief is None:
            rows.append(replace(row, used_mib=used_mib))
    if sample.used_mib is None or sample.free_mib is None:
        return sample
    used_mib, free_mib = sample.used_mib - back_mib, sample.free_mib + back_mib
    return replace(sample, pods=tuple(rows), used_mib=used_mib, free_mib=free_mib)
