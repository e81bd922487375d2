"""The webhook as objects: what is sent to it at all, what survives it, and what it may do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helpers.apps.cli import __main__ as cli
from helpers.apps.cli.injector_commands import injector_run
from helpers.apps.injector import RunSettings
from helpers.domain import names
from helpers.domain.admission.rights import injector_rights
from helpers.domain.admission.settings import GPU_SYSTEM_NAMESPACE, AdmissionSettings, admission_settings
from helpers.domain.admission.webhook import LEVEL_BY_PATH
from helpers.domain.estate.model import Estate
from helpers.rendering.admission_webhook import Certificates, webhook_objects
from helpers.rendering.gpu_system import gpu_system_objects
from helpers.rendering.objects import Rendered
from tests.synth.estates import example

CONDITIONS = [{"name": "annotated", "expression": "has(object.metadata.annotations)"}]


def settings() -> AdmissionSettings:
    estate = example()
    assert estate.admission is not None
    return admission_settings(estate, estate.admission)


def by_webhook() -> Estate:
    estate = example()
    assert estate.admission is not None
    return estate.model_copy(update={"admission": estate.admission.model_copy(update={"engine": "webhook"})})


def rendered(certificates: Certificates = "self") -> dict[str, Any]:
    """`{address: manifest}`."""
    one = settings()
    objects = tuple(
        webhook_objects(example(), one.to_json(), CONDITIONS, one.excluded_namespaces, certificates=certificates)
    )
    (namespace,) = gpu_system_objects(by_webhook())
    assert namespace.retain
    assert list(Rendered((namespace, *objects)).ordered()), "each is behind what it needs"
    assert {item.component for item in objects} == {"admission"}
    return {item.address: item.manifest for item in objects}


def webhooks(certificates: Certificates = "self") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rendered(certificates)["webhook-configuration"]["webhooks"]
    return found


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """As Kubernetes matches: NotIn takes objects without the label."""
    return all(
        (labels.get(one["key"]) in one["values"]) == (one["operator"] == "In") for one in selector["matchExpressions"]
    )


def test_only_pods_at_creation_that_meet_the_conditions_are_sent() -> None:
    for webhook in webhooks():
        (rule,) = webhook["rules"]
        assert (rule["resources"], rule["operations"]) == (["pods"], ["CREATE"])
        assert webhook["matchConditions"] == CONDITIONS
        assert (webhook["failurePolicy"], webhook["timeoutSeconds"], webhook["sideEffects"]) == ("Fail", 2, "None")
        assert (webhook["reinvocationPolicy"], webhook["matchPolicy"]) == ("IfNeeded", "Equivalent")
        assert "caBundle" not in webhook["clientConfig"], "the injector's field"


@pytest.mark.parametrize("namespace", [*settings().excluded_namespaces, GPU_SYSTEM_NAMESPACE, "kube-system"])
@pytest.mark.parametrize("level", [None, "baseline", "restricted"])
def test_system_namespaces_and_its_own_are_never_sent(namespace: str, level: str | None) -> None:
    labels = {"kubernetes.io/metadata.name": namespace}
    labels |= {"pod-security.kubernetes.io/enforce": level} if level else {}
    assert not any(matches(webhook["namespaceSelector"], labels) for webhook in webhooks())


@pytest.mark.parametrize(
    ("level", "path"),
    [
        (None, "/mutate/privileged"),
        ("privileged", "/mutate/privileged"),
        ("baseline", "/mutate/baseline"),
        ("restricted", "/mutate/restricted"),
    ],
)
def test_every_other_namespace_is_sent_once_to_the_path_of_its_level(level: str | None, path: str) -> None:
    labels = {"kubernetes.io/metadata.name": "research"}
    labels |= {"pod-security.kubernetes.io/enforce": level} if level else {}
    found = [one["clientConfig"]["service"]["path"] for one in webhooks() if matches(one["namespaceSelector"], labels)]
    assert found == [path]
    assert path in LEVEL_BY_PATH


def test_two_replicas_apart_of_which_one_may_go_at_a_time() -> None:
    objects = rendered()
    spec = objects["webhook"]["spec"]
    template = spec["template"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert objects["webhook-disruption-budget"]["spec"]["minAvailable"] == 1
    (spread,) = template["spec"]["topologySpreadConstraints"]
    budget = objects["webhook-disruption-budget"]["spec"]
    for selector in (spec["selector"], spread["labelSelector"], budget["selector"]):
        assert selector["matchLabels"].items() <= template["metadata"]["labels"].items()
    assert objects["webhook-service"]["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert template["metadata"]["labels"]["app"] == "gpu-webhook"
    assert template["spec"]["priorityClassName"] == "system-cluster-critical"


def test_it_has_no_privilege_and_its_key_passes_through_memory() -> None:
    pod = rendered()["webhook"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    (tmp,) = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "tmp"]
    assert tmp["medium"] == "Memory"
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "webhook", "scheme": "HTTPS"}


@pytest.mark.parametrize("certificates", ["self", "cert-manager"])
def test_the_container_is_started_with_arguments_that_the_command_takes(certificates: Certificates) -> None:
    (container,) = rendered(certificates)["webhook"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][:2] == ["injector", "run"]
    context = injector_run.make_context("run", container["args"][2:])
    given = context.params
    assert given["dns_names"] == ("gpu-webhook.gpu-system.svc",)
    assert given["certificates"] == certificates
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert given["listen_address"] == f"0.0.0.0:{ports['webhook']}"
    assert given["metrics_address"] == f":{ports['metrics']}"
    grace = rendered()["webhook"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert given["drain_seconds"] < grace / 2
    (mount,) = [item for item in container["volumeMounts"] if item["name"] == "settings"]
    assert str(given["settings_file"]) == f"{mount['mountPath']}/admission.json"


def test_the_mounted_document_is_the_estates_and_another_one_starts_other_pods() -> None:
    document = rendered()["webhook-config"]["data"]["admission.json"]
    assert AdmissionSettings.model_validate_json(document) == settings()

    def stamp(text: str) -> Any:
        objects = webhook_objects(example(), text, CONDITIONS, ())
        (deployment,) = [item.manifest for item in objects if item.address == "webhook"]
        return deployment["spec"]["template"]["metadata"]["annotations"]["gpumem.io/settings-sha256"]

    assert stamp("{}") != stamp("[]")


def test_what_it_may_touch_is_its_own_and_by_name() -> None:
    for right in injector_rights():
        if right.resource in ("secrets", "mutatingwebhookconfigurations"):
            assert right.names, "never any other object of that kind"
    text = json.dumps([right.rule() for right in injector_rights()])
    for nothing in ("pods", "namespaces", "delete", "*"):
        assert f'"{nothing}"' not in text


def test_with_cert_manager_it_only_reads_the_certificate_that_is_made_for_it() -> None:
    objects = rendered("cert-manager")
    verbs = {verb for rule in objects["webhook-role"]["rules"] for verb in rule["verbs"]}
    assert verbs == {"list", "watch"}
    assert "webhook-cluster-role" not in objects
    certificate = objects["webhook-certificate"]
    reference = objects["webhook-configuration"]["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    assert reference == f"{certificate['metadata']['namespace']}/{certificate['metadata']['name']}"
    assert certificate["spec"]["secretName"] == names.WEBHOOK_SECRET
    assert certificate["spec"]["dnsNames"] == ["gpu-webhook.gpu-system.svc"]
    assert certificate["spec"]["issuerRef"]["name"] == objects["webhook-issuer"]["metadata"]["name"]
    authority = objects["webhook-authority"]
    assert objects["webhook-issuer"]["spec"]["ca"]["secretName"] == authority["spec"]["secretName"]
    assert authority["spec"]["isCA"] is True
    assert authority["spec"]["issuerRef"]["name"] == objects["webhook-self-signed"]["metadata"]["name"]
    assert "annotations" not in rendered()["webhook-configuration"]["metadata"]


def test_time_to_settle_must_fit_into_what_is_left_of_a_lifetime() -> None:
    with pytest.raises(ValueError, match="at most a sixth of lifetime_seconds"):
        RunSettings(namespace="x", dns_names=("x",), lifetime_seconds=30, settle_seconds=10)
    assert RunSettings(namespace="x", dns_names=("x",)).lifetime_seconds == 90 * 24 * 3600


def test_the_command_names_a_document_that_is_not_there() -> None:
    assert cli.run(["injector", "run", "--settings", "/nowhere/admission.json"]) == 2
