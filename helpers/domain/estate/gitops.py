"""The estate's words on delivery by Git: who applies the rendered tree, and from where it is read."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from helpers.domain import names
from helpers.domain.estate.base import DnsLabel, DnsSubdomain, EstateModel, broken_rule
from helpers.domain.estate.texts import HttpUrl

Engine = Literal["argocd", "flux"]

# Flux writes a Kustomization's name, which is this name and a folder's, into a label of 63 characters.
LONGEST_NAME = 36
_OWN_NAMESPACE: dict[Engine, str] = {"argocd": "argocd", "flux": "flux-system"}
_KEYS_OF: dict[Engine, tuple[str, ...]] = {
    "argocd": ("cluster_url", "ignored_field_managers"),
    "flux": ("interval_seconds", "secret_name"),
}
_FIELD_MANAGERS: dict[Engine, str] = {"argocd": names.FIELD_MANAGER_ARGOCD, "flux": names.FIELD_MANAGER_FLUX}


def _repository(value: str) -> str:
    if re.fullmatch(r"git@[A-Za-z0-9.-]+:[A-Za-z0-9._~/-]+", value):
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http", "ssh") or not parts.hostname or not parts.path.strip("/"):
        raise broken_rule(
            "the address of a Git repository: https://…, ssh://… or git@host:path",
            "write it like https://git.example.com/platform/gpus.git",
        )
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise broken_rule(
            "the address goes into objects that many may read, so it holds no user and no password",
            "take them out, and give them to Argo CD or Flux as a Secret",
        )
    return value


def _revision(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", value) is None or ".." in value:
        raise broken_rule("a branch, a tag as refs/tags/…, or a commit", "write it like main")
    return value


def _folder(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*", value) is None or ".." in value.split("/"):
        raise broken_rule("a folder of the repository, from its root, without .. in it", "write it like clusters/gpu")
    return value


def _manager(value: str) -> str:
    own = names.FIELD_MANAGER_ARGOCD
    if not value or value != value.strip() or value == own:
        raise broken_rule(
            f"another controller's field manager; {own} is Argo CD's own, and would hide every change",
            "use the name that `kubectl get --show-managed-fields` shows",
        )
    return value


RepositoryUrl = Annotated[str, AfterValidator(_repository)]
GitRevision = Annotated[str, AfterValidator(_revision)]
RepositoryFolder = Annotated[str, AfterValidator(_folder)]
FieldManager = Annotated[str, AfterValidator(_manager)]


class GitOps(EstateModel):
    """Delivery of what `gpumem render` writes by Argo CD or Flux, instead of Terraform."""

    engine: Engine = Field(description="Who applies the tree.")
    repo_url: RepositoryUrl = Field(description="The Git repository into which the rendered tree is committed.")
    revision: GitRevision = Field(default="main", description="Branch, tag (flux: as refs/tags/…) or commit.")
    path: RepositoryFolder = Field(description="The folder of that repository that `render --output-dir` writes.")
    name: DnsLabel = Field(default="gpumem", description="What the engine's own objects are called, or begin with.")
    namespace: DnsLabel | None = Field(
        default=None, description="Where the engine's own objects lie; absent: argocd or flux-system."
    )
    cluster_url: HttpUrl = Field(
        default="https://kubernetes.default.svc", description="argocd only: the cluster, as Argo CD knows it."
    )
    ignored_field_managers: tuple[FieldManager, ...] = Field(
        default=(),
        strict=False,
        description="argocd only: image updaters and policy engines; what they set is neither drift nor put back.",
    )
    interval_seconds: int = Field(
        default=600, ge=30, le=86400, description="flux only: between two looks at repository and cluster."
    )
    secret_name: DnsSubdomain | None = Field(
        default=None, description="flux only: the Secret with the repository's credentials; absent: it needs none."
    )

    def own_namespace(self) -> str:
        """Where the engine's own objects lie."""
        return self.namespace or _OWN_NAMESPACE[self.engine]

    def field_manager(self) -> str:
        """Who owns the fields of what is delivered."""
        return _FIELD_MANAGERS[self.engine]

    @model_validator(mode="after")
    def _fits_the_engine(self) -> GitOps:
        for engine, keys in _KEYS_OF.items():
            foreign = sorted(self.model_fields_set.intersection(keys))
            if engine != self.engine and foreign:
                raise broken_rule(f"{foreign[0]} is for engine: {engine}", f"remove {foreign[0]}", at=foreign[0])
        if self.engine == "flux" and "://" not in self.repo_url:
            repair = f"write ssh://{self.repo_url.replace(':', '/', 1)}"
            raise broken_rule("Flux wants an address with ssh:// or https://", repair, at="repo_url")
        if len(self.name) > LONGEST_NAME:
            rule = f"at most {LONGEST_NAME} characters, because folders' names come behind it"
            raise broken_rule(rule, "shorten it", at="name")
        return self
