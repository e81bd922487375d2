"""Keeps this node's slice as its cards are: looks, decides, writes, and says what it did."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from helpers.domain.dra import naming
from helpers.domain.dra.devices import KnownDevice, Look, ReserveRule, looked
from helpers.domain.dra.rights import FIELD_MANAGER_DRA_AGENT
from helpers.domain.dra.runtime import cdi_to_check
from helpers.domain.dra.slice_document import API_VERSION, NodeIdentity, published_devices, shares_are_kept
from helpers.domain.dra.slices import NVIDIA_DRIVER, Keep, Publish, SliceAction, Withdraw, decide, same, shares_memory
from helpers.domain.errors import CheckFailed, QuantityError
from helpers.ports.clock import Clock
from helpers.ports.cluster import Manifest, ObjectRef, Objects, WatchEvent
from helpers.ports.dra_agent import DraMetrics
from helpers.ports.events import Events
from helpers.ports.log import Log
from helpers.services.dra_board import NodeBoard

SLICES = ObjectRef(API_VERSION, "ResourceSlice")
# More writes than this within the span mean that somebody writes against us.
CONTEST_WRITES_COUNT = 10
CONTEST_SPAN_SECONDS = 10.0


@dataclass(frozen=True)
class PublishPorts:
    """What the publisher works with."""

    api: Objects
    events: Events
    metrics: DraMetrics
    clock: Clock
    log: Log


@dataclass(frozen=True)
class PublishRules:
    """Which node, what is kept from its cards, and which MIG profiles it is to have."""

    node_name: str
    reserve: ReserveRule
    mig_profiles: frozenset[str] = frozenset()
    forget_xids: bool = False
    dry_run: bool = False


class Publisher:
    """One node's slice; one thread calls it.

    Args:
        ports: The outside.
        rules: What is published.
        board: Where the devices are shown to whoever prepares claims, and what is prepared is seen.
    """

    def __init__(self, ports: PublishPorts, rules: PublishRules, board: NodeBoard) -> None:
        self._ports = ports
        self._rules = rules
        self._board = board
        self._node: Manifest | None = None
        self._slices: dict[str, Manifest] = {}
        self._known: tuple[KnownDevice, ...] | None = None
        self._generation = 0
        self._sent: tuple[Manifest, str] | None = None
        self._writes: deque[float] = deque(maxlen=CONTEST_WRITES_COUNT)
        self._problems: Mapping[str, str] = {}
        self._said = ""
        # Whether the slice is as it should be, or deliberately not there.
        self.settled = False
        self._warned: set[tuple[str, str]] = set()
        self._notes: list[tuple[str, str]] = []

    def note(self, reason: str, text: str) -> None:
        """A warning from elsewhere in the agent, written on the Node as soon as that is known."""
        self._notes.append((reason, text))

    def begin(self, nodes: Sequence[Manifest], slices: Sequence[Manifest]) -> None:
        """What is there at the start: the slice that an earlier process left is where the knowledge begins."""
        self._node = next((node for node in nodes if node["metadata"]["name"] == self._rules.node_name), None)
        self._slices = {item["metadata"]["name"]: item for item in slices}
        mine = [item for item in slices if item["spec"]["driver"] == naming.DRIVER]
        if mine:
            self._adopt(max(mine, key=lambda item: int(item["spec"]["pool"]["generation"])))

    def saw(self, event: WatchEvent) -> None:
        """One change of the Node or of a slice of it."""
        name, gone = event.object["metadata"]["name"], event.type == "DELETED"
        if event.object["kind"] == "Node":
            self._node = None if gone else event.object
        elif gone:
            self._slices.pop(name, None)
        else:
            self._slices[name] = event.object

    def looked(self, look: Look) -> None:
        """One look at the cards."""
        rules = self._rules
        if look.readings is None and self._known is None:
            self._notice({"driver": look.fault.detail if look.fault else "no answer"})
            return
        outcome = looked(
            self._known or (), look, rules.reserve, in_use=self._board.in_use(), mig_profiles=rules.mig_profiles
        )
        self._notice(outcome.problems)
        self._learnt(outcome.known)

    def reconcile(self) -> None:
        """Brings the slice to what is known.

        Raises:
            ClusterError: The API server refused or did not answer; the next call tries again.
        """
        node = self._identity()
        while self._node is not None and self._notes:
            self._ports.events.record(self._node, *self._notes.pop(0), event_type="Warning")
        slices = list(self._slices.values())
        try:
            action = decide(
                node, slices, self._known, last_generation=self._generation, in_use=bool(self._board.in_use())
            )
        except CheckFailed as error:
            # What stands there, if anything, is of before.
            self.settled = False
            self._say("GpumemNotPublished", str(error), event_type="Warning")
            return
        self._ports.metrics.standing_back(value=any(map(shares_memory, slices)))
        if self._carry_out(action):
            self.settled = not isinstance(action, Keep) or action.settled
            self._show()

    def _carry_out(self, action: SliceAction) -> bool:
        match action:
            case Publish():
                return self._publish(action)
            case Withdraw():
                for item in action.slices:
                    self._delete(item)
                self._say_absent("GpumemWithdrawn", action)
            case Keep():
                if action.refused or NVIDIA_DRIVER in action.reason:
                    self._say_absent("GpumemNotPublished" if action.refused else "GpumemStandingBack", action)
        return True

    def _say_absent(self, reason: str, action: Withdraw | Keep) -> None:
        text = f"no slice of {naming.DRIVER}: {action.reason}"
        self._say(reason, text, event_type="Warning" if action.refused else "Normal")

    def _publish(self, action: Publish) -> bool:
        name = action.manifest["metadata"]["name"]
        found = self._slices.get(name)
        if found is not None and self._server_keeps_other(action.manifest, found):
            return True
        if self._contested():
            return False
        self._writes.append(self._ports.clock.monotonic_seconds())
        answer = self._ports.api.apply(
            action.manifest, field_manager=FIELD_MANAGER_DRA_AGENT, force=True, dry_run=self._rules.dry_run
        )
        for other in action.others:
            self._delete(other)
        self._sent = (action.manifest, str(answer["metadata"].get("resourceVersion", "")))
        self._slices[name] = answer
        self._generation = int(action.manifest["spec"]["pool"]["generation"])
        self._say("GpumemPublished", _summary(action.manifest))
        if text := cdi_to_check(self._info("containerRuntimeVersion")):
            self._warn_once("GpumemCdiToCheck", text)
        if not shares_are_kept(answer):
            self._ports.metrics.failed("publish")
            text = (
                "the API server dropped allowMultipleAllocations: each card goes to one claim alone, until the feature "
            )
            self._warn_once("GpumemNotShared", f"{text}gate DRAConsumableCapacity is on")
        return True

    def _server_keeps_other(self, wanted: Manifest, found: Manifest) -> bool:
        """Whether this very wish was written already, and what stands there is the server's own version of it."""
        if self._sent is None:
            return False
        sent, version = self._sent
        return bool(version) and version == found["metadata"].get("resourceVersion") and same(sent, wanted)

    def _contested(self) -> bool:
        now_seconds = self._ports.clock.monotonic_seconds()
        full = len(self._writes) == CONTEST_WRITES_COUNT
        if not full or now_seconds - self._writes[0] >= CONTEST_SPAN_SECONDS:
            return False
        self._ports.metrics.failed("contested")
        self._ports.log.warning(
            "slice_contested",
            decision="wait",
            reason=f"written {CONTEST_WRITES_COUNT} times in {CONTEST_SPAN_SECONDS:.0f} s and changed again each time",
        )
        return True

    def _delete(self, item: Manifest) -> None:
        metadata = item["metadata"]
        ref = replace(SLICES, name=metadata["name"])
        self._ports.api.delete(ref, uid=metadata["uid"], dry_run=self._rules.dry_run)
        self._slices.pop(metadata["name"], None)

    def _adopt(self, item: Manifest) -> None:
        self._generation = int(item["spec"]["pool"]["generation"])
        boot_id = self._boot_id()
        try:
            known = published_devices(item, "" if self._rules.forget_xids else boot_id)
        except (QuantityError, KeyError, ValueError) as error:
            self._ports.log.warning("slice_not_understood", slice=item["metadata"]["name"], reason=str(error))
            return
        self._learnt(known)

    def _learnt(self, known: tuple[KnownDevice, ...]) -> None:
        self._known = known
        self._board.show_devices(one.published() for one in known)

    def _identity(self) -> NodeIdentity | None:
        if self._node is None:
            return None
        metadata = self._node["metadata"]
        return NodeIdentity(metadata["name"], metadata["uid"], self._boot_id(), self._info("containerRuntimeVersion"))

    def _boot_id(self) -> str:
        return self._info("bootID")

    def _info(self, key: str) -> str:
        info: Mapping[str, Any] = ((self._node or {}).get("status") or {}).get("nodeInfo") or {}
        return str(info.get(key, ""))

    def _notice(self, problems: Mapping[str, str]) -> None:
        for subject, text in problems.items():
            self._ports.metrics.failed("look")
            if self._problems.get(subject) != text:
                self._ports.log.warning("card_not_as_it_should_be", subject=subject, reason=text)
        self._problems = dict(problems)

    def _show(self) -> None:
        mine = [item for item in self._slices.values() if item["spec"]["driver"] == naming.DRIVER]
        devices = [device for item in mine for device in item["spec"].get("devices") or ()]
        generations = [int(item["spec"]["pool"]["generation"]) for item in mine]
        self._ports.metrics.published(len(devices), max(generations, default=0))
        self._ports.metrics.tainted(
            [(device["name"], taint["key"]) for device in devices for taint in device.get("taints") or ()]
        )

    def _warn_once(self, reason: str, text: str) -> None:
        if (reason, text) not in self._warned:
            self._warned.add((reason, text))
            self._ports.log.warning("slice", decision=reason, reason=text)
            if self._node is not None and not self._rules.dry_run:
                self._ports.events.record(self._node, reason, text, event_type="Warning")

    def _say(self, reason: str, text: str, *, event_type: Any = "Normal") -> None:
        said = f"{reason}: {text}"
        if said == self._said:
            return
        self._said = said
        (self._ports.log.warning if event_type == "Warning" else self._ports.log.info)("slice", decision=reason,
                                                                                     reason=text)  # fmt: skip
        if self._node is not None and not self._rules.dry_run:
            self._ports.events.record(self._node, reason, text, event_type=event_type)


def _summary(manifest: Manifest) -> str:
    devices = manifest["spec"]["devices"]
    shown = ", ".join(
        f"{device['name']} {device['capacity'][naming.MEMORY_CAPACITY]['value']}"
        + "".join(f" [{taint['key']}:{taint['effect']}]" for taint in device.get("taints") or ())
        for device in devices
    )
    return f"generation {manifest['spec']['pool']['generation']}, {len(devices)} devices: {shown}"
