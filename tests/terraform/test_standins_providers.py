"""The stand-in providers against a real API server; the same cases against the real ones where they can be had."""

from __future__ import annotations

import shutil
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from lab import cluster
from lab.cluster import Lab
from lab.standins.install import ProviderChoice, choose_providers, cli_config, install
from tests.terraform.standins_workspace import PROGRAM, Workspace, config_map, deployment, text

pytestmark = [pytest.mark.lab, pytest.mark.terraform]


@pytest.fixture(scope="session", params=["stand-in", "real"])
def either_kind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ProviderChoice, Path]:
    folder = tmp_path_factory.mktemp("providers")
    choice = choose_providers(PROGRAM, folder / "choice", Path(sys.executable))
    if request.param == "stand-in":
        install(folder / "mirror", Path(sys.executable))
        cli_config(folder / "terraform.tfrc", folder / "mirror")
        choice = ProviderChoice("stand-in", folder / "terraform.tfrc", "asked for by the test")
    elif choice.kind != "real":
        pytest.skip(f"the real providers cannot be had here: {choice.reason}")
    template = Workspace(folder / "template", choice, folder)
    template.folder.mkdir()
    template.write({})
    done = template.run("init", "-no-color", "-input=false")
    assert done.code == 0, done.text
    return choice, template.folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A control plane without nodes: nothing here runs a pod."""
    root = tmp_path_factory.mktemp("labs")
    try:
        yield cluster.up("standins", [], root, print)
    finally:
        cluster.down("standins", root)


@pytest.fixture
def work(either_kind: tuple[ProviderChoice, Path], lab: Lab, tmp_path: Path) -> Workspace:
    choice, template = either_kind
    shutil.copytree(template, tmp_path / "work", symlinks=True)
    return Workspace(tmp_path / "work", choice, Path(lab.kubeconfig))


@pytest.fixture
def api(lab: Lab) -> Any:
    return client.CoreV1Api(config.new_client_from_config(str(lab.kubeconfig)))


@pytest.fixture
def namespace(api: Any) -> Iterator[str]:
    name = f"standins-{uuid.uuid4().hex[:8]}"
    api.create_namespace({"metadata": {"name": name}})
    yield name
    api.delete_namespace(name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_created_objects_leave_a_second_plan_empty(work: Workspace, namespace: str) -> None:
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{namespace}-made"}}
    work.manifests(
        settings={"body": config_map(namespace, mode="a")},
        space={"body": made},
        tenant={"body": deployment(namespace, "5k"), "wait_for_rollout": True},
    )
    work.applied()
    held = work.state()["kubectl_manifest.tenant"]
    assert held["id"] == f"/apis/apps/v1/namespaces/{namespace}/deployments/tenant"
    assert (held["kind"], held["name"], held["namespace"]) == ("Deployment", "tenant", namespace)
    assert held["uid"] == held["live_uid"]
    destroyed = work.run("destroy", "-no-color", "-auto-approve")
    assert destroyed.code == 0, destroyed.text


@pytest.mark.parametrize("budget", ["5k", "5000"])
def test_a_quantity_never_drifts_however_it_is_spelled(work: Workspace, namespace: str, budget: str) -> None:
    """2.x prints the live value at both ends, so the server's ``5k`` for a written ``5000`` is no drift."""
    work.manifests(tenant={"body": deployment(namespace, budget)})
    work.applied()
    work.applied()


def test_a_changed_field_is_updated_in_place(work: Workspace, namespace: str, api: Any) -> None:
    work.manifests(settings={"body": config_map(namespace, mode="a")})
    work.applied()
    work.manifests(settings={"body": config_map(namespace, mode="b")})
    assert work.plan().actions == {"kubectl_manifest.settings": "update"}
    work.applied()
    assert api.read_namespaced_config_map("settings", namespace).data == {"mode": "b"}


def test_a_field_that_the_manifest_names_is_taken_back_and_others_are_let_be(
    work: Workspace, namespace: str, api: Any
) -> None:
    """Field fault 10: what image updaters and policy engines put in beside our fields is no drift."""
    work.manifests(settings={"body": config_map(namespace, mode="a"), "force_conflicts": True})
    work.applied()
    api.patch_namespaced_config_map("settings", namespace, {"data": {"added": "x"}}, field_manager="other")
    assert work.plan().code == 0
    api.patch_namespaced_config_map("settings", namespace, {"data": {"mode": "z"}}, field_manager="other")
    assert work.plan().actions == {"kubectl_manifest.settings": "update"}
    work.applied()
    assert api.read_namespaced_config_map("settings", namespace).data == {"mode": "a", "added": "x"}


def test_ignored_fields_do_not_drift(work: Workspace, namespace: str, api: Any) -> None:
    work.manifests(settings={"body": config_map(namespace, mode="a"), "ignore_fields": ["data"]})
    work.applied()
    api.patch_namespaced_config_map("settings", namespace, {"data": {"mode": "z"}}, field_manager="other")
    assert work.plan().code == 0


def test_an_object_deleted_by_somebody_is_created_again(work: Workspace, namespace: str, api: Any) -> None:
    work.manifests(settings={"body": config_map(namespace, mode="a")})
    work.applied()
    api.delete_namespaced_config_map("settings", namespace)
    assert work.plan().actions == {"kubectl_manifest.settings": "create"}
    work.applied()


def test_an_object_made_anew_by_somebody_is_taken_over_in_place(work: Workspace, namespace: str, api: Any) -> None:
    work.manifests(settings={"body": config_map(namespace, mode="a")})
    work.applied()
    api.delete_namespaced_config_map("settings", namespace)
    api.create_namespaced_config_map(namespace, config_map(namespace, mode="a"))
    assert work.plan().actions == {"kubectl_manifest.settings": "update"}
    work.applied()


def test_another_name_is_another_object(work: Workspace, namespace: str, api: Any) -> None:
    work.manifests(settings={"body": config_map(namespace, "one", mode="a")})
    work.applied()
    work.manifests(settings={"body": config_map(namespace, "two", mode="a")})
    assert work.plan().actions == {"kubectl_manifest.settings": "replace"}
    work.applied()
    assert "one" not in [one.metadata.name for one in api.list_namespaced_config_map(namespace).items]


def test_a_conflict_names_the_other_manager_and_the_field(work: Workspace, namespace: str, api: Any) -> None:
    api.create_namespaced_config_map(namespace, config_map(namespace, mode="theirs"), field_manager="somebody")
    work.manifests(settings={"body": config_map(namespace, mode="ours")})
    refused = work.apply()
    assert refused.code == 1
    assert 'conflict with "somebody"' in refused.text
    assert ".data.mode" in refused.text
    assert "Traceback" not in refused.text
    work.manifests(settings={"body": config_map(namespace, mode="ours"), "force_conflicts": True})
    work.applied()
    assert api.read_namespaced_config_map("settings", namespace).data == {"mode": "ours"}


def test_a_failed_update_is_forgotten_where_the_live_field_did_not_move(
    work: Workspace, namespace: str, api: Any
) -> None:
    """A trap of the real provider, kept: the state takes the planned manifest although its apply failed."""
    work.manifests(settings={"body": config_map(namespace, mode="a")})
    work.applied()
    owned = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"mode": "a"}}
    api.patch_namespaced_config_map(
        "settings", namespace, owned, field_manager="other", _content_type="application/apply-patch+yaml"
    )
    work.manifests(settings={"body": config_map(namespace, mode="b")})
    assert work.apply().code == 1
    assert work.plan().code == 0
    assert api.read_namespaced_config_map("settings", namespace).data == {"mode": "a"}


def test_apply_only_survives_destroy_and_the_rest_goes(work: Workspace, namespace: str, api: Any) -> None:
    work.manifests(
        kept={"body": config_map(namespace, "kept", mode="a"), "apply_only": True},
        gone={"body": config_map(namespace, "gone", mode="a"), "wait": True},
    )
    work.applied()
    destroyed = work.run("destroy", "-no-color", "-auto-approve")
    assert destroyed.code == 0, destroyed.text
    names = {one.metadata.name for one in api.list_namespaced_config_map(namespace).items}
    assert "kept" in names
    assert "gone" not in names


def test_a_kind_without_its_crd_plans_and_then_fails_to_apply(work: Workspace, namespace: str) -> None:
    body = {"apiVersion": "no.such/v1", "kind": "Thing", "metadata": {"name": "one", "namespace": namespace}}
    work.manifests(thing={"body": body})
    assert work.plan().actions == {"kubectl_manifest.thing": "create"}
    refused = work.apply()
    assert refused.code == 1
    assert "no.such/v1" in refused.text


def test_a_custom_resource_may_come_in_the_same_apply_as_its_definition(work: Workspace, namespace: str) -> None:
    group = f"{namespace}.example.org"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    thing = {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "one", "namespace": namespace}}
    work.manifests(
        {"apply_retry_count": 4},
        definition={"body": definition},
        thing={"body": {**thing, "spec": {"n": 1}}, "depends_on": ["kubectl_manifest.definition"]},
    )
    work.applied()
    destroyed = work.run("destroy", "-no-color", "-auto-approve")
    assert destroyed.code == 0, destroyed.text


def test_an_unreachable_cluster_plans_new_objects_and_keeps_the_state_of_old_ones(
    work: Workspace, namespace: str, tmp_path: Path
) -> None:
    work.manifests(settings={"body": config_map(namespace, mode="a")})
    work.applied()
    before = work.state()
    dead = yaml.safe_load(Path(work.kubeconfig).read_text())
    for entry in dead["clusters"]:
        entry["cluster"]["server"] = f"https://127.0.0.1:{free_port()}"
    work.kubeconfig = tmp_path / "dead.yaml"
    work.kubeconfig.write_text(yaml.safe_dump(dead))
    both = {"settings": {"body": config_map(namespace, mode="a")}, "new": {"body": config_map(namespace, "new")}}
    work.manifests(**both)
    failed = work.plan()
    assert failed.code == 1
    assert "kubectl_manifest.settings" in failed.text
    assert work.apply().code == 1
    assert work.state() == before
    assert work.plan("-refresh=false").actions == {"kubectl_manifest.new": "create"}


def test_a_missing_kubeconfig_is_named_unless_lazy_load_puts_it_off(work: Workspace, tmp_path: Path) -> None:
    work.kubeconfig = tmp_path / "nowhere.yaml"
    body = {"server_side_apply": True, "yaml_body": text(config_map("default", mode="a"))}
    work.write({"kubectl_manifest": {"one": body}})
    refused = work.plan()
    assert refused.code == 1
    assert "invalid provider configuration" in refused.text
    assert "nowhere.yaml" in refused.text
    work.write({"kubectl_manifest": {"one": body}}, lazy_load=True)
    assert work.plan().actions == {"kubectl_manifest.one": "create"}


def test_an_object_is_imported_by_its_address(work: Workspace, namespace: str, api: Any) -> None:
    api.create_namespaced_config_map(namespace, config_map(namespace, mode="a"))
    work.manifests(settings={"body": config_map(namespace, mode="a"), "force_conflicts": True})
    done = work.run("import", "-no-color", "kubectl_manifest.settings", f"v1//ConfigMap//settings//{namespace}")
    assert done.code == 0, done.text
    assert work.state()["kubectl_manifest.settings"]["name"] == "settings"
    work.applied()


def test_changed_triggers_replace_a_null_resource_and_its_provisioners_see_the_old_ones(work: Workspace) -> None:
    log = work.folder / "log"

    def with_trigger(value: str) -> dict[str, Any]:
        made = {"local-exec": {"command": f"echo made ${{self.triggers.at}} >> {log}"}}
        gone = {"local-exec": {"when": "destroy", "command": f"echo gone ${{self.triggers.at}} >> {log}"}}
        return {"null_resource": {"step": {"triggers": {"at": value}, "provisioner": [made, gone]}}}

    work.write(with_trigger("1"))
    work.applied()
    first = work.state()["null_resource.step"]["id"]
    work.write(with_trigger("2"))
    assert work.plan().actions == {"null_resource.step": "replace"}
    work.applied()
    assert work.state()["null_resource.step"]["id"] != first
    assert work.run("destroy", "-no-color", "-auto-approve").code == 0
    assert log.read_text().split("\n") == ["made 1", "gone 1", "made 2", "gone 2", ""]


def test_a_null_resource_whose_provisioner_fails_is_tainted(work: Workspace) -> None:
    failing = {"local-exec": {"command": "exit 3"}}
    work.write({"null_resource": {"gate": {"triggers": {"at": "1"}, "provisioner": [failing]}}})
    assert work.apply().code == 1
    assert work.plan().actions == {"null_resource.gate": "replace"}
