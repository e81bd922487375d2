"""A patch is right whatever changed (held against another implementation), and reads as what happened."""

from __future__ import annotations

import json
from typing import Any

import jsonpatch
from hypothesis import given
from hypothesis import strategies as st

from helpers.domain.admission.json_patch import json_patch

KEYS = st.sampled_from(["a", "b", "a/b", "m~n", "", "0"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "x", "1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, VALUES)
def test_applied_by_somebody_else_a_patch_gives_the_second_value(before: Any, after: Any) -> None:
    operations = json_patch({"in": before}, {"in": after})
    patched = jsonpatch.apply_patch({"in": before}, operations)
    assert json.dumps(patched, sort_keys=True) == json.dumps({"in": after}, sort_keys=True)
    assert {operation["op"] for operation in operations} <= {"add", "remove", "replace"}


@given(VALUES)
def test_of_equal_values_there_is_no_patch(value: Any) -> None:
    assert json_patch(value, json.loads(json.dumps(value))) == []


def test_true_and_one_are_two_things() -> None:
    assert json_patch({"a": 1}, {"a": True}) == [{"op": "replace", "path": "/a", "value": True}]


def test_what_was_appended_reads_as_appended() -> None:
    before = {"volumes": [{"name": "data"}], "containers": [{"name": "main", "image": "x"}]}
    after = {
        "volumes": [{"name": "data"}, {"name": "nvidia0"}],
        "containers": [{"name": "main", "image": "x", "volumeMounts": [{"name": "nvidia0"}]}],
        "runtimeClassName": "nvidia",
    }
    assert json_patch(before, after, "/spec") == [
        {"op": "add", "path": "/spec/volumes/1", "value": {"name": "nvidia0"}},
        {"op": "add", "path": "/spec/containers/0/volumeMounts", "value": [{"name": "nvidia0"}]},
        {"op": "add", "path": "/spec/runtimeClassName", "value": "nvidia"},
    ]


def test_what_was_put_in_front_leaves_the_rest_alone() -> None:
    before = {"initContainers": [{"name": "a"}, {"name": "b"}]}
    after = {"initContainers": [{"name": "first"}, {"name": "a"}, {"name": "b"}]}
    assert json_patch(before, after) == [{"op": "add", "path": "/initContainers/0", "value": {"name": "first"}}]


def test_a_key_with_a_slash_is_escaped() -> None:
    operations = json_patch({"annotations": {}}, {"annotations": {"gpumem.io/cap": "x"}})
    assert operations == [{"op": "add", "path": "/annotations/gpumem.io~1cap", "value": "x"}]
