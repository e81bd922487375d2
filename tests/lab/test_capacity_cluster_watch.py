"""The adapter against a real API server: watches over the ends of their windows, pages, conflicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from helpers.adapters.kubernetes_ import connect, watching
from helpers.domain.errors import Conflict
from helpers.ports.cluster import ObjectRef
from lab.cluster import Lab

pytestmark = pytest.mark.lab

NAMESPACE = "watch-test"
MAPS = ObjectRef("v1", "ConfigMap", namespace=NAMESPACE)


@pytest.fixture(scope="module")
def namespace(lab: Lab) -> Iterator[Lab]:
    cluster = connect(lab.kubeconfig)
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, field_manager="test")
    yield lab
    lab.api().delete(f"/api/v1/namespaces/{NAMESPACE}")


def test_nothing_is_lost_or_told_twice_over_the_ends_of_its_windows(
    namespace: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "WINDOW_SECONDS", 1)
    cluster, writer = connect(namespace.kubeconfig), connect(namespace.kubeconfig)
    seen: Counter[str] = Counter()
    wanted, events, asked = 40, 0, 0

    def write_now_and_then() -> bool:
        # Asked ten times a second while it is quiet: four windows for forty writes.
        nonlocal asked
        asked += 1
        if asked <= wanted:
            manifest = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": f"map-{asked}", "namespace": NAMESPACE},
            }
            writer.create(manifest, field_manager="test")
        return events >= wanted and asked > wanted + 30

    for event in cluster.watch(MAPS, label_selector="", stop=write_now_and_then):
        if event.object["metadata"]["name"].startswith("map-"):
            seen[event.object["metadata"]["name"]] += 1
            events += 1
    assert seen == Counter({f"map-{index}": 1 for index in range(1, wanted + 1)})


def test_a_list_of_several_pages_is_whole(namespace: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.adapters.kubernetes_.cluster.PAGE_OBJECTS", 3)
    cluster = connect(namespace.kubeconfig)
    for index in range(10):
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"page-{index}", "namespace": NAMESPACE, "labels": {"of": "pages"}},
        }
        cluster.apply(manifest, field_manager="test")
    found = cluster.list(MAPS, label_selector="of=pages")
    assert [item["metadata"]["name"] for item in found] == [f"page-{index}" for index in range(10)]
    assert {item["kind"] for item in found} == {"ConfigMap"}


def test_a_create_of_what_is_there_and_a_stale_patch_are_conflicts(namespace: Lab) -> None:
    cluster = connect(namespace.kubeconfig)
    one = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one", "namespace": NAMESPACE}}
    made = cluster.create(one, field_manager="test")
    with pytest.raises(Conflict, match=r"create ConfigMap watch-test/one .*already exists"):
        cluster.create(one, field_manager="test")
    ref = ObjectRef("v1", "ConfigMap", "one", NAMESPACE)
    read = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"]}}
    cluster.merge_patch(ref, {**read, "data": {"a": "1"}}, field_manager="test")
    with pytest.raises(Conflict, match="the object has been modified"):
        cluster.merge_patch(ref, {**read, "data": {"a": "2"}}, field_manager="test")
