"""What a changed estate changes, and nothing besides: this is what a reviewer sees in the plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from helpers.domain.estate.model import Estate
from tests.synth.conftest import Stacks
from tests.synth.estates import example

GATE = "null_resource.gate"


def changed(before: Stacks, after: Stacks, stack: str) -> dict[str, tuple[Any, Any]]:
    old, new = dict(before.resources(stack)), dict(after.resources(stack))
    assert set(old) == set(new)
    return {address: (old[address], new[address]) for address in old if old[address] != new[address]}


def test_a_foreign_tenants_budget_changes_its_triggers_and_the_gates_hash(
    example_stacks: Stacks, synth: Callable[[Estate], Stacks]
) -> None:
    after = synth(example(**{"budget_mib: 3000": "budget_mib: 2900"}))
    found = changed(example_stacks, after, "consumers")
    assert set(found) == {GATE, "null_resource.budget-immich-ml"}
    old, new = (body["triggers"] for body in found["null_resource.budget-immich-ml"])
    assert {key: (old[key], new[key]) for key in old if old[key] != new[key]} == {"budget_mib": ("3000", "2900")}
    old, new = (body["triggers"] for body in found[GATE])
    assert {key for key in old if old[key] != new[key]} == {"consumers"}
    assert changed(example_stacks, after, "nvidia") == {}


def test_a_rendered_tenants_budget_changes_its_manifest_and_the_gates_hash(
    example_stacks: Stacks, synth: Callable[[Estate], Stacks]
) -> None:
    found = changed(example_stacks, synth(example(**{"budget_mib: 5000": "budget_mib: 5500"})), "consumers")
    assert set(found) == {GATE, "kubectl_manifest.tenant-llama-swap"}
    old, new = (body["yaml_body"].splitlines() for body in found["kubectl_manifest.tenant-llama-swap"])
    assert [line.strip() for line in set(new) - set(old)] == ['viktorbarzin.me/gpumem: "5500"']


def test_replicas_change_their_step_and_not_the_workload(
    example_stacks: Stacks, synth: Callable[[Estate], Stacks]
) -> None:
    line = "budget_mib: 1500\n"
    twice = example(
        **{"reserve_mib: 1360": "reserve_mib: 100", line: f"{line}    replicas: 2\n    strategy: {{type: Recreate}}\n"}
    )
    roomy = synth(example(**{"reserve_mib: 1360": "reserve_mib: 100"}))
    found = changed(roomy, synth(twice), "consumers")
    assert set(found) == {GATE, "null_resource.replicas-portal-stt"}


def test_a_changed_reserve_is_asserted_and_passes_the_gate_again(
    example_stacks: Stacks, synth: Callable[[Estate], Stacks]
) -> None:
    after = synth(example(**{"reserve_mib: 1360": "reserve_mib: 1200"}))
    assert set(changed(example_stacks, after, "nvidia")) == {
        "null_resource.capacity-assert",
        "kubectl_manifest.capacity-config",
        "kubectl_manifest.capacity-watch",  # its pods start again: they read their settings once
        "kubectl_manifest.monitoring-config",  # the alert on unattributed memory compares against the reserve
        "kubectl_manifest.admission-deny",  # a budget above the largest card is denied
    }
    assert set(changed(example_stacks, after, "consumers")) == {GATE}


def test_another_order_of_keys_changes_nothing(example_stacks: Stacks, synth: Callable[[Estate], Stacks]) -> None:
    pod = "        - name: stt\n          image: registry.example.com/portal-stt:2.3.0\n"
    turned = "        - image: registry.example.com/portal-stt:2.3.0\n          name: stt\n"
    assert changed(example_stacks, synth(example(**{pod: turned})), "consumers") == {}


def test_strange_text_arrives_as_it_was_declared(synth: Callable[[Estate], Stacks]) -> None:
    strange = [
        "${HOME} $${x} %{if}",
        "a: b # c",
        "y",
        "1e3",
        "- {[",
        "'\"\\",
        "two\nlines\n",
        "é \u2028 \x85 \U0001f600",
        "",
        " ",
    ]
    image = "image: registry.example.com/portal-stt:2.3.0\n"
    estate = example(**{image: f"{image}          args: {yaml_list(strange)}\n"})
    manifest = synth(estate).manifests("consumers")["kubectl_manifest.tenant-portal-stt"]
    assert manifest["spec"]["template"]["spec"]["containers"][0]["args"] == strange


def yaml_list(texts: list[str]) -> str:
    escaped = ", ".join('"' + "".join(f"\\U{ord(c):08x}" for c in text) + '"' for text in texts)
    return f"[{escaped}]"
