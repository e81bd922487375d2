"""How API servers ask: one webhook for each PodSecurity level, each with a path of its own.

The API server says nothing about a pod's namespace but its name. Three webhooks whose namespaceSelectors
tell the levels apart spare the injector the right to read namespaces, and a request for each pod.
"""

from __future__ import annotations

from helpers.domain import names
from helpers.domain.admission.decision import PodSecurityLevel

LEVEL_LABEL = "pod-security.kubernetes.io/enforce"
NAME_LABEL = "kubernetes.io/metadata.name"
LEVEL_BY_PATH: dict[str, PodSecurityLevel] = {
    "/mutate/privileged": "privileged",
    "/mutate/baseline": "baseline",
    "/mutate/restricted": "restricted",
}
# The label's values under which less than everything is allowed; any other value, and none, is privileged.
LIMITED_LEVELS: tuple[PodSecurityLevel, ...] = ("baseline", "restricted")


def webhook_name(level: PodSecurityLevel, label_prefix: str) -> str:
    """The webhook for namespaces of that level, as the API server's messages name it."""
    return f"{level}.{names.WEBHOOK_SERVICE}.{label_prefix}"
