"""The warning about an elastic tenant that may be placed where an always-on one belongs."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.domain.errors import Problem
from helpers.rendering.estate_file import load_estate, parse_estate
from lab.demo import SIXTH_TENANT
from tests.synth.estates import EXAMPLE, SHIPPED

HEAD = """version: 1
kubernetes: {version: "1.36"}
resource: example.com/gpumem
image: {repository: registry.example.com/gpumem, tag: "0.1.0"}
device_plugin: {managed_by: gpu-operator}
nodes:
  - name: card
    selector: {nvidia.com/gpu.present: "true"}
    gpus: [{model: Tesla T4, count: 1, physical_mib: 15360, reserve_mib: 1360}]
    sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 20}]}}
watchdog: {floor_mib: 1536}
priority_classes:
  - {name: high, value: 2000}
  - {name: low, value: 1000}
tenants:
"""


def tenant(name: str, budget_mib: int, priority: str = "", *, elastic: bool = False, more: str = "") -> str:
    return f"""  - name: {name}
    namespace: {name}
    workload: {{kind: Deployment, name: {name}, container: main}}
    node: card
    apply: patch
    budget_mib: {budget_mib}
    class: realtime
    elastic: {str(elastic).lower()}
    strategy: {{type: Recreate}}
""" + "".join(f"    {line}\n" for line in [f"priority: {priority}" if priority else "", more] if line)


def warnings(*tenants: str) -> list[Problem]:
    return parse_estate(HEAD + "".join(tenants), "e.yaml")[1]


def waiting(budget_mib: int = 1000, priority: str = "low") -> str:
    return tenant("waiting", budget_mib, priority, elastic=True)


def test_both_are_named_with_their_numbers_and_the_repair() -> None:
    (warning,) = warnings(tenant("big", 11500, "high"), tenant("always", 1800, "low"), waiting())
    assert warning.text() == (
        "e.yaml:45:5: warning: tenants[2].priority = low\n"
        "  rule:   elastic waiting may wait for 1000 MiB where 700 are free; when always (1800 MiB, always-on) is "
        "recycled, waiting with priority 1000 against 1000 may take its place, which leaves 1500 MiB for always\n"
        "  repair: give waiting a priority below 1000, or the always-on tenants a higher one "
        "(a foreign workload's is its owner's to give)"
    )


def test_a_higher_priority_of_who_waits_is_as_bad_and_all_who_may_lose_are_named() -> None:
    (warning,) = warnings(tenant("big", 11500, "low"), tenant("always", 1800), waiting(priority="high"))
    assert "when big (11500 MiB, always-on) is recycled" in warning.rule
    assert warning.rule.endswith("; the same holds for always")
    assert "a priority below 0" in warning.repair


def test_a_lower_priority_lets_the_recycled_one_go_first() -> None:
    assert warnings(tenant("big", 11500, "high"), tenant("always", 1800, "high"), waiting()) == []


def test_who_always_fits_beside_the_others_never_waits() -> None:
    assert warnings(tenant("big", 11500, "low"), tenant("always", 1500, "low"), waiting()) == []


def test_who_does_not_even_fit_into_the_place_cannot_take_it() -> None:
    assert warnings(tenant("big", 13000, "high"), tenant("always", 900, "low"), waiting(1001)) == []
    assert len(warnings(tenant("big", 13000, "high"), tenant("always", 900, "low"), waiting(1000))) == 1


def test_another_elastic_tenant_may_be_what_is_waited_for() -> None:
    alone = [tenant("big", 9000, "high"), tenant("always", 2000, "low"), waiting(3000)]
    assert warnings(*alone) == []
    (warning,) = warnings(*alone, tenant("first", 1500, elastic=True))
    assert "waiting may wait for 3000 MiB where 1500 are free" in warning.rule


def test_a_second_pod_of_the_tenant_itself_may_be_what_is_waited_for() -> None:
    whole = [tenant("big", 10000, "high"), tenant("always", 2000, "low")]
    assert warnings(*whole, waiting(2000)) == []
    (warning,) = warnings(*whole, tenant("waiting", 2000, "low", elastic=True, more="replicas: 2"))
    assert "where 0 are free" in warning.rule


PROTECTED = tenant("always", 1800, "low", more="watchdog: {protected: true}")


def test_a_protected_tenant_is_never_recycled_and_may_only_come_too_late() -> None:
    (warning,) = warnings(tenant("big", 11500, "high"), PROTECTED, waiting())
    assert warning.text() == (
        "e.yaml:46:5: warning: tenants[2].priority = low\n"
        "  rule:   where all start at once, elastic waiting may be placed first and hold 1000 MiB or more, of 700 that "
        "the always-on tenants leave; one of always then stays Pending\n"
        "  repair: give waiting a priority below 1000, or the always-on tenants a higher one "
        "(a foreign workload's is its owner's to give; say here what it is)"
    )
    assert warnings(tenant("big", 11500, "high"), tenant("always", 1800, "high"), waiting()) == []


def test_two_that_each_fit_may_come_too_early_together() -> None:
    always = tenant("a", 3000) + tenant("b", 3000) + tenant("c", 2500)
    first, second = tenant("first", 4000, elastic=True), tenant("second", 5500, elastic=True)
    assert warnings(always, first) == warnings(always, second) == []
    (warning,) = warnings(always, first, second)
    assert "elastic first, second may be placed first and hold 9500 MiB or more, of 5500" in warning.rule


def test_who_is_larger_than_what_the_late_ones_and_the_slack_have_comes_after_them() -> None:
    assert warnings(tenant("big", 13000, "high"), PROTECTED.replace("1800", "900"), waiting(1001)) == []
    assert len(warnings(tenant("big", 13000, "high"), PROTECTED.replace("1800", "900"), waiting(1000))) == 1


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_the_shipped_estates_have_no_warning(file: Path) -> None:
    assert load_estate(file)[1] == []


def test_the_demos_sixth_tenant_leaves_the_always_on_ones_their_places() -> None:
    assert parse_estate(EXAMPLE.read_text() + SIXTH_TENANT, "demo")[1] == []
