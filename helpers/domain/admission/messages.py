"""What admission says, once for both engines: `$name` stands for what only the pod at hand can fill in.

Each function gives a `string.Template`; the rules in Python substitute, the rules in CEL concatenate.
"""

from __future__ import annotations

from string import Template

from helpers.domain.admission.settings import AdmissionSettings

# Where a pod uses the plain volume name for something else.
SECOND_NAME_PREFIX = "gpumem-"
VISIBLE_DEVICES = "NVIDIA_VISIBLE_DEVICES"


def not_allowed(settings: AdmissionSettings) -> Template:
    """The annotation's value (`$text`) is none that is known."""
    card_sets = settings.card_set_names()
    words = [f"{name} (cards by index: {name}:0,1)" if name in card_sets else name for name in settings.set_names()]
    return Template(
        f'{settings.annotation}: "$text" is not allowed. Allowed: {", ".join(words)}; several joined by a semicolon.'
    )


def no_such_card(settings: AdmissionSettings) -> Template:
    """`$text` names a card beyond `$cards`."""
    return Template(f'{settings.annotation}: "$text" names a card that is not there: the cards are $cards.')


def pod_security(settings: AdmissionSettings) -> Template:
    """`$namespace` enforces `$level`, which forbids hostPath."""
    return Template(
        f"{settings.annotation} mounts hostPath volumes, which only the Pod Security level privileged allows, and "
        "namespace $namespace enforces $level. Label the namespace pod-security.kubernetes.io/enforce=privileged, or "
        "leave the annotation out and ask for a GPU share instead."
    )


def names_taken(settings: AdmissionSettings) -> Template:
    """The volume names `$names` are other volumes'."""
    return Template(
        f"{settings.annotation}: other volumes of this pod have the names $names, with and without "
        f"{SECOND_NAME_PREFIX} in front. Rename them."
    )


def missing_budget(settings: AdmissionSettings) -> Template:
    """A pod asks for a GPU and declares no memory; with `required_budget: default`, `$namespace` has no default."""
    text = (
        f"this pod asks for a GPU and declares no GPU memory. Add resources.limits with {settings.resource} "
        "(whole MiB) to the container that uses the card."
    )
    if settings.required_budget == "default":
        text += " Or give namespace $namespace a default in the estate (admission.default_budgets)."
    return Template(text)


def above_card(settings: AdmissionSettings) -> Template:
    """`$declared_mib` is more than any card has."""
    return Template(
        f"this pod declares $declared_mib MiB of {settings.resource}, and the largest card has "
        f"{settings.largest_card_mib}: it could never be placed. Lower the limit."
    )


def first_card(settings: AdmissionSettings) -> Template:
    """`$text` names no card, and the pod no node."""
    return Template(
        f'{settings.annotation}: "$text" mounts the first card alone, because a pod is admitted before it is placed. '
        "Name cards by index, or the node by nodeSelector."
    )


def no_access(settings: AdmissionSettings) -> Template:
    """Devices are mounted that the container will not be let in to."""
    return Template(
        f"{settings.annotation}: device files give no access by themselves. The device cgroup lets a container in that "
        f"runs under runtimeClassName {settings.runtime_class} and has {VISIBLE_DEVICES} (its own, its image's or a "
        "GPU share's)."
    )


def not_privileged(settings: AdmissionSettings) -> Template:
    """The same, of a set that no runtime cares for."""
    return Template(
        f"{settings.annotation}: device files give no access by themselves. The device cgroup lets only privileged "
        "containers open those of a set without runtime class."
    )


def one_share(settings: AdmissionSettings, name: str) -> Template:
    """More than one share of `name` is asked for."""
    return Template(
        f"more than one share of {name} buys no more compute: shares are turns on a time-sliced card. "
        f"Memory is declared by {settings.resource}."
    )
