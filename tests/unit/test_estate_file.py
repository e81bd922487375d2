"""Reading an estate file: all problems at once, warnings apart, nothing dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.domain.errors import EstateInvalid, ExitCode, InputError, Problem
from helpers.rendering.estate_file import load_estate, parse_estate

HEAD = """\
version: 1
kubernetes: {version: "1.36"}
resource: example.com/gpumem
image: {repository: registry.example.com/gpumem, tag: "0.1.0"}
device_plugin: {managed_by: gpu-operator}
watchdog: {floor_mib: 1536}
"""
NODE = """\
  - name: t4-node
    selector: {nvidia.com/gpu.present: "true"}
    gpus: [{model: Tesla T4, count: 1, physical_mib: 15360, reserve_mib: 1360}]
    sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 8}]}}
"""


def tenant(name: str, budget_mib: object, *more: str) -> str:
    lines = [
        f"name: {name}",
        "namespace: ai",
        f"workload: {{kind: Deployment, name: {name}, container: main}}",
        "node: t4-node",
        "apply: patch",
        f"budget_mib: {budget_mib}",
        "class: batch",
        *more,
    ]
    return "  - " + "\n    ".join(lines) + "\n"


def estate_text(*tenants: str, head: str = HEAD, nodes: str = NODE, more: str = "") -> str:
    return head + "nodes:\n" + nodes + "tenants:\n" + "".join(tenants) + more


def problems_of(text: str, *, allow_overcommit: bool = False) -> tuple[Problem, ...]:
    with pytest.raises(EstateInvalid) as raised:
        parse_estate(text, "gpumem.yaml", allow_overcommit=allow_overcommit)
    return raised.value.problems


def paths_of(text: str) -> list[str]:
    return [problem.path for problem in problems_of(text)]


RECREATE = "strategy: {type: Recreate}"


def test_a_file_that_is_not_there_is_bad_input_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.yaml: cannot be read: No such file.*-f FILE") as raised:
        load_estate(tmp_path / "nowhere.yaml")
    assert raised.value.exit_code == ExitCode.BAD_INPUT


def test_a_file_that_is_no_text_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read"):
        load_estate(tmp_path / "e.yaml")


def test_problems_name_the_file_as_it_was_given(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text("version: 1\n", encoding="utf-8")
    with pytest.raises(EstateInvalid) as raised:
        load_estate(file)
    assert str(raised.value).startswith(f"{file}:1:1: error: ")
    assert raised.value.exit_code == ExitCode.BAD_INPUT


def test_every_tenant_of_the_file_is_in_the_estate() -> None:
    tenants = [tenant(f"t{index}", 1000, RECREATE) for index in range(8)]
    estate, warnings = parse_estate(estate_text(*tenants), "e")
    assert [item.name for item in estate.tenants] == [f"t{index}" for index in range(8)]
    assert warnings == []


def test_round_thousands_are_read_like_any_other_budget() -> None:
    estate, _ = parse_estate(estate_text(tenant("a", 5000, RECREATE), tenant("b", 1800, RECREATE)), "e")
    assert [item.budget_mib for item in estate.tenants] == [5000, 1800]


def test_a_foreign_workload_that_cannot_roll_is_a_warning_and_the_estate_stands() -> None:
    estate, (warning,) = parse_estate(estate_text(tenant("full", 14000)), "gpumem.yaml")
    assert estate.tenant("full") is not None
    assert warning.severity == "warning"
    assert warning.text() == (
        "gpumem.yaml:13:5: warning: tenants[0].strategy = full\n"
        "  rule:   a rolling update starts 1 more pod(s) of 14000 MiB before an old one stops, "
        "and no card of t4-node has room for one: the update would hang\n"
        "  repair: ask its owner for Recreate or maxSurge: 0 and declare it under strategy"
    )


def test_warnings_are_told_beside_errors_and_are_not_counted_as_such() -> None:
    with pytest.raises(EstateInvalid) as raised:
        parse_estate(estate_text(tenant("full", 14000), more="quota: []\n"), "e")
    assert [problem.severity for problem in raised.value.problems] == ["warning", "error"]
    assert str(raised.value).endswith("\n1 error")


def test_review_may_read_an_over_committed_estate() -> None:
    text = estate_text(tenant("a", 9000, RECREATE), tenant("b", 8000, RECREATE))
    assert paths_of(text) == ["nodes[0]"]
    estate, warnings = parse_estate(text, "e", allow_overcommit=True)
    assert [item.name for item in estate.tenants] == ["a", "b"]
    assert warnings == []


def test_allowing_over_commit_allows_nothing_else() -> None:
    text = estate_text(tenant("a", 14001, RECREATE), tenant("b", 8000, RECREATE, "priority: nobody"))
    found = [problem.path for problem in problems_of(text, allow_overcommit=True)]
    assert found == ["tenants[0].budget_mib", "tenants[1].priority"]


class TestABrokenPartDoesNotHideTheRest:
    def test_a_broken_tenant(self) -> None:
        text = estate_text(tenant("x", '"1"'), tenant("a", 9000, RECREATE), tenant("b", 8000, RECREATE))
        assert paths_of(text) == ["nodes[0]", "tenants[0].budget_mib"]

    def test_its_neighbours_keep_their_own_index(self) -> None:
        text = estate_text(tenant("x", '"1"'), tenant("a", 1, RECREATE), tenant("a", 1, RECREATE, "priority: p"))
        found = problems_of(text)
        assert [problem.path for problem in found] == [
            "tenants[0].budget_mib",
            "tenants[2].name",
            "tenants[2].workload",
            "tenants[2].priority",
        ]
        assert "tenants[1] has it too" in found[1].rule

    def test_a_broken_tenant_leaves_its_quota_in_peace(self) -> None:
        text = estate_text(tenant("x", '"1"'), more="quotas: [{namespace: ai, budget_mib: 1}]\n")
        assert paths_of(text) == ["tenants[0].budget_mib"]

    def test_a_broken_node_takes_its_tenants_along(self) -> None:
        other = NODE.replace("t4-node", "other").replace("nvidia.com/gpu.present", "other").replace("15360", "much")
        text = estate_text(
            tenant("a", 15000, RECREATE), tenant("b", 1, RECREATE).replace("t4-node", "other"), nodes=other + NODE
        )
        assert paths_of(text) == ["nodes[0].gpus[0].physical_mib", "nodes[1]", "tenants[0].budget_mib"]

    def test_a_broken_priority_class_leaves_those_who_name_it_in_peace(self) -> None:
        text = estate_text(
            tenant("a", 15000, RECREATE, "priority: p"), more="priority_classes: [{name: p, value: high}]\n"
        )
        assert paths_of(text) == ["nodes[0]", "tenants[0].budget_mib", "priority_classes[0].value"]

    def test_a_broken_head(self) -> None:
        head = HEAD.replace('"1.36"', "1.36").replace("watchdog: {floor_mib: 1536}\n", "")
        text = estate_text(tenant("a", 15000, RECREATE), head=head)
        assert paths_of(text) == ["watchdog", "kubernetes.version", "nodes[0]", "tenants[0].budget_mib"]

    @pytest.mark.parametrize("nodes", ["  - [a]\n", "  - {name: 5}\n", "  []\n"])
    def test_without_a_readable_node_only_the_form_is_judged(self, nodes: str) -> None:
        assert all(path.startswith("nodes") for path in paths_of(estate_text(tenant("a", 15000), nodes=nodes)))

    def test_tenants_that_are_no_list(self) -> None:
        assert paths_of(HEAD + "nodes:\n" + NODE + "tenants: 5\n") == ["tenants"]

    def test_an_unknown_key_everywhere(self) -> None:
        text = estate_text(tenant("a", 15000, RECREATE, "colour: red"), more="colour: red\n")
        assert paths_of(text) == ["nodes[0]", "tenants[0].budget_mib", "tenants[0].colour", "colour"]


def test_a_path_with_dots_in_a_key_has_its_own_place() -> None:
    (problem,) = problems_of(estate_text(tenant("a", 1, RECREATE)).replace('"true"', '"!"'))
    assert problem.path == 'nodes[0].selector["nvidia.com/gpu.present"]'
    assert (problem.line, problem.column) == (9, 16)


def test_a_long_value_is_shown_cut() -> None:
    text = estate_text(tenant("a", 1, RECREATE)).replace("registry.example.com/gpumem", "X" * 200)
    (problem,) = problems_of(text)
    assert len(problem.value) == 60
    assert problem.value.endswith("…")


EXAMPLE = Path(__file__).parents[2] / "gpumem.yaml"
ODD_VALUES: list[Any] = [None, [], {}, "x", -1, True, 1.5, [None], {"x": {}}, [[]], 10**30, "\u00e4"]


def every_place(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    entries: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        entries = list(value.items())
    elif isinstance(value, list):
        entries = list(enumerate(value))
    for key, inner in entries:
        yield (*path, key)
        yield from every_place(inner, (*path, key))


def with_value_at(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    if not path:
        return odd
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[path[0]] = with_value_at(value[path[0]], path[1:], odd)
    return copy


def test_no_odd_value_at_any_place_breaks_the_reader() -> None:
    """Whatever stands where: the estate is read, or refused with places; never a traceback."""
    example = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    problems: list[Problem] = []
    # Every fifth place, another value each time: all values at all places take half a minute.
    for index, path in enumerate(list(every_place(example))[::5]):
        text = yaml.safe_dump(with_value_at(example, path, ODD_VALUES[index % len(ODD_VALUES)]), allow_unicode=True)
        try:
            parse_estate(text, "e")
        except EstateInvalid as refused:
            problems += refused.problems
    assert len(problems) > 25
    assert all(problem.line and problem.rule and problem.repair for problem in problems)
