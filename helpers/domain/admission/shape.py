"""The form that a pod must have for the rules to read it; an API server sends no other.

Only what rules look at is described: the rest of a pod is the API server's to judge.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Mount(_Part):
    name: str
    mountPath: str  # noqa: N815 - Kubernetes's own field name


class _HostPath(_Part):
    path: str


class _Volume(_Part):
    name: str
    hostPath: _HostPath | None = None  # noqa: N815 - Kubernetes's own field name


class _Variable(_Part):
    name: str


class _Named(_Part):
    name: str


class _Resources(_Part):
    limits: dict[str, str | int | float] | None = None
    requests: dict[str, str | int | float] | None = None
    claims: list[_Named] | None = None


class _SecurityContext(_Part):
    privileged: bool | None = None


class _Container(_Part):
    name: str
    command: list[str] | None = None
    args: list[str] | None = None
    env: list[_Variable] | None = None
    envFrom: list[dict[str, Any]] | None = None  # noqa: N815 - Kubernetes's own field name
    resources: _Resources | None = None
    restartPolicy: str | None = None  # noqa: N815 - Kubernetes's own field name
    securityContext: _SecurityContext | None = None  # noqa: N815 - Kubernetes's own field name
    volumeMounts: list[_Mount] | None = None  # noqa: N815 - Kubernetes's own field name


class _Spec(_Part):
    containers: list[_Container] | None = None
    initContainers: list[_Container] | None = None  # noqa: N815 - Kubernetes's own field name
    nodeSelector: dict[str, str] | None = None  # noqa: N815 - Kubernetes's own field name
    runtimeClassName: str | None = None  # noqa: N815 - Kubernetes's own field name
    resourceClaims: list[_Named] | None = None  # noqa: N815 - Kubernetes's own field name
    volumes: list[_Volume] | None = None


class _Metadata(_Part):
    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class _Pod(_Part):
    metadata: _Metadata | None = None
    spec: _Spec


def shape_problem(pod: Any) -> str:
    """What is wrong with the form of `pod`: place and rule, in one line; empty where it is right."""
    try:
        _Pod.model_validate(pod)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        # `limits.cpu.str`: which of several types was tried says nothing to anyone.
        place = ".".join(str(part) for part in first["loc"] if part not in ("str", "int", "float"))
        return f"{place or 'the pod'}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    return ""
