"""Keeps every node's number there: re-asserts at the very event that shows it wrong or absent.

A node that registers again (reinstalled, or its Node object deleted) comes without the number. An
hourly job alone left tenants Pending for up to an hour; this is why the watch exists, and the job
stays as its backstop.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from helpers.domain.capacity import CapacityAction, CapacitySettings, KeepCapacity, RefuseLowering, SetCapacity
from helpers.domain.errors import CheckFailed, ClusterError, Forbidden, NotFound, QuantityError
from helpers.ports.capacity_metrics import CapacityMetrics
from helpers.ports.clock import Clock
from helpers.ports.cluster import Cluster, Manifest, WatchEvent
from helpers.ports.events import Events
from helpers.ports.leadership import Leadership
from helpers.ports.log import Log
from helpers.services.capacity import OUTCOMES, CapacityExecutor, outcome_of, plan_node
from helpers.services.capacity_observation import NODES

FULL_CHECK_SECONDS = 300.0
STANDBY_POLL_SECONDS = 0.5
FIRST_RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 30.0
# More writes than this on one Node object within the span means that somebody writes against us.
CONTEST_WRITES_COUNT = 5
CONTEST_SPAN_SECONDS = 10.0

Stop = Callable[[], bool]


@dataclass(frozen=True)
class WatchPorts:
    """What the watch works with."""

    cluster: Cluster
    leadership: Leadership
    events: Events
    metrics: CapacityMetrics
    clock: Clock
    log: Log


def watch_capacity(
    ports: WatchPorts,
    settings: CapacitySettings,
    *,
    stop: Stop,
    dry_run: bool = False,
    full_check_seconds: float = FULL_CHECK_SECONDS,
) -> None:
    """Keeps the numbers until `stop()`; only while `ports.leadership` says that this process leads.

    A node that cannot be done (a refused lowering, two kinds, an unreadable number) is logged once
    and does not hold up the others. What a retry may mend is retried with growing pauses.

    Args:
        ports: The outside.
        settings: What is advertised where.
        stop: Asked several times a second, between units of work.
        dry_run: Only say what would be done.
        full_check_seconds: Every node is looked at again at least this often, whatever the watch said.

    Raises:
        Forbidden: a permission is missing; the message names it.
    """
    keeper = _Keeper(ports, settings, dry_run=dry_run)
    while not stop():
        if not ports.leadership.leads():
            ports.clock.sleep_seconds(STANDBY_POLL_SECONDS)
            continue
        try:
            keeper.check_all()
            keeper.follow(stop, full_check_seconds)
        except Forbidden:
            raise
        except ClusterError as error:
            ports.log.error("capacity_check_failed", reason=str(error))
            ports.clock.sleep_seconds(keeper.next_retry_seconds())
    ports.log.info("capacity_watch_stopped")


class _Keeper:
    def __init__(self, ports: WatchPorts, settings: CapacitySettings, *, dry_run: bool) -> None:
        self._ports = ports
        self._settings = settings
        self._executor = CapacityExecutor(ports.cluster, settings, events=ports.events, log=ports.log, dry_run=dry_run)
        self._contests = _Contests()
        self._unclear: dict[str, str] = {}
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._retry_at: float | None = None

    def check_all(self) -> None:
        """Looks at every node once; a check that leaves nothing undone counts as success."""
        self._retry_at = None
        outcomes = Counter(self._ensure(node) for node in self._ports.cluster.list(NODES))
        counts = {f"{outcome}_count": outcomes[outcome] for outcome in OUTCOMES}
        self._ports.log.info("capacity_checked", **counts)
        if self._retry_at is None:
            self._retry_seconds = FIRST_RETRY_SECONDS
        if not outcomes["failed"] and not outcomes["refused"]:
            self._ports.metrics.succeeded(self._ports.clock.now_at())

    def follow(self, stop: Stop, full_check_seconds: float) -> None:
        """Answers each node event, until the next full check is due, a retry is, or we must not go on."""
        clock, leadership = self._ports.clock, self._ports.leadership
        full_check_at = clock.monotonic_seconds() + full_check_seconds

        def enough() -> bool:
            due_at = full_check_at if self._retry_at is None else min(full_check_at, self._retry_at)
            return stop() or not leadership.leads() or clock.monotonic_seconds() >= due_at

        for event in self._ports.cluster.watch(NODES, stop=enough):
            # Again: leadership may have gone while the event was on its way.
            if enough():
                return
            self._answer(event)

    def next_retry_seconds(self) -> float:
        """How long to wait before trying again; grows until a check succeeds."""
        seconds = self._retry_seconds
        self._retry_seconds = min(2 * seconds, LONGEST_RETRY_SECONDS)
        return seconds

    def _answer(self, event: WatchEvent) -> None:
        if event.type != "DELETED":
            self._ensure(event.object)
            return
        name = str(event.object["metadata"]["name"])
        self._unclear.pop(name, None)
        self._ports.metrics.advertised(name, None)

    def _ensure(self, node: Manifest) -> str:
        name = str(node["metadata"]["name"])
        try:
            action = plan_node(self._ports.cluster, self._settings, node)
            if isinstance(action, SetCapacity) and self._contested(node):
                outcome = "failed"
            else:
                outcome = self._carry_out(action, node)
            self._unclear.pop(name, None)
        except (CheckFailed, QuantityError) as error:
            outcome = self._failed(name, str(error))
        except NotFound:
            # Gone since the event; if it registers again, that is an event of its own.
            return ""
        except Forbidden:
            raise
        except ClusterError as error:
            self._ports.log.error("capacity_write_failed", node=name, reason=str(error))
            self._retry_soon()
            outcome = "failed"
        if outcome not in ("", "kept"):
            self._ports.metrics.asserted(name, outcome)
        return outcome

    def _carry_out(self, action: CapacityAction | None, node: Manifest) -> str:
        if action is None:
            return ""
        changed = self._executor.carry_out(action, node)
        self._ports.metrics.advertised(action.node, _shown_mib(action))
        if changed:
            self._contests.wrote(_uid(node), self._ports.clock.monotonic_seconds())
        elif not isinstance(action, RefuseLowering):
            return "kept"
        return outcome_of(action)

    def _failed(self, name: str, reason: str) -> str:
        if self._unclear.get(name) != reason:
            self._unclear[name] = reason
            self._ports.log.error("capacity_node_unclear", node=name, reason=reason)
        return "failed"

    def _contested(self, node: Manifest) -> bool:
        metadata = node["metadata"]
        if not self._contests.too_many(_uid(node), self._ports.clock.monotonic_seconds()):
            return False
        managers = sorted({str(entry.get("manager")) for entry in metadata.get("managedFields") or []})
        self._ports.log.warning(
            "capacity_contested", node=metadata["name"], decision="wait",
            reason=f"written {CONTEST_WRITES_COUNT} times in {CONTEST_SPAN_SECONDS:.0f} s and changed again each time; "
            f"field managers on the node: {', '.join(managers)}",
        )  # fmt: skip
        self._retry_soon()
        return True

    def _retry_soon(self) -> None:
        if self._retry_at is None:
            self._retry_at = self._ports.clock.monotonic_seconds() + self.next_retry_seconds()


def _uid(node: Manifest) -> str:
    return str(node["metadata"].get("uid", ""))


def _shown_mib(action: CapacityAction) -> int | None:
    match action:
        case SetCapacity():
            return action.to_mib
        case KeepCapacity():
            return action.at_mib
        case RefuseLowering():
            return action.from_mib
        case _:
            return None


class _Contests:
    """Writes on each Node object (by uid: a node that registers again is another object)."""

    def __init__(self) -> None:
        self._writes: dict[str, deque[float]] = {}

    def too_many(self, uid: str, now_seconds: float) -> bool:
        """Whether a further write now would be one too many."""
        writes = self._writes.get(uid, deque())
        return len(writes) == CONTEST_WRITES_COUNT and now_seconds - writes[0] < CONTEST_SPAN_SECONDS

    def wrote(self, uid: str, now_seconds: float) -> None:
        """Counts a write, and forgets objects that were not written for a while."""
        for known, writes in list(self._writes.items()):
            if now_seconds - writes[-1] >= CONTEST_SPAN_SECONDS:
                del self._writes[known]
        self._writes.setdefault(uid, deque(maxlen=CONTEST_WRITES_COUNT)).append(now_seconds)
