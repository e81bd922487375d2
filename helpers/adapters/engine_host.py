"""Outside Kubernetes: a tenant is asked on the machine of its Ollama. `ports.tenant_pods.TenantPods`."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from helpers.domain.errors import DependencyError
from helpers.domain.lanes.settings import EngineRule, HookRule
from helpers.ports.release_hook import HookTarget
from helpers.ports.tenant_pods import AskedPod


class EngineHosts:
    """Takes the host of `ollama_url`; the hook names the port."""

    def __init__(self, engines: Sequence[EngineRule]) -> None:
        self._urls = {rule.engine.tenant: rule.engine.ollama_url for rule in engines}

    def of(self, rule: HookRule) -> tuple[AskedPod, ...]:
        """That one machine.

        Raises:
            DependencyError: the estate does not say which it is, or its name has no address.
        """
        url = self._urls.get(rule.tenant)
        if url is None:
            raise DependencyError(
                f"outside Kubernetes {rule.tenant} is asked on the host of its engine's ollama_url, and it has none: "
                f"add an engine for {rule.tenant} to the coordinator"
            )
        host = urlsplit(url).hostname or ""
        try:
            address = str(socket.getaddrinfo(host, rule.hook.port, type=socket.SOCK_STREAM)[0][4][0])
        except OSError as error:
            raise DependencyError(f"{rule.tenant}: {host} has no address: {error.strerror or error}") from error
        return (AskedPod(HookTarget("", rule.tenant, rule.container, address)),)
