"""Which API server, and with which credentials: the same order of places that kubectl users expect."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config

from helpers.adapters.kubernetes_.cluster import KubernetesCluster
from helpers.adapters.kubernetes_.connection import Connection
from helpers.domain.errors import InputError
from helpers.ports.log import Log

ENV_KUBECONFIG = "KUBECONFIG"
ENV_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"


def connect(kubeconfig: Path | None = None, context: str | None = None, *, log: Log | None = None) -> KubernetesCluster:
    """A client of the cluster that `kubeconfig` names. Nothing is sent before the first request.

    Args:
        kubeconfig: The file; if not given, $KUBECONFIG, else the pod's own ServiceAccount, else
            ~/.kube/config.
        context: A context of that file; its current one if not given. It makes no sense inside a pod,
            so it leads to the files.
        log: Gets a line when a watch has to reconnect.

    Raises:
        InputError: There is no configuration, or it cannot be used; the message says which file.
    """
    return KubernetesCluster(Connection(client.ApiClient(client_settings(kubeconfig, context))), log=log)


def client_settings(kubeconfig: Path | None = None, context: str | None = None) -> Any:
    """The client library's `Configuration` for `connect` of the same arguments.

    Raises:
        InputError: There is no configuration, or it cannot be used; the message says which file.
    """
    settings = client.Configuration()
    # A dropped idle connection is noticed in half a minute instead of hours.
    settings.keep_alive = True
    listed = os.environ.get(ENV_KUBECONFIG, "")
    if kubeconfig is None and not listed and context is None and os.environ.get(ENV_IN_CLUSTER):
        _load_in_cluster(settings)
    else:
        files = str(kubeconfig) if kubeconfig else listed or str(Path.home() / ".kube" / "config")
        _load_files(files, context, settings)
    return settings


def _load_in_cluster(settings: Any) -> None:
    try:
        config.load_incluster_config(client_configuration=settings)
    except (config.ConfigException, OSError) as error:
        raise InputError(
            f"this runs in a pod, and its ServiceAccount cannot be used: {error}. "
            "Set automountServiceAccountToken: true, or pass --kubeconfig."
        ) from error


def _load_files(files: str, context: str | None, settings: Any) -> None:
    # The client takes a list of which some do not exist, as kubectl does; none at all is an error.
    if not any(Path(file).expanduser().is_file() for file in files.split(os.pathsep) if file):
        raise InputError(
            f"kubeconfig {files}: no such file. Pass --kubeconfig FILE, or set {ENV_KUBECONFIG} to one that exists."
        )
    try:
        config.load_kube_config(config_file=files, context=context, client_configuration=settings)
    except (config.ConfigException, OSError, yaml.YAMLError, TypeError, AttributeError, ValueError) as error:
        # The loader trips over a document of another form (a list, a text) with Python's own errors.
        wanted = f"context {context!r} of " if context else ""
        words = " ".join(str(error).split())
        raise InputError(
            f"{wanted}kubeconfig {files} cannot be used: {words}. `kubectl config view` shows what it holds."
        ) from error
