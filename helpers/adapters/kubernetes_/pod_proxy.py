"""`ports.probes.Prober` through the API server (`pods/proxy`), for whoever cannot reach pods.

Needs `get` on pods/proxy in the tenant's namespace. A plain connection cannot be had this way.
"""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import quote

import urllib3
from kubernetes import client

from helpers.adapters.kubernetes_.configuration import client_settings
from helpers.adapters.probes import judged
from helpers.domain.estate.health import HttpProbe, TcpProbe
from helpers.ports.probes import ProbedPod


class ProxyProber:
    """Probes of one API server's pods."""

    def __init__(self, kubeconfig: Path | None = None, context: str | None = None) -> None:
        """Raises InputError where there is no usable configuration."""
        api = client.ApiClient(client_settings(kubeconfig, context))
        self._settings = api.configuration
        self._pool = api.rest_client.pool_manager

    def http(self, probe: HttpProbe, pod: ProbedPod, timeout_seconds: float) -> str:
        """A GET that the API server passes on. 503 may be its own word: that it could not reach the pod."""
        path = f"/api/v1/namespaces/{quote(pod.namespace)}/pods/{quote(pod.name)}:{probe.port}/proxy{probe.path}"
        headers = {one["key"]: one["value"] for one in self._settings.auth_settings().values() if one["in"] == "header"}
        timeout = urllib3.Timeout(total=timeout_seconds)
        try:
            answer = self._pool.request(
                "GET", f"{self._settings.host}{path}", headers=headers, timeout=timeout, retries=False, redirect=False
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return f"GET {probe.path} on port {probe.port} through the API server: {error}"
        if answer.status == http.client.FORBIDDEN and probe.status != http.client.FORBIDDEN:
            return f"GET {probe.path}: 403; this way needs `get` on pods/proxy in {pod.namespace}"
        return judged(probe, answer.status)

    def tcp(self, probe: TcpProbe, pod: ProbedPod, timeout_seconds: float) -> str:  # noqa: ARG002 - the port's form
        """Never well: what cannot be asked is not known to work."""
        return f"port {probe.port}: a tcp probe needs the pod's own address (--via address)"
