"""RBAC is on: a ServiceAccount may do what it was given, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client, config

from lab.api import ApiError
from lab.cluster import Lab

pytestmark = pytest.mark.lab

NAMESPACE = "identity"


@pytest.fixture(scope="module")
def account(lab: Lab, kube: client.ApiClient) -> Iterator[client.ApiClient]:
    core = client.CoreV1Api(kube)
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": "reader"}})
    rbac = client.RbacAuthorizationV1Api(kube)
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}
    rbac.create_namespaced_role(NAMESPACE, {"metadata": {"name": "reader"}, "rules": [rule]})
    binding = {
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": NAMESPACE}],
    }
    rbac.create_namespaced_role_binding(NAMESPACE, binding)
    kubeconfig = lab.service_account_kubeconfig(NAMESPACE, "reader")
    with config.new_client_from_config(str(kubeconfig)) as api:
        yield api
    core.delete_namespace(NAMESPACE)


def test_a_service_account_is_refused_what_it_was_not_given(account: client.ApiClient) -> None:
    with pytest.raises(client.ApiException) as refused:
        client.CoreV1Api(account).list_node()
    assert refused.value.status == 403
    assert f"system:serviceaccount:{NAMESPACE}:reader" in refused.value.body


def test_a_service_account_may_do_what_it_was_given(account: client.ApiClient, eventually: Callable[..., Any]) -> None:
    """Refused until the role is in force; the controller writes the document a moment after the namespace."""
    core = client.CoreV1Api(account)
    assert [item.metadata.name for item in eventually(lambda: core.list_namespaced_config_map(NAMESPACE).items)] == [
        "kube-root-ca.crt"
    ]


def test_an_account_that_does_not_exist_is_an_error(lab: Lab) -> None:
    with pytest.raises(ApiError, match='serviceaccounts "nobody" not found'):
        lab.service_account_kubeconfig("default", "nobody")


def test_a_hollow_kubelet_has_a_nodes_rights_only(lab: Lab) -> None:
    with (
        config.new_client_from_config(str(lab.paths.identities / "node-hollow-0.kubeconfig")) as api,
        pytest.raises(client.ApiException) as refused,
    ):
        client.CoreV1Api(api).list_namespaced_secret("kube-system")
    assert refused.value.status == 403
