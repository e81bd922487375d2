"""Kubeconfigs with a ServiceAccount's own rights, so that a missing permission fails in the lab."""

from __future__ import annotations

from pathlib import Path

from lab.api import Api
from lab.pki import write_kubeconfig
from lab.state import LabPaths

TOKEN_SECONDS = 24 * 3600


def write_service_account_kubeconfig(paths: LabPaths, api: Api, server: str, namespace: str, name: str) -> Path:
    """Asks for a token (TokenRequest, one day) and writes a kubeconfig with it, mode 0600.

    Args:
        paths: The lab's files; the kubeconfig goes to ``identities/``.
        api: An administrator's client.
        server: The API server's URL.
        namespace: The ServiceAccount's namespace.
        name: The ServiceAccount.

    Raises:
        ApiError: There is no such ServiceAccount (status 404).
    """
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": TOKEN_SECONDS},
    }
    answer = api.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", request)
    paths.identities.mkdir(mode=0o700, exist_ok=True)
    user = f"system:serviceaccount:{namespace}:{name}"
    # A namespace has no dot, so no two pairs share a file.
    target = paths.identities / f"{namespace}.{name}.kubeconfig"
    return write_kubeconfig(target, server, paths.pki / "ca.crt", user, token=answer["status"]["token"])
