"""How the kubectl stand-in finds its cluster: provider settings over environment over kubeconfig, as the real one."""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.standins.failure import Failure

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

ENVIRONMENT = {
    "host": ("KUBE_HOST",),
    "token": ("KUBE_TOKEN",),
    "insecure": ("KUBE_INSECURE",),
    "cluster_ca_certificate": ("KUBE_CLUSTER_CA_CERT_DATA",),
    "client_certificate": ("KUBE_CLIENT_CERT_DATA",),
    "client_key": ("KUBE_CLIENT_KEY_DATA",),
    "config_path": ("KUBE_CONFIG", "KUBECONFIG", "KUBE_CONFIG_PATH"),
    "config_context": ("KUBE_CTX",),
    "load_config_file": ("KUBE_LOAD_CONFIG_FILE",),
    "lazy_load": ("KUBE_LAZY_LOAD",),
}
"""Setting → variables read in this order where the provider block leaves it out."""


@dataclass(frozen=True)
class Connection:
    """The provider block, completed from the environment."""

    host: str = ""
    token: str = ""
    insecure: bool = False
    cluster_ca_certificate: str = ""
    client_certificate: str = ""
    client_key: str = ""
    config_path: str = "~/.kube/config"
    config_context: str = ""
    load_config_file: bool = True
    lazy_load: bool = False
    retry_count: int = 1

    @classmethod
    def resolve(cls, config: Mapping[str, Any], environment: Mapping[str, str]) -> Connection:
        """Settings from a provider block (None or no known value: left out) and the environment."""
        values: dict[str, Any] = {}
        for name, variables in ENVIRONMENT.items():
            found = [config.get(name), *(environment.get(variable) for variable in variables)]
            value = next((one for one in found if isinstance(one, bool) or (isinstance(one, str) and one)), None)
            if value is not None:
                values[name] = _flag(value) if isinstance(cls.__dataclass_fields__[name].default, bool) else value
        retries = environment.get("KUBECTL_PROVIDER_APPLY_RETRY_COUNT") or config.get("apply_retry_count")
        if isinstance(retries, int | str):
            values["retry_count"] = int(retries)
        return cls(**values)

    @property
    def kubeconfig(self) -> Path | None:
        """The kubeconfig to read, or None where the block says not to."""
        return Path(self.config_path).expanduser() if self.load_config_file and self.config_path else None

    def check(self) -> None:
        """What can be known without a network.

        Raises:
            Failure: a kubeconfig that is not there, or no cluster named at all.
        """
        if self.kubeconfig is not None and not self.kubeconfig.is_file():
            raise Failure(
                "invalid provider configuration",
                f"config_path {self.kubeconfig}: no such file; write it first, set load_config_file = false with host "
                "and token, or set lazy_load = true",
            )
        if self.kubeconfig is None and not self.host:
            raise Failure("invalid provider configuration", "neither a kubeconfig nor host is set", attribute="host")

    def client(self) -> ApiClient:
        """A client of the Kubernetes package for these settings; imported here, for it takes a third of a second.

        Raises:
            Failure: settings or a kubeconfig that name no cluster.
        """
        from kubernetes.client import ApiClient, Configuration  # noqa: PLC0415 (a plan of new objects never needs it)
        from kubernetes.config import ConfigException, load_kube_config  # noqa: PLC0415

        self.check()
        settings = Configuration()
        if self.kubeconfig is not None:
            try:
                load_kube_config(str(self.kubeconfig), self.config_context or None, settings, persist_config=False)
            except (ConfigException, OSError, ValueError) as exc:
                raise Failure("invalid provider configuration", f"kubeconfig {self.kubeconfig}: {exc}") from exc
        self._override(settings)
        return ApiClient(settings)

    def _override(self, settings: Any) -> None:
        """Puts what the provider block names over what the kubeconfig said."""
        if self.host:
            settings.host = self.host if "://" in self.host else f"https://{self.host}"
        settings.host = settings.host.rstrip("/")
        if "//127.0.0.1" in settings.host or "//localhost" in settings.host:
            # Go programs never send loopback through a proxy of the environment; this client would.
            settings.proxy = None
        if self.token:
            settings.refresh_api_key_hook = None
            settings.api_key = {"authorization": f"Bearer {self.token}"}
        if self.insecure:
            settings.verify_ssl = False
        for pem, field in (
            (self.cluster_ca_certificate, "ssl_ca_cert"),
            (self.client_certificate, "cert_file"),
            (self.client_key, "key_file"),
        ):
            if pem:
                setattr(settings, field, _as_file(pem))


def _flag(value: str | bool) -> bool:
    return value if isinstance(value, bool) else value.lower() in {"1", "t", "true"}


def _as_file(pem: str) -> str:
    """A private file for TLS material, gone when this process ends: Python's TLS reads files only."""
    handle, path = tempfile.mkstemp(prefix="standin-", suffix=".pem")
    with os.fdopen(handle, "w") as stream:
        stream.write(pem)
    atexit.register(Path(path).unlink, missing_ok=True)
    return path
