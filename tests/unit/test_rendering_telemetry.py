"""Exporter and watchdog as objects: who finds whom, with which rights, and what restarts them."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.apps.exporter.__main__ import settings_from
from helpers.domain import names
from helpers.domain.watchdog.rights import EXPORTER_SERVICE
from helpers.domain.watchdog.settings import WatchdogSettings
from helpers.rendering.objects import Rendered
from helpers.rendering.render import render
from helpers.rendering.telemetry import exporter_arguments, watchdog_arguments
from tests.synth.estates import example


def manifest(rendered: Rendered, address: str) -> Any:
    (found,) = [item.manifest for item in rendered.objects if item.address == address]
    return found


def pod_of(rendered: Rendered, address: str) -> Any:
    return manifest(rendered, address)["spec"]["template"]["spec"]


def test_the_watchdog_finds_the_exporters_by_the_service_that_selects_them() -> None:
    rendered = render(example())
    service = manifest(rendered, "exporter-service")
    labels = manifest(rendered, "exporter-node-t4-node")["spec"]["template"]["metadata"]["labels"]
    assert service["metadata"]["name"] == EXPORTER_SERVICE
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= labels.items()
    (port,) = service["spec"]["ports"]
    assert port["name"] == "metrics"
    assert pod_of(rendered, "exporter-node-t4-node")["containers"][0]["ports"][0]["name"] == port["targetPort"]


def test_the_exporter_sees_the_hosts_processes_and_has_no_privilege_besides() -> None:
    pod = pod_of(render(example()), "exporter-node-t4-node")
    (container,) = pod["containers"]
    assert pod["hostPID"] is True
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert all(mount.get("readOnly") for mount in container["volumeMounts"] if mount["name"] != "tmp")


def test_the_exporters_rights_are_reading_pods_alone() -> None:
    rules = manifest(render(example()), "exporter-cluster-role")["rules"]
    assert rules == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]


@pytest.mark.parametrize(
    ("change", "flag"),
    [({}, "--host-cgroup"), ({"source: nvml #": "source: dcgm #"}, "--dcgm-url")],
)
def test_the_exporter_takes_the_flags_that_it_is_started_with(change: dict[str, str], flag: str) -> None:
    arguments = exporter_arguments(example(**change), example().nodes[0])
    assert arguments[:2] == ["exporter", "run"]
    assert flag in arguments
    pairs = dict(zip(arguments[2::2], arguments[3::2], strict=True))
    given: dict[str, Any] = {key.removeprefix("--").replace("-", "_"): value for key, value in pairs.items()}
    for name in ("listen_port", "interval_seconds", "dcgm_collection_seconds"):
        if name in given:
            given[name] = float(given[name])
    assert settings_from(given).resource == "viktorbarzin.me/gpumem"


def test_the_watchdogs_document_is_the_estates_policy_without_budgets() -> None:
    rendered = render(example(**{"floor_mib: 1536": "floor_mib: 2048"}))
    settings = WatchdogSettings.model_validate_json(manifest(rendered, "watchdog-config")["data"]["watchdog.json"])
    assert (settings.floor_mib, settings.dry_run) == (2048, True)
    assert [rule.name for rule in settings.tenants][:2] == ["immich-ml", "llama-swap"]
    assert {rule.budget_mib for rule in settings.tenants} == {None}


def test_a_changed_floor_restarts_the_watchdog_and_a_changed_budget_does_not() -> None:
    def stamp(**change: str) -> Any:
        template = manifest(render(example(**change)), "watchdog")["spec"]["template"]
        return template["metadata"]["annotations"]["gpumem.io/settings-sha256"]

    assert stamp(**{"floor_mib: 1536": "floor_mib: 2048"}) != stamp()
    assert stamp(**{"budget_mib: 1500": "budget_mib: 1400"}) == stamp()


def test_the_watchdog_is_told_where_its_document_is_mounted() -> None:
    arguments = watchdog_arguments(example())
    assert arguments[arguments.index("--settings") + 1] == names.WATCHDOG_CONFIG_PATH
    pod = pod_of(render(example()), "watchdog")
    (mount,) = [item for item in pod["containers"][0]["volumeMounts"] if item["name"] == "settings"]
    assert names.WATCHDOG_CONFIG_PATH.startswith(f"{mount['mountPath']}/")
    assert pod["containers"][0]["args"] == arguments


def test_the_right_to_delete_is_given_only_where_the_estate_allows_it() -> None:
    def verbs(**change: str) -> set[str]:
        rules = manifest(render(example(**change)), "watchdog-cluster-role")["rules"]
        return {verb for rule in rules for verb in rule["verbs"]}

    assert "delete" not in verbs()
    assert "delete" in verbs(**{"allow_delete: false": "allow_delete: true"})


IMMICH = "  - name: immich-ml # Unique; TENANT on the command line.\n"
PORTAL = "  - name: portal-stt\n"
HOOK = "    watchdog: {release_hook: {command: [free-memory]}}\n"
ALLOWED = {"allow_exec: false": "allow_exec: true"}


def roles(rendered: Rendered) -> dict[str, Any]:
    """What the watchdog gets behind the gate, in tenants' namespaces, by kind and namespace."""
    manifests = [item.manifest for item in rendered.objects if (item.wave, item.component) == (1, "watchdog")]
    return {f"{each['kind']} {each['metadata']['namespace']}": each for each in manifests}


def test_the_right_to_exec_is_given_only_where_a_tenants_hook_is_a_command() -> None:
    assert roles(render(example())) == {}
    assert roles(render(example(**ALLOWED))) == {}
    rendered = render(example(**ALLOWED, **{PORTAL: PORTAL + HOOK}))
    found = roles(rendered)
    assert set(found) == {"Role portal", "RoleBinding portal"}
    assert found["Role portal"]["rules"] == [
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get", "create"]}
    ]
    assert found["RoleBinding portal"]["subjects"][0]["namespace"] == "nvidia"
    assert "pods/exec" not in str(manifest(rendered, "watchdog-cluster-role"))


def test_the_right_to_exec_waits_for_a_namespace_of_ours_and_never_makes_anothers() -> None:
    rendered = render(example(**ALLOWED, **{PORTAL: PORTAL + HOOK, IMMICH: IMMICH + HOOK}))
    after = {item.address: item.after for item in rendered.objects if item.address.startswith("exec-role")}
    assert after == {"exec-role-portal": ("namespace-portal",), "exec-role-immich": ("gate",)}
