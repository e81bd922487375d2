"""A Terraform plan, as far as the rules look at it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# What a step runs, by its arguments behind the program.
GATE_STEP = ("verify",)
CAPACITY_STEP = ("capacity", "assert")
CONSUMER_STEPS = (("budget", "set"), ("replicas", "set"))

MANIFEST_TYPE = "kubectl_manifest"
STEP_TYPE = "null_resource"

# An output of the consumers' stack: MiB of its always-on tenants, by entry of the estate's nodes.
SEATED_OUTPUT = "seated_mib"


@dataclass(frozen=True)
class Change:
    """One resource of a plan, whether it changes or not.

    Attributes:
        address: Its Terraform address.
        type: Its type: `kubectl_manifest` or `null_resource`, or one that the rules refuse.
        provider: The provider's full name.
        actions: Terraform's words: `create`, `update`, `delete`, `read`, `no-op`, `forget`; two for a replacement.
        before: The attributes in the state; None where there is none yet.
        after: The attributes that are planned; None where it goes.
        arguments: What a step runs, behind the program; empty for others.
        manifest: The planned Kubernetes object; None for others, and where it cannot be read.
        unreadable: Why the planned object cannot be judged; empty where it can.
        depends_on: Addresses that it names as its own conditions.
    """

    address: str
    type: str
    provider: str
    actions: tuple[str, ...]
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    arguments: tuple[str, ...] = ()
    manifest: Mapping[str, Any] | None = None
    unreadable: str = ""
    depends_on: tuple[str, ...] = ()

    @property
    def is_made(self) -> bool:
        """Whether something is created, changed or made anew."""
        return "create" in self.actions or "update" in self.actions

    @property
    def goes(self) -> bool:
        """Whether what is there goes, for good or to be made anew."""
        return "delete" in self.actions

    def triggers(self) -> Mapping[str, Any]:
        """A step's planned triggers."""
        found = (self.after or {}).get("triggers")
        return found if isinstance(found, Mapping) else {}


@dataclass(frozen=True)
class Plan:
    """One plan file.

    Attributes:
        name: How the user named it.
        changes: Its resources; data sources are left out.
        providers: Full names of the providers that its configuration asks for.
        outputs: Planned outputs; None as a value where it is known only after the apply.
    """

    name: str
    changes: tuple[Change, ...]
    providers: tuple[str, ...] = ()
    outputs: Mapping[str, Any] = field(default_factory=dict)

    def steps(self, *arguments: tuple[str, ...]) -> Iterator[Change]:
        """Steps that run one of these, whether they change or not."""
        return (one for one in self.changes if one.arguments and one.arguments in arguments)

    def behind(self, address: str) -> set[str]:
        """Addresses of everything that waits for `address`, directly or through others."""
        found = {address}
        while True:
            more = {one.address for one in self.changes if found.intersection(one.depends_on)} - found
            if not more:
                return found - {address}
            found |= more
