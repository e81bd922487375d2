"""`gpu-directories: nvidia`: the devices that a pod asks for by annotation, as hostPath volumes and mounts.

The grammar is `SET[:INDEX[,INDEX…]][;SET…]`. What is there already is never doubled and never overwritten,
so that doing it twice changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from helpers.domain.admission import messages, pods
from helpers.domain.admission.decision import Applied, Pod, PodRequest
from helpers.domain.admission.messages import SECOND_NAME_PREFIX, VISIBLE_DEVICES
from helpers.domain.admission.settings import AdmissionSettings, Device

# At most 99: more cards are in no machine. The same expression stands in the policies.
INDICES = r"(0|[1-9][0-9]?)(,(0|[1-9][0-9]?))*"


@dataclass(frozen=True)
class Wish:
    """The annotation, read. `named_cards`: indices by set, empty where none were given."""

    text: str
    named_cards: dict[str, frozenset[str]]
    plain_sets: frozenset[str]

    @property
    def sets(self) -> frozenset[str]:
        """Every set that is asked for."""
        return frozenset(self.named_cards) | self.plain_sets


def wish_of(pod: Pod, settings: AdmissionSettings) -> Wish | None:
    """What the annotation asks for; None where the pod has none, or one that `directory_denials` refuses."""
    text = pods.annotations_of(pod).get(settings.annotation)
    if text is None:
        return None
    named: dict[str, frozenset[str]] = {}
    plain: set[str] = set()
    for entry in text.split(";"):
        name, colon, indices = entry.strip().partition(":")
        if not colon and name in settings.set_names():
            plain.add(name)
        elif colon and name in settings.card_set_names() and re.fullmatch(INDICES, indices):
            named[name] = named.get(name, frozenset()) | frozenset(indices.split(","))
        else:
            return None
    return Wish(text, named, frozenset(plain))


def directory_denials(pod: Pod, request: PodRequest, settings: AdmissionSettings) -> Iterator[str]:
    """Why the annotation cannot be followed."""
    text = pods.annotations_of(pod).get(settings.annotation)
    if text is None:
        return
    wish = wish_of(pod, settings)
    if wish is None:
        yield messages.not_allowed(settings).substitute(text=text)
        return
    known = _cards(pod, settings) or settings.all_indices()
    if any(not indices <= set(known) for indices in wish.named_cards.values()):
        yield messages.no_such_card(settings).substitute(text=text, cards=", ".join(known))
    if request.pod_security != "privileged":
        level = request.pod_security
        yield messages.pod_security(settings).substitute(namespace=request.namespace, level=level)
    taken = [device.volume for device in _devices(pod, wish, settings) if _volume_for(pod, device) is None]
    if taken:
        yield messages.names_taken(settings).substitute(names=", ".join(taken))


def directory_warnings(pod: Pod, settings: AdmissionSettings) -> Iterator[str]:
    """What is not wrong and may still not do what its author hopes. `pod` is the pod as it will be."""
    wish = wish_of(pod, settings)
    if wish is None:
        return
    unnamed = (wish.plain_sets - set(wish.named_cards)) & set(settings.card_set_names())
    # Where every node has one card, the first one is the right one.
    if unnamed and len(settings.all_indices()) > 1 and not _cards(pod, settings):
        yield messages.first_card(settings).substitute(text=wish.text)
    if wish.sets & set(settings.runtime_class_sets) and not _has_device_access(pod, settings):
        yield messages.no_access(settings).substitute()
    if wish.sets - set(settings.runtime_class_sets) and not _is_privileged(pod):
        yield messages.not_privileged(settings).substitute()


def apply_directories(pod: Pod, settings: AdmissionSettings) -> tuple[Pod, list[Applied]]:
    """`pod` with the volumes, mounts and runtime class that its annotation asks for.

    The annotation was found good by `directory_denials`; a pod without one comes back as it is.
    """
    wish = wish_of(pod, settings)
    if wish is None:
        return pod, []
    pod = pods.copied(pod)
    devices = _devices(pod, wish, settings)
    applied: list[Applied] = []
    mounts = [{"name": str(_volume_for(pod, device)), "mountPath": device.path} for device in devices]
    _add_volumes(pod, devices, applied)
    for _, _, container in pods.containers(pod):
        taken = {mount.get("mountPath") for mount in container.get("volumeMounts") or ()}
        missing = [dict(mount) for mount in mounts if mount["mountPath"] not in taken]
        if missing:
            container["volumeMounts"] = [*(container.get("volumeMounts") or ()), *missing]
            paths = ", ".join(mount["mountPath"] for mount in missing)
            applied.append(Applied("directories", f"container {container.get('name')}: mounts {paths}"))
    if wish.sets & set(settings.runtime_class_sets) and not pod["spec"].get("runtimeClassName"):
        pod["spec"]["runtimeClassName"] = settings.runtime_class
        applied.append(Applied("directories", f"runtimeClassName {settings.runtime_class}"))
    return pod, applied


def _add_volumes(pod: Pod, devices: list[Device], applied: list[Applied]) -> None:
    held = {_host_path(volume) for volume in pod["spec"].get("volumes") or ()}
    missing = [device for device in devices if device.path not in held]
    if missing:
        # The names are chosen against the pod as it came: those of two devices never meet.
        new = [{"name": str(_volume_for(pod, device)), "hostPath": {"path": device.path}} for device in missing]
        pod["spec"]["volumes"] = [*(pod["spec"].get("volumes") or ()), *new]
        names = ", ".join(f"{volume['name']} ({device.path})" for volume, device in zip(new, missing, strict=True))
        applied.append(Applied("directories", f"volumes {names}"))


def _devices(pod: Pod, wish: Wish, settings: AdmissionSettings) -> list[Device]:
    cards = _cards(pod, settings) or ["0"]

    def wanted(device: Device) -> bool:
        if not device.index:
            return device.directory_set in wish.sets
        named = wish.named_cards.get(device.directory_set, frozenset())
        return device.index in named or (device.directory_set in wish.plain_sets and device.index in cards)

    return [device for device in settings.devices if wanted(device)]


def _cards(pod: Pod, settings: AdmissionSettings) -> list[str]:
    """Indices of the cards of the one node that the pod's nodeSelector names; none where it names no one."""
    selector = pod["spec"].get("nodeSelector") or {}
    named = [node for node in settings.nodes if node.selector.items() <= selector.items()]
    return named[0].indices() if len(named) == 1 else []


def _host_path(volume: dict[str, Any]) -> str | None:
    return (volume.get("hostPath") or {}).get("path")


def _volume_for(pod: Pod, device: Device) -> str | None:
    """The name of the volume that holds `device`: one that is there, or a free one; None where both are taken."""
    volumes = pod["spec"].get("volumes") or ()
    for volume in volumes:
        if _host_path(volume) == device.path:
            return str(volume["name"])
    taken = {volume.get("name") for volume in volumes}
    return next((name for name in (device.volume, f"{SECOND_NAME_PREFIX}{device.volume}") if name not in taken), None)


def _has_device_access(pod: Pod, settings: AdmissionSettings) -> bool:
    if pod["spec"].get("runtimeClassName") != settings.runtime_class:
        return False
    variables = {entry.get("name") for _, _, c in pods.containers(pod) for entry in c.get("env") or ()}
    return VISIBLE_DEVICES in variables or pods.asks_for(pod, settings.gpu_resources)


def _is_privileged(pod: Pod) -> bool:
    return any((c.get("securityContext") or {}).get("privileged") for _, _, c in pods.containers(pod))
