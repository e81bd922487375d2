"""Carries out what was decided for one queue: the mark first, then the pause; the resume first, then the mark.

In this order a coordinator that dies between the two leaves either a mark without a pause, which is
forgotten, or a pause of ours with its mark, which the next leader resumes. Never a pause of ours
that looks like somebody else's. A pause that was sent and not answered may still arrive (a network
that stalled): until it cannot any more, the mark stays, even after a resume.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from helpers.domain.errors import DependencyError
from helpers.domain.lanes.clients import ClientName
from helpers.domain.lanes.decision import UNANSWERED, Decision, Forget, NoAction, Pause, Refuse, Resume
from helpers.domain.lanes.facts import PauseMark, QueueFacts
from helpers.ports.clock import Clock
from helpers.ports.coordinator_metrics import CoordinatorMetrics
from helpers.ports.leadership import Leadership
from helpers.ports.log import Log
from helpers.ports.queues import LaneBoard, QueueEvent, QueueHands


class QueueExecutor:
    """Acts for one process, called `identity` in the marks."""

    def __init__(
        self,
        hands: QueueHands,
        marks: LaneBoard,
        leadership: Leadership,
        metrics: CoordinatorMetrics,
        clock: Clock,
        log: Log,
        *,
        identity: str,
        dry_run: bool = False,
    ) -> None:
        self._hands = hands
        self._marks = marks
        self._leadership = leadership
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._identity = identity
        self._dry_run = dry_run
        self._own_pauses: Counter[str] = Counter()
        self._unanswered_seconds: dict[str, float] = {}
        self._said: dict[str, str] = {}
        self._warmed: set[ClientName] = set()

    def heard(self, events: tuple[QueueEvent, ...], queues: Mapping[str, QueueFacts]) -> None:
        """Notices pauses that are not ours: what a person pauses, paused already or not, is theirs from then on.

        Raises:
            DependencyError: the mark could not be dropped.
        """
        for event in events:
            if event.name != "paused" or self._dry_run:
                continue
            mark = queues[event.queue].mark if event.queue in queues else None
            if self._own_pauses[event.queue] > 0:
                self._own_pauses[event.queue] -= 1
            elif mark is not None and mark.confirmed and not self._may_still_arrive(event.queue):
                self._marks.drop_mark(event.queue)
                self._log.info("pause_taken_over", queue=event.queue, reason="somebody else paused it, too")

    def warm(self, clients: Iterable[ClientName]) -> None:
        """Gets the clients ready that the queues will need; one that cannot run is said, each time it is new."""
        for client in () if self._dry_run else clients:
            if client in self._warmed:
                continue
            self._warmed.add(client)
            try:
                self._hands.warm(client)
            except DependencyError as error:
                self._log.error("client_missing", client=client, reason=str(error))

    def start_over(self) -> None:
        """Events of before are not heard any more, those of our own pauses included."""
        self._own_pauses.clear()

    def carry_out(self, decisions: tuple[Decision, ...], queues: Mapping[str, QueueFacts]) -> int:
        """Does what has to be done (a dry run only says it); how many acts could not be.

        Pauses come first: what has to stop must not wait for what may begin.
        """
        failed_count = 0
        for decision in sorted(decisions, key=lambda one: not isinstance(one, Pause)):
            if self._dry_run or not isinstance(decision, Pause | Resume | Forget):
                self._say(decision)
                continue
            if not self._leadership.leads():
                return failed_count
            act = type(decision).__name__.lower()
            try:
                self._act(decision, queues)
            except DependencyError as error:
                failed_count += 1
                if isinstance(decision, Pause):
                    self._unanswered_seconds[decision.queue] = self._clock.monotonic_seconds()
                self._metrics.acted(decision.lane, act, "failed")
                self._log.warning(f"{act}_failed", queue=decision.queue, lane=decision.lane, reason=str(error))
            else:
                self._metrics.acted(decision.lane, act, "done")
        return failed_count

    def _act(self, decision: Pause | Resume | Forget, queues: Mapping[str, QueueFacts]) -> None:
        queue, lane = decision.queue, decision.lane
        self._said.pop(queue, None)
        match decision:
            case Pause():
                self._pause(decision)
            case Resume():
                self._hands.resume(queue, decision.client)
                self._own_pauses[queue] = 0
                self._resumed(queue, queues[queue].mark)
                self._log.info("queue_resumed", queue=queue, lane=lane, client=decision.client, reason=decision.text)
            case Forget():
                self._marks.drop_mark(queue)
                self._log.info("mark_forgotten", queue=queue, lane=lane, reason=decision.text)

    def _resumed(self, queue: str, mark: PauseMark | None) -> None:
        if mark is not None and self._may_still_arrive(queue):
            update = {"confirmed": False, "since_at": self._clock.now_at()}
            self._marks.write_mark(mark.model_copy(update=update))
        else:
            self._marks.drop_mark(queue)

    def _may_still_arrive(self, queue: str) -> bool:
        """Whether a pause of ours was sent a short while ago and never answered."""
        sent_seconds = self._unanswered_seconds.get(queue)
        return sent_seconds is not None and (
            self._clock.monotonic_seconds() - sent_seconds < UNANSWERED.total_seconds()
        )

    def _pause(self, decision: Pause) -> None:
        mark = PauseMark(
            queue=decision.queue,
            lane=decision.lane,
            holder=self._identity,
            reason=f"{decision.reason.value}: {decision.text}",
            since_at=self._clock.now_at(),
        )
        self._marks.write_mark(mark)
        self._own_pauses[decision.queue] += 1
        self._hands.pause(decision.queue, decision.client)
        self._marks.write_mark(mark.model_copy(update={"confirmed": True}))
        self._log.info("queue_paused", queue=decision.queue, lane=decision.lane, client=decision.client,
                       decision=decision.reason.value, reason=decision.text)  # fmt: skip

    def _say(self, decision: Decision) -> None:
        """Says what is new: a refusal, a queue that is somebody else's, and in a dry run what would be done."""
        text = "" if isinstance(decision, NoAction) and not decision.foreign else decision.text
        # A pause's text counts jobs, which is nothing new.
        news = f"pause: {decision.reason.value}" if isinstance(decision, Pause) else text
        if news == self._said.get(decision.queue, ""):
            return
        self._said[decision.queue] = news
        if isinstance(decision, Refuse):
            self._metrics.acted(decision.lane, "refuse", "done")
            self._log.warning("queue_refused", queue=decision.queue, lane=decision.lane, reason=text)
        elif isinstance(decision, Pause | Resume | Forget):
            act = type(decision).__name__.lower()
            self._metrics.acted(decision.lane, act, "dry_run")
            self._log.info(f"would_{act}", queue=decision.queue, lane=decision.lane, reason=text)
        elif text:
            self._log.info("queue_left_alone", queue=decision.queue, lane=decision.lane, reason=text)
