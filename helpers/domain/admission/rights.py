"""What the injector may do in the cluster: exactly this, and each entry with its use.

It reads no pod and no namespace: the API server brings what it decides on.
"""

from __future__ import annotations

from typing import Literal

from helpers.domain import names
from helpers.domain.rights import Right


def injector_rights(*, certificates: Literal["self", "cert-manager"] = "self") -> tuple[Right, ...]:
    """All rights. Where cert-manager makes the certificate, reading it is all that is left."""
    secret, lease = (names.WEBHOOK_SECRET,), (names.INJECTOR_LEASE,)
    configuration = (names.WEBHOOK_CONFIGURATION,)
    reading = Right("", "secrets", ("list", "watch"), "the certificate that is served", "namespace", secret)
    if certificates == "cert-manager":
        return (reading,)
    admission, coordination = "admissionregistration.k8s.io", "coordination.k8s.io"
    return (
        reading,
        Right("", "secrets", ("get", "patch"), "the leader writes a new certificate", "namespace", secret),
        # Server-side apply names the object, so that even its creation can be held to one name: a right to
        # create any Secret would be one to every ServiceAccount's token in the namespace.
        Right("", "secrets", ("create",), "the first certificate", "namespace", secret),
        Right(
            admission,
            "mutatingwebhookconfigurations",
            ("get", "list", "watch", "patch"),
            "caBundle: put there before a certificate is used, and put back",
            names=configuration,
        ),
        Right(coordination, "leases", ("get", "patch"), "who leads", "namespace", lease),
        # A create that is no server-side apply cannot be held to a name.
        Right(coordination, "leases", ("create",), "the first leader makes the Lease", "namespace"),
        Right("", "events", ("create",), "a new certificate, on the Secret", "namespace"),
        Right("", "events", ("create",), "a new authority, on the configuration", "default"),
    )
