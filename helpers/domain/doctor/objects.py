"""Rules about what the estate renders: is it there, and does it say the same?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from helpers.domain import names
from helpers.domain.doctor.commands import apply_objects, both, kubectl, kubectl_patch
from helpers.domain.doctor.facts import DoctorFacts, Manifest, ObjectName
from helpers.domain.doctor.finding import Finding, Severity

_POLICY, _BINDING = "admission-policy", "admission-binding"
# What a fault of this kind of object is called, and the fields that must say what is rendered. Others'
# fields (an image updater's, a policy engine's) are no fault.
WATCHED: dict[str, tuple[str, tuple[str, ...]]] = {
    "PriorityClass": ("priority-class", ("value", "preemptionPolicy")),
    "RuntimeClass": ("runtime-class", ("handler",)),
    "ConfigMap": ("settings", ("data",)),
    "MutatingAdmissionPolicy": (_POLICY, ("spec",)),
    "ValidatingAdmissionPolicy": (_POLICY, ("spec",)),
    "MutatingAdmissionPolicyBinding": (_BINDING, ("spec",)),
    "ValidatingAdmissionPolicyBinding": (_BINDING, ("spec",)),
    "MutatingWebhookConfiguration": ("webhook-configuration", ("webhooks",)),
    "Deployment": ("deployment", ()),
    "DaemonSet": ("daemon-set", ()),
    "CronJob": ("capacity-job", ()),
    "DeviceClass": ("device-class", ("spec",)),
    "ResourceClaimTemplate": ("claim-template", ("spec",)),
}
# The API server refuses to change these, so they are made anew.
_IMMUTABLE = ("PriorityClass", "RuntimeClass", "ResourceClaimTemplate")


def objects(facts: DoctorFacts) -> Iterator[Finding]:
    """Absent, or with other content than the estate's."""
    for name, wanted in facts.wanted.items():
        found = facts.objects.get(name)
        if found is None:
            yield _absent(facts, name)
        else:
            yield from _differs(facts, name, wanted, found)


def _absent(facts: DoctorFacts, name: ObjectName) -> Finding:
    said = {
        "PriorityClass": "pods that name it are refused",
        "RuntimeClass": "pods that name it are refused",
        "MutatingAdmissionPolicyBinding": "its policy does nothing",
        "ValidatingAdmissionPolicyBinding": "its policy does nothing",
        "DeviceClass": "no claim gets a card",
        "ResourceClaimTemplate": "its tenant's new pods wait for their claim",
    }.get(name.kind, "the estate renders it")
    return Finding(
        f"{_id(facts, name)}-absent",
        Severity.ERROR,
        str(name),
        f"it is not there; {said}",
        "apply it again",
        apply_objects(facts, name),
    )


def _id(facts: DoctorFacts, name: ObjectName) -> str:
    if name.kind == "ConfigMap" and name.name == facts.estate.device_plugin.config_map:
        return "device-plugin-config"
    component = {
        "gpumem-watchdog": "watchdog",
        "gpumem-capacity-watch": "capacity-watch",
        names.WEBHOOK_SERVICE: "webhook",
    }.get(name.name)
    return component if name.kind == "Deployment" and component else WATCHED[name.kind][0]


def _differs(facts: DoctorFacts, name: ObjectName, wanted: Manifest, found: Manifest) -> Iterator[Finding]:
    for field in WATCHED[name.kind][1]:
        where = first_difference(wanted.get(field), found.get(field), field)
        if where is None:
            continue
        apply = apply_objects(facts, name)
        remove = kubectl("delete", name.kind.lower(), name.name, namespace=name.namespace)
        anew = name.kind in _IMMUTABLE
        yield Finding(
            f"{_id(facts, name)}-differs",
            Severity.ERROR,
            str(name),
            f"{where}; written by {', '.join(writers(found)) or 'nobody known'}",
            "make it anew: it cannot be changed; pods that run keep what they have" if anew else "apply it again",
            both([remove, apply]) if anew else apply,
        )
        return


def first_difference(wanted: Any, found: Any, path: str) -> str | None:
    """Where `found` lacks something of `wanted`, and how; None where it has all of it. More is no difference."""
    if isinstance(wanted, Mapping):
        if not isinstance(found, Mapping):
            return _difference(path, wanted, found)
        inner = (first_difference(value, found.get(key), f"{path}.{key}") for key, value in wanted.items())
    elif isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            return _difference(path, wanted, found)
        pairs = enumerate(zip(wanted, found, strict=True))
        inner = (first_difference(one, other, f"{path}[{index}]") for index, (one, other) in pairs)
    else:
        return None if wanted == found else _difference(path, wanted, found)
    return next((difference for difference in inner if difference is not None), None)


_LONGEST_VALUE = 60


def _difference(path: str, wanted: Any, found: Any) -> str:
    return f"{path} is {_short(found)}; the estate says {_short(wanted)}"


def _short(value: Any) -> str:
    if value is None:
        return "absent"
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def writers(found: Manifest) -> list[str]:
    """Field managers that wrote the object itself, the latest first."""
    entries = [one for one in found["metadata"].get("managedFields") or () if not one.get("subresource")]
    latest = sorted(entries, key=lambda one: str(one.get("time", "")), reverse=True)
    return list(dict.fromkeys(str(one.get("manager")) for one in latest))


def capacity_jobs(facts: DoctorFacts) -> Iterator[Finding]:
    """The hourly backstop: switched off, or failing."""
    for name in facts.wanted:
        found = facts.objects.get(name)
        if name.kind != "CronJob" or found is None:
            continue
        if found["spec"].get("suspend"):
            yield Finding(
                "capacity-job-suspended",
                Severity.WARNING,
                str(name),
                "suspend is true: a number that the watch missed stays wrong",
                "let it run again",
                kubectl_patch(name, {"spec": {"suspend": False}}),
            )
        yield from _failed(facts, name)


def _failed(facts: DoctorFacts, name: ObjectName) -> Iterator[Finding]:
    mine = [job for job in facts.jobs if _made_by(job, name)]
    ended = sorted((job for job in mine if _ended(job)), key=lambda job: str(job["metadata"]["creationTimestamp"]))
    failed = []
    for job in reversed(ended):  # those since the last that succeeded
        condition = _ended(job)
        if condition.get("type") == "Complete":
            break
        failed.append((str(job["metadata"]["name"]), condition))
    if not failed:
        return
    latest, condition = failed[0]
    yield Finding(
        "capacity-job-failed",
        Severity.WARNING,
        str(name),
        f"{len(failed)} run(s) failed since the last that did not; {latest}: {condition.get('reason')}: "
        f"{condition.get('message', '')}",
        f"read why (kubectl -n {name.namespace} logs job/{latest}), mend it, remove the failed runs",
        kubectl("delete", "job", *(job for job, _ in failed), namespace=name.namespace),
    )


def _made_by(job: Manifest, name: ObjectName) -> bool:
    owners = job["metadata"].get("ownerReferences") or ()
    return any((one.get("kind"), one.get("name")) == ("CronJob", name.name) for one in owners)


def _ended(job: Manifest) -> Mapping[str, Any]:
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            return dict(condition)
    return {}
