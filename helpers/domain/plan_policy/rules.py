"""The one table of rules. Texts, exports and guide are made from it; the checks are found by the rules' ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: Its name in reports, annotations and exports; never changes.
        what: What must hold, in one sentence.
        why: What happens where it does not.
        repair: What to do.
        looks_at: `resource` can be judged from one resource alone, `plan` from one plan, `plans` from all in order.
    """

    id: str
    what: str
    why: str
    repair: str
    looks_at: Literal["resource", "plan", "plans"]


RULES = (
    Rule(
        "consumers-behind-gate",
        "A plan that changes consumers runs the gate, and every consumer waits for it.",
        "Pods that come before their node shows its number are refused or seated against nothing.",
        "Plan the whole stack, without -target or -exclude, and leave the gate and depends_on as they are rendered.",
        "plan",
    ),
    Rule(
        "capacity-before-consumers",
        "Plans are given in the order of their apply: what writes the capacity, then what consumes it.",
        "The gate would wait for a number that nobody has written yet, or find the old one.",
        "Give and apply the nvidia plan first, both made from one estate.",
        "plans",
    ),
    Rule(
        "advertised-covers-seated",
        "Nodes advertise at least what always-on tenants hold, and what each pod asks for.",
        "The scheduler leaves the rest Pending, and which tenant that is depends on who comes first.",
        "Lower budgets, make a tenant elastic, or give it another node; `gpumem validate` shows the arithmetic.",
        "plan",
    ),
    Rule(
        "no-silent-deletion",
        "No namespace, workload, claim, CRD or advertised capacity goes or is made anew unless it is named.",
        "A renamed key or a moved resource reads as one line in a plan and ends everything that runs there.",
        "Find out why it goes; where it shall, name it with --allow-delete ADDRESS.",
        "plan",
    ),
    Rule(
        "no-privileged-pod",
        "No container is privileged or has a capability that amounts to it.",
        "It has the whole node, every card and every other tenant's memory among it.",
        "Remove privileged and the capability; a GPU needs neither, the device plugin hands it in.",
        "resource",
    ),
    Rule(
        "no-host-access",
        "No pod but exporter, device plugin and dra-agent uses the host's namespaces or paths.",
        "A path of the node outlives the pod and is shared by all of them; the host's namespaces show every process.",
        "Use a volume claim, an emptyDir or an image volume.",
        "resource",
    ),
    Rule(
        "images-pinned",
        "Every image has a digest or the tag of one version.",
        "A tag that moves gives the same plan and another program at the pod's next start.",
        "Name the version that was tested, best with its digest.",
        "resource",
    ),
    Rule(
        "triggers-hold-no-secret",
        "No trigger of a null_resource holds a secret.",
        "Triggers stand in the plan, in the state and in every comment made of them.",
        "Let the step read the secret from the cluster or its environment, and rotate this one.",
        "resource",
    ),
    Rule(
        "known-providers",
        "Resources are made by alekc/kubectl and hashicorp/null alone.",
        "A provider is a program that runs with the rights of whoever applies.",
        "Remove the resource and its provider.",
        "plan",
    ),
    Rule(
        "plan-readable",
        "Every resource can be judged: in the root module, its object known and one YAML document.",
        "What is not read is not checked.",
        "Leave the object's text free of values that are known only after an apply, and the stacks free of modules.",
        "resource",
    ),
)
RULE = {rule.id: rule for rule in RULES}
