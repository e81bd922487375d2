"""The kubectl stand-in's pure part: parsing, identity, field prints, rollouts."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from lab.standins.failure import Failure
from lab.standins.manifest import Identity, field_print, flatten, identity, parse, readable
from lab.standins.rollout import settled

BODY = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings, namespace: gpu}\ndata: {mode: a}\n"


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("kind: ConfigMap\nmetadata: {name: a}", "yaml_body must set apiVersion"),
        ("apiVersion: v1\nkind: ConfigMap", "yaml_body must set metadata.name"),
        ("", "yaml_body must hold one object, it holds 0"),
        (f"{BODY}---\n{BODY}", "yaml_body must hold one object, it holds 2"),
        ("a: [", "yaml_body must be YAML of one object"),
    ],
)
def test_a_body_that_is_no_single_object_is_refused(body: str, complaint: str) -> None:
    with pytest.raises(Failure, match=complaint):
        parse(body)


def test_values_are_read_as_a_go_program_reads_them() -> None:
    read = parse(f"{BODY}spec: {{day: 2026-11-22, clock: 12:30, mode: 0644, on: yes, half: 0.5, plus: -3}}")["spec"]
    assert read == {"day": "2026-11-22", "clock": "12:30", "mode": 420, "true": True, "half": 0.5, "plus": -3}


@pytest.mark.parametrize(
    ("who", "path"),
    [
        (Identity("v1", "ConfigMap", "a", "n"), "/api/v1/namespaces/n/configmaps/a"),
        (Identity("v1", "Namespace", "a", ""), "/api/v1/namespaces/a"),
        (Identity("node.k8s.io/v1", "RuntimeClass", "a", ""), "/apis/node.k8s.io/v1/runtimeclasses/a"),
    ],
)
def test_the_id_is_a_self_link_made_from_the_kind(who: Identity, path: str) -> None:
    assert who.path_id == path


def test_the_namespace_is_empty_where_the_manifest_names_none() -> None:
    assert identity(parse("apiVersion: v1\nkind: Node\nmetadata: {name: t4}")) == Identity("v1", "Node", "t4", "")


def test_leaves_are_flattened_with_the_length_of_lists() -> None:
    flat = flatten({"a": {"b": [1, {"c": True}]}, "none": None, "whole": 2.0, "half": 0.5})
    assert flat == {"a.b.#": "2", "a.b.0": "1", "a.b.1.c": "true", "whole": "2", "half": "0.5"}


def prints(live: dict[str, Any], wanted: dict[str, Any], *ignored: str) -> str:
    return field_print(wanted, live, list(ignored))


def test_only_named_fields_count_and_only_by_their_live_value() -> None:
    before = prints({"data": {"mode": "5k"}}, {"data": {"mode": "5000"}})
    assert before == prints({"data": {"mode": "5k", "more": "x"}}, {"data": {"mode": "5000"}})
    assert before != prints({"data": {"mode": "6k"}}, {"data": {"mode": "5000"}})
    assert before != prints({"data": {}}, {"data": {"mode": "5000"}})


def test_server_owned_and_ignored_fields_are_left_out_with_all_below_them() -> None:
    live = {"metadata": {"uid": "1", "name": "a"}, "status": {"ready": {"n": 1}}, "data": {"mode": "a"}, "datax": "1"}
    assert [line.split("=")[0] for line in prints(live, live, "data").split("\n")] == ["datax", "metadata.name"]


def test_string_data_of_a_secret_is_compared_as_the_data_that_it_becomes() -> None:
    wanted = {"apiVersion": "v1", "kind": "Secret", "stringData": {"key": "value"}}
    live = {"apiVersion": "v1", "kind": "Secret", "data": {"key": "dmFsdWU="}}
    assert "data.key=" in prints(live, wanted)
    assert "stringData" not in prints(live, wanted)


def test_the_plan_shows_sorted_keys_and_hides_what_a_secret_holds() -> None:
    assert readable(parse(BODY)).splitlines()[:3] == ["apiVersion: v1", "data:", "  mode: a"]
    secret = parse("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {key: hush}")
    assert "hush" not in readable(secret)


@pytest.mark.parametrize("value", ["5000", "yes", "y", "a\nb\n", " edge ", "0x10", "2026-11-22", "12:30", "", "é"])
def test_a_text_stays_a_text_when_it_is_shown(value: str) -> None:
    manifest = {**parse(BODY), "data": {"mode": value}}
    shown = readable(manifest)
    assert parse(shown)["data"] == yaml.safe_load(shown)["data"] == {"mode": value}


@pytest.mark.parametrize(
    ("status", "done"),
    [
        ({}, False),
        ({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 2, "availableReplicas": 1}, False),
        ({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 1, "availableReplicas": 0}, False),
        ({"observedGeneration": 1, "updatedReplicas": 1, "replicas": 1, "availableReplicas": 1}, False),
        ({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 1, "availableReplicas": 1}, True),
    ],
)
def test_a_deployment_has_settled_when_every_pod_is_new_and_available(status: dict[str, int], done: bool) -> None:
    live = {"kind": "Deployment", "metadata": {"generation": 2}, "spec": {"replicas": 1}, "status": status}
    assert settled(live) is done


def test_a_kind_without_rollout_has_always_settled() -> None:
    assert settled({"kind": "ConfigMap"})
