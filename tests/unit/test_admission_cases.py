"""The table of admission cases through the Python rules; tests/lab runs it through both engines of a real server."""

from __future__ import annotations

import copy
import sys

import pytest

from helpers.domain.admission.decide import decide
from helpers.domain.admission.decision import Decision, PodRequest
from helpers.domain.admission.settings import NodeCards
from helpers.rendering import admission_cel
from tests.fixtures.admission_cases import CASES, TABLES, Case, cases, changes, pod_of, settings_of


def outcome(case: Case, decision: Decision) -> str:
    lines = [f"== {case.about}", *changes(case.pod, decision.pod)]
    lines += [f"denied: {text}" for text in decision.denials]
    lines += [f"warning: {text}" for text in decision.warnings]
    return "\n".join(lines if len(lines) > 1 else [*lines, "untouched"])


def decided(case: Case) -> Decision:
    return decide(pod_of(case), case.request(), settings_of(case.settings))


@pytest.mark.parametrize("table", TABLES)
def test_every_case_of_the_table_comes_out_as_written(table: str) -> None:
    found = "\n\n".join(outcome(case, decided(case)) for case in cases() if case.table == table) + "\n"
    assert found == (CASES / f"{table}.expected").read_text()


def test_the_table_is_large_and_says_each_thing_once() -> None:
    assert len(cases()) >= 60
    assert len({(case.about, case.table) for case in cases()}) == len(cases())


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.about)
def test_a_second_time_changes_nothing_and_the_pod_given_is_not_written_to(case: Case) -> None:
    given = pod_of(case)
    once = decide(given, case.request(), settings_of(case.settings))
    assert given == case.pod
    twice = decide(copy.deepcopy(once.pod), case.request(), settings_of(case.settings))
    assert twice.pod == once.pod
    assert twice.denials == once.denials
    assert twice.warnings == once.warnings


@pytest.mark.parametrize(("cards_count", "warned"), [(1, False), (2, True)])
def test_the_first_card_is_worth_a_word_only_where_a_node_has_a_second_one(cards_count: int, warned: bool) -> None:
    nodes = (NodeCards(selector={"gpu": "true"}, cards_count=cards_count),)
    settings = settings_of("warn").model_copy(update={"nodes": nodes})
    pod = {"metadata": {"annotations": {"gpu-directories": "nvidia"}}, "spec": {"containers": [{"name": "a"}]}}
    said = "mounts the first card alone"
    assert any(said in text for text in decide(pod, PodRequest("ai"), settings).warnings) == warned
    assert any(said in rule["messageExpression"] for rule in admission_cel.warnings(settings)) == warned


if __name__ == "__main__":
    # Writes the expectations; every line of the difference is then to be read.
    for name in TABLES:
        written = "\n\n".join(outcome(case, decided(case)) for case in cases() if case.table == name) + "\n"
        (CASES / f"{name}.expected").write_text(written)
    sys.exit()
