"""What admission answers for one pod: the pod as it shall be, or why not, and every rule that had a say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Pod = dict[str, Any]
PodSecurityLevel = Literal["privileged", "baseline", "restricted"]


@dataclass(frozen=True, slots=True)
class PodRequest:
    """What the API server says about a pod besides the pod itself.

    `namespace` is the request's: a pod made from a template may name none. `pod_security` is the level
    that the namespace's own label enforces.
    """

    namespace: str
    pod_security: PodSecurityLevel = "privileged"


@dataclass(frozen=True, slots=True)
class Applied:
    """One rule that had a say: its name (`directories`, `budget`, `cap`, …), and what it did, with numbers."""

    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer for one pod.

    A pod that is denied is given back as it came. `denials` and `warnings` are sentences for whoever made
    the pod: what is wrong, and what to write instead.
    """

    pod: Pod
    denials: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    applied: tuple[Applied, ...] = field(default=())

    @property
    def allowed(self) -> bool:
        """Whether the pod may be created."""
        return not self.denials
