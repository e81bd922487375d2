"""What may not be in one planned resource: rules on a Kubernetes object and on a step's triggers.

The standard library alone: `gpumem plan-check --export checkov` puts this file's text into the check that it
writes, so that checkov judges by the very same code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

CONTAINER_LISTS = ("containers", "initContainers", "ephemeralContainers")
HOST_NAMESPACES = ("hostPID", "hostIPC", "hostNetwork")
# As good as privileged: a container with one of these can leave its box.
PRIVILEGED_CAPABILITIES = ("ALL", "SYS_ADMIN", "CAP_SYS_ADMIN")

# Expressions without look-around: Rego's engine (RE2) has none, and the rules are exported to it.
IMAGE_DIGEST = r"@sha256:[0-9a-f]{64}$"
IMAGE_TAG = r"^[^@]*:([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})(?:@.*)?$"
# A tag that moves: no digit at all, a moving word as one of its parts, or a bare major version.
EXACT_TAG = r"[0-9]"
MOVING_TAG = (
    r"(?i)(?:^|[-._])(?:latest|stable|edge|nightly|main|master|dev|develop|canary|rolling|head|snapshot)(?:[-._]|$)"
    r"|^v?[0-9]{1,2}$"
)

CONFIDENTIAL_NAME = (
    r"(?i)(?:password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|access[_-]?key|secret[_-]?key|"
    r"credentials?)$"
)
CONFIDENTIAL_VALUE = (
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|^eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.|://[^/\s:@]+:[^/\s@]+@"
    r"|\bA[KS]IA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}|(?i:^bearer \S)"
)


class HostAllowance(NamedTuple):
    """What one of the estate's own components needs of its node, and nothing else does."""

    kind: str
    name_prefix: str
    namespaces: tuple[str, ...]
    paths: tuple[str, ...]


HOST_ALLOWANCES = (
    # NVML names processes as the host does, and whose they are is read from the host's cgroups.
    HostAllowance("DaemonSet", "gpumem-exporter", ("hostPID",), ("/sys/fs/cgroup",)),
    # The kubelet finds device plugins by their sockets in this folder.
    HostAllowance("DaemonSet", "nvidia-device-plugin", (), ("/var/lib/kubelet/device-plugins",)),
    # The same for drivers of claims, and the runtime reads the devices of a claim there.
    HostAllowance(
        "DaemonSet",
        "gpumem-dra-agent",
        (),
        ("/var/lib/kubelet/plugins/gpu.gpumem.io", "/var/lib/kubelet/plugins_registry", "/var/run/cdi"),
    ),
)


class Fault(NamedTuple):
    """One rule that one resource breaks: the rule's id, the place in the object, and what is there."""

    rule: str
    place: str
    value: str


def object_faults(manifest: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with a Kubernetes object, by its pods' specs wherever they are in it."""
    allowed = _allowances(manifest)
    found: list[Fault] = []
    for place, pod in pod_specs(manifest):
        found += _host_faults(place, pod, allowed)
        for where, container in _containers(place, pod):
            found += _container_faults(where, container)
        found += _volume_faults(place, pod, allowed)
    return found


def trigger_faults(triggers: Mapping[str, Any]) -> list[Fault]:
    """Secrets among a step's triggers: a plan, a state and a pull request's comment show them all."""
    found = []
    for key, text in triggers.items():
        for place, name, value in _leaves(f"triggers.{key}", key, _parsed(text)):
            if not isinstance(value, str) or not value:
                continue
            if re.search(CONFIDENTIAL_NAME, name) or re.search(CONFIDENTIAL_VALUE, value):
                found.append(Fault("triggers-hold-no-secret", place, f"{len(value)} characters, not shown"))
    return found


def pod_specs(value: Any, place: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Everything that has a list of containers, and where: Deployments, CronJobs, and custom resources alike."""
    if isinstance(value, Mapping):
        if isinstance(value.get("containers"), list):
            yield place, value
        for key, part in value.items():
            yield from pod_specs(part, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from pod_specs(part, f"{place}[{index}]")


def _allowances(manifest: Mapping[str, Any]) -> list[HostAllowance]:
    metadata = manifest.get("metadata")
    name = str(metadata.get("name", "")) if isinstance(metadata, Mapping) else ""
    return [
        one
        for one in HOST_ALLOWANCES
        if manifest.get("kind") == one.kind and f"{name}-".startswith(f"{one.name_prefix}-")
    ]


def _host_faults(place: str, pod: Mapping[str, Any], allowed: list[HostAllowance]) -> Iterator[Fault]:
    for field in HOST_NAMESPACES:
        if pod.get(field) is True and not any(field in one.namespaces for one in allowed):
            yield Fault("no-host-access", f"{place}.{field}", "true")


def _volume_faults(place: str, pod: Mapping[str, Any], allowed: list[HostAllowance]) -> Iterator[Fault]:
    for index, volume in enumerate(_mappings(pod.get("volumes"))):
        where = f"{place}.volumes[{index}]"
        if isinstance(volume.get("hostPath"), Mapping):
            path = str(volume["hostPath"].get("path", ""))
            if not any(path in one.paths for one in allowed):
                yield Fault("no-host-access", f"{where}.hostPath.path", path)
        if isinstance(volume.get("image"), Mapping):
            reference = volume["image"].get("reference")
            if not is_pinned(reference):
                yield Fault("images-pinned", f"{where}.image.reference", str(reference or "absent"))


def _containers(place: str, pod: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for kind in CONTAINER_LISTS:
        for index, container in enumerate(_mappings(pod.get(kind))):
            yield f"{place}.{kind}[{index}]", container


def _container_faults(place: str, container: Mapping[str, Any]) -> Iterator[Fault]:
    image = container.get("image")
    if not is_pinned(image):
        yield Fault("images-pinned", f"{place}.image", str(image or "absent"))
    context = container.get("securityContext")
    if not isinstance(context, Mapping):
        return
    if context.get("privileged") is True:
        yield Fault("no-privileged-pod", f"{place}.securityContext.privileged", "true")
    capabilities = context.get("capabilities")
    added = capabilities.get("add") if isinstance(capabilities, Mapping) else None
    for name in added if isinstance(added, list) else []:
        if name in PRIVILEGED_CAPABILITIES:
            yield Fault("no-privileged-pod", f"{place}.securityContext.capabilities.add", str(name))


def is_pinned(image: object) -> bool:
    """Whether an image reference names the same bytes tomorrow: by digest, or by a tag of one version."""
    if not isinstance(image, str):
        return False
    if re.search(IMAGE_DIGEST, image):
        return True
    tag = re.search(IMAGE_TAG, image)
    return tag is not None and bool(re.search(EXACT_TAG, tag[1])) and not re.search(MOVING_TAG, tag[1])


def _mappings(value: object) -> list[Mapping[str, Any]]:
    """The mappings of a list; what is no mapping counts as an empty one, so that positions stay."""
    return [one if isinstance(one, Mapping) else {} for one in value] if isinstance(value, list) else []


def _parsed(text: Any) -> Any:
    if isinstance(text, str) and text[:1] in ("{", "["):
        try:
            return json.loads(text)
        except ValueError:  # a text that only looks like JSON
            return text
    return text


def _leaves(place: str, name: str, value: Any) -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(f"{place}.{key}", str(key), part)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _leaves(f"{place}[{index}]", name, part)
    else:
        yield place, name, value
