"""A review as one value: what every output shows. Amounts are MiB; None where there is nothing then."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from helpers.domain.estate.review import FindingKind

Risk = Literal["low", "medium", "high", "stop"]
RISKS: tuple[Risk, ...] = ("low", "medium", "high", "stop")


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Seat(_Row):
    """Pods of one tenant on one card."""

    tenant: str
    pods_count: int
    mib: int
    shares_count: int
    elastic: bool


class CardSide(_Row):
    """One card at one time. `promised_mib`: to always-on tenants, with those that wait where it is the only card."""

    model: str
    advertised_mib: int
    promised_mib: int
    slack_mib: int
    shares_count: int
    seats: tuple[Seat, ...]


class CardRow(_Row):
    """One card before and after, by its place in the seating: `0`, or `machine/card` where there are several."""

    node: str
    card: str
    before: CardSide | None
    after: CardSide | None

    @property
    def changed(self) -> bool:
        """Whether anything of it differs."""
        return self.before != self.after


class NodeSide(_Row):
    """One kind of node at one time, all its machines together. `waiting`: seats of pods without a place."""

    machines_count: int
    advertised_mib: int
    promised_mib: int
    slack_mib: int
    shares_count: int
    promised_shares_count: int
    waiting: tuple[Seat, ...]


class NodeRow(_Row):
    """One kind of node before and after, and its cards."""

    name: str
    renamed_from: str
    before: NodeSide | None
    after: NodeSide | None
    cards: tuple[CardRow, ...]


class TenantRow(_Row):
    """One tenant. `budget_*`: one pod's; `restart_fields` and `restart_how` are empty where no pod restarts."""

    tenant: str
    namespace: str
    workload: str
    node: str
    elastic_before: bool | None
    elastic: bool
    fate: str
    renamed_from: str
    pods_before_count: int
    pods_after_count: int
    budget_before_mib: int | None
    budget_after_mib: int | None
    shares_before: int | None
    shares_after: int | None
    measured_p99_mib: int | None
    restart_fields: tuple[str, ...]
    restart_how: str


class PendingRow(_Row):
    """Pods that find no place. `new`: not so before. `certain`: in whatever order pods start."""

    tenant: str
    node: str
    gpu: str
    pods_count: int
    budget_mib: int
    room_mib: int
    elastic: bool
    new: bool
    certain: bool
    old_pods_go_on: bool


class Finding(_Row):
    """One thing to know. `accepted`: the policy stops it, and the command line allowed it."""

    kind: FindingKind
    risk: Risk
    subject: str
    text: str
    repair: str
    accepted: bool = False


class ObjectRow(_Row):
    """One rendered document that differs."""

    wave: int
    address: str
    kind: str
    action: str
    fields: tuple[str, ...]


class ReviewResult(_Row):
    """What a change does. `before` and `after` are how the reader named the two estates."""

    before: str
    after: str
    risk: Risk
    findings: tuple[Finding, ...]
    pending: tuple[PendingRow, ...]
    order: tuple[str, ...]
    nodes: tuple[NodeRow, ...]
    tenants: tuple[TenantRow, ...]
    objects: tuple[ObjectRow, ...]

    @property
    def stops(self) -> bool:
        """Whether policy says no."""
        return self.risk == "stop"

    @property
    def empty(self) -> bool:
        """Whether nothing changes at all."""
        return not self.findings and not self.objects and all(row.fate == "unchanged" for row in self.tenants)

    def headline(self) -> str:
        """The verdict in one line."""
        if self.empty:
            return "nothing changes"
        stopping = [finding for finding in self.findings if finding.risk == "stop"]
        if stopping:
            return f"stop, {len(stopping)} reason{'s' if len(stopping) > 1 else ''}"
        accepted = sum(finding.accepted for finding in self.findings)
        return f"{self.risk} risk" + (f", {accepted} accepted by --allow-overflow" if accepted else "")
