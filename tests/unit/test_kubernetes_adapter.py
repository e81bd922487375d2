"""The Kubernetes adapter: what it sends, how it fails, and how a watch goes on."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from helpers.adapters.kubernetes_ import KubernetesCluster, connect
from helpers.domain.errors import ClusterError, Conflict, ExitCode, Forbidden, InputError, NotFound, Rejected
from helpers.ports.cluster import ObjectRef, WatchEvent
from lab.plain_kubeconfig import write_kubeconfig
from tests.fakes.api_server import ScriptedApi, scripted_api
from tests.fakes.outside import FakeLog

NODES = ObjectRef("v1", "Node")
NODE = ObjectRef("v1", "Node", "gpu-0")


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    with scripted_api() as script:
        yield script


@pytest.fixture
def cluster(api: ScriptedApi, tmp_path: Path) -> KubernetesCluster:
    return connect(api.kubeconfig(tmp_path))


@pytest.fixture(autouse=True)
def _no_cluster_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))


def refused(api: ScriptedApi, status: int, message: str) -> None:
    api.answers["/api/v1/nodes/gpu-0"].append((status, {"kind": "Status", "message": message}))


@pytest.mark.parametrize(
    ("status", "kind", "exit_code"),
    [
        (400, Rejected, ExitCode.BAD_INPUT),
        (401, ClusterError, ExitCode.DEPENDENCY),
        (403, Forbidden, ExitCode.CHECK_FAILED),
        (409, Conflict, ExitCode.CHECK_FAILED),
        (422, Rejected, ExitCode.BAD_INPUT),
        (500, ClusterError, ExitCode.DEPENDENCY),
        (503, ClusterError, ExitCode.DEPENDENCY),
    ],
)
def test_a_refusal_keeps_the_servers_words_and_names_verb_and_object(
    api: ScriptedApi, cluster: KubernetesCluster, status: int, kind: type[ClusterError], exit_code: ExitCode
) -> None:
    refused(api, status, "because of that")
    with pytest.raises(ClusterError) as error:
        cluster.get(NODE)
    assert type(error.value) is kind
    assert error.value.exit_code is exit_code
    assert "get Node gpu-0" in str(error.value)
    assert "because of that" in str(error.value)


def test_an_object_that_is_not_there_is_none(api: ScriptedApi, cluster: KubernetesCluster) -> None:
    refused(api, 404, 'nodes "gpu-0" not found')
    assert cluster.get(NODE) is None


def test_writing_an_object_that_is_not_there_is_an_error(api: ScriptedApi, cluster: KubernetesCluster) -> None:
    refused(api, 404, 'nodes "gpu-0" not found')
    with pytest.raises(NotFound, match="patch Node gpu-0"):
        cluster.merge_patch(NODE, {}, field_manager="me")


def test_a_page_of_a_proxy_is_shown_not_parsed(api: ScriptedApi, cluster: KubernetesCluster) -> None:
    api.answers["/api/v1/nodes/gpu-0"].append((502, b"<html>bad gateway</html>"))
    with pytest.raises(ClusterError, match="502: <html>bad gateway</html>"):
        cluster.get(NODE)


def test_an_apply_is_a_patch_of_its_own_type_with_its_manager(api: ScriptedApi, cluster: KubernetesCluster) -> None:
    api.answers["/api/v1/nodes/gpu-0/status"].append((200, {}))
    manifest = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-0"}, "status": {}}
    cluster.apply(manifest, field_manager="me", force=True, subresource="status", dry_run=True)
    (asked,) = api.of("/api/v1/nodes/gpu-0/status")
    assert (asked.method, asked.content_type, asked.body) == ("PATCH", "application/apply-patch+yaml", manifest)
    assert asked.query == {"fieldManager": "me", "force": "true", "fieldValidation": "Strict", "dryRun": "All"}


def test_the_paths_are_asked_for_once(api: ScriptedApi, cluster: KubernetesCluster) -> None:
    api.answers["/api/v1/nodes/gpu-0"].append((200, {}))
    cluster.get(NODE)
    cluster.get(NODE)
    assert len(api.of("/api/v1")) == 1


def test_a_kind_that_came_later_is_found(api: ScriptedApi, cluster: KubernetesCluster) -> None:
    with pytest.raises(NotFound, match="serves v1 without a kind Gadget"):
        cluster.get(ObjectRef("v1", "Gadget", "one"))
    api.answers["/api/v1"].append((200, {"resources": [{"name": "gadgets", "kind": "Gadget", "namespaced": False}]}))
    api.answers["/api/v1"].popleft()
    api.answers["/api/v1/gadgets/one"].append((200, {"kind": "Gadget"}))
    assert cluster.get(ObjectRef("v1", "Gadget", "one")) == {"kind": "Gadget"}


def test_one_object_of_a_namespaced_kind_needs_its_namespace(cluster: KubernetesCluster) -> None:
    with pytest.raises(InputError, match="a Pod lives in a namespace, and none is given"):
        cluster.get(ObjectRef("v1", "Pod", "lonely"))


def listed(names: list[str], version: str = "7", more: str = "") -> tuple[int, dict[str, Any]]:
    metadata = {"resourceVersion": version} | ({"continue": more} if more else {})
    return 200, {"metadata": metadata, "items": [{"metadata": {"name": name}} for name in names]}


def test_a_list_is_read_page_by_page_and_filled_with_its_type(api: ScriptedApi, cluster: KubernetesCluster) -> None:
    api.answers["/api/v1/nodes"].extend([listed(["a"], more="next"), listed(["b"])])
    assert [(item["kind"], item["metadata"]["name"]) for item in cluster.list(NODES)] == [("Node", "a"), ("Node", "b")]
    assert api.of("/api/v1/nodes")[1].query["continue"] == "next"


def test_a_list_whose_snapshot_ran_out_is_read_again_whole(api: ScriptedApi, cluster: KubernetesCluster) -> None:
    expired = (410, {"message": "The provided continue parameter is too old"})
    api.answers["/api/v1/nodes"].extend([listed(["a"], more="next"), expired, listed(["a", "b"])])
    assert [item["metadata"]["name"] for item in cluster.list(NODES)] == ["a", "b"]
    assert api.of("/api/v1/nodes")[2].query["limit"] == "0"


@pytest.mark.parametrize(("minor", "version"), [("36", "1.36"), ("36+", "1.36"), ("36-eks-1", "1.36")])
def test_the_version_is_major_and_minor(api: ScriptedApi, cluster: KubernetesCluster, minor: str, version: str) -> None:
    api.answers["/version"].append((200, {"major": "1", "minor": minor}))
    assert cluster.server_version() == version


def test_an_unreachable_api_is_an_error_with_its_address_not_a_long_wait(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused, and nobody else can take it
        server = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ClusterError) as error:
            connect(write_kubeconfig(tmp_path, server)).get(NODE)
    assert error.value.exit_code is ExitCode.DEPENDENCY
    assert f"the Kubernetes API at {server} does not answer" in str(error.value)
    assert "Connection refused" in str(error.value)


def test_a_kubeconfig_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="kubeconfig /nowhere/config: no such file"):
        connect(Path("/nowhere/config"))


def test_without_any_configuration_the_users_own_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nobody/\.kube/config: no such file"):
        connect()


def test_the_variable_is_used_where_no_file_is_given(
    api: ScriptedApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", f"/nowhere:{api.kubeconfig(tmp_path)}")
    assert connect().address == f"http://127.0.0.1:{api.port}"


def test_a_pod_without_a_token_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    with pytest.raises(InputError, match="its ServiceAccount cannot be used"):
        connect()


@pytest.mark.parametrize("text", ["", "[]", "word", "{a: [", "{clusters: 3}"])
def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "odd").write_text(text)
    with pytest.raises(InputError, match=f"kubeconfig {tmp_path}/odd cannot be used"):
        connect(tmp_path / "odd")


def test_an_unknown_context_is_named(api: ScriptedApi, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="context 'other' of kubeconfig"):
        connect(api.kubeconfig(tmp_path), "other")


# The watch.


def event(event_type: str, name: str, version: str) -> dict[str, Any]:
    metadata = {"name": name, "resourceVersion": version}
    return {"type": event_type, "object": {"kind": "Node", "metadata": metadata}}


def watching(*events: dict[str, Any] | bytes, then: Callable[[], None] = lambda: None) -> Callable[[Any], None]:
    def answer(send: Callable[[Any], None]) -> None:
        for each in events:
            send(each)
        then()

    return answer


def wait_for(quiet: threading.Event) -> None:
    quiet.wait(30)  # a bound, should the test fail


def follow(cluster: KubernetesCluster, count: int) -> list[tuple[str, str]]:
    """The first `count` events of a watch on nodes."""
    return [(each.type, each.object["metadata"]["name"]) for each in take(cluster, count)]


def take(cluster: KubernetesCluster, count: int) -> list[WatchEvent]:
    """The same, whole."""
    seen: list[WatchEvent] = []
    seen.extend(each for each in cluster.watch(NODES, stop=lambda: len(seen) >= count))
    return seen


def test_a_watch_begins_with_what_is_there_and_goes_on(api: ScriptedApi, cluster: KubernetesCluster) -> None:
    changes = watching(event("ADDED", "b", "8"), event("BOOKMARK", "", "9"), event("DELETED", "b", "10"))
    api.answers["/api/v1/nodes"].extend([listed(["a"]), changes])
    assert follow(cluster, 3) == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "b")]
    assert api.of("/api/v1/nodes")[1].query["resourceVersion"] == "7"


def test_a_watch_that_ends_goes_on_where_it_was(api: ScriptedApi, cluster: KubernetesCluster) -> None:
    api.answers["/api/v1/nodes"].extend(
        [listed(["a"]), watching(event("BOOKMARK", "", "12")), watching(event("MODIFIED", "a", "13"))]
    )
    assert follow(cluster, 2) == [("ADDED", "a"), ("MODIFIED", "a")]
    assert [asked.query.get("resourceVersion") for asked in api.of("/api/v1/nodes")] == [None, "7", "12"]


def test_a_watch_that_is_cut_in_the_middle_of_a_line_goes_on(api: ScriptedApi, tmp_path: Path) -> None:
    log = FakeLog()
    cluster = connect(api.kubeconfig(tmp_path), log=log)
    line = json.dumps(event("MODIFIED", "a", "12")).encode()
    cut = watching(event("BOOKMARK", "", "11"), line[:40])
    api.answers["/api/v1/nodes"].extend([listed(["a"]), cut, watching(event("MODIFIED", "a", "13"))])
    assert follow(cluster, 2) == [("ADDED", "a"), ("MODIFIED", "a")]
    assert [asked.query.get("resourceVersion") for asked in api.of("/api/v1/nodes")] == [None, "7", "11"]
    assert len(log.of("watch_interrupted")) == 1


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOTCONN])
def test_a_watch_whose_connection_is_closed_at_this_moment_goes_on(
    api: ScriptedApi, cluster: KubernetesCluster, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The reader has seen the end, and the socket is gone before it is shut down."""

    def too_late(_: urllib3.HTTPResponse) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(urllib3.HTTPResponse, "shutdown", too_late)
    api.answers["/api/v1/nodes"].extend([listed(["a"]), watching(), watching(event("MODIFIED", "a", "13"))])
    assert follow(cluster, 2) == [("ADDED", "a"), ("MODIFIED", "a")]


@pytest.mark.parametrize("as_event", [True, False])
def test_a_version_that_is_gone_is_listed_again_and_the_vanished_are_said(
    api: ScriptedApi, cluster: KubernetesCluster, as_event: bool
) -> None:
    words = {"code": 410, "message": "too old resource version"}
    gone = watching({"type": "ERROR", "object": words}) if as_event else (410, words)
    later = watching(event("MODIFIED", "c", "21"))
    api.answers["/api/v1/nodes"].extend([listed(["a", "b"]), gone, listed(["b", "c"], "20"), later])
    assert follow(cluster, 6) == [
        ("ADDED", "a"),
        ("ADDED", "b"),
        ("DELETED", "a"),
        ("ADDED", "b"),
        ("ADDED", "c"),
        ("MODIFIED", "c"),
    ]


def test_an_api_that_restarts_is_waited_for_and_said(api: ScriptedApi, tmp_path: Path) -> None:
    log = FakeLog()
    cluster = connect(api.kubeconfig(tmp_path), log=log)
    away = (503, {"message": "apiserver is shutting down"})
    api.answers["/api/v1/nodes"].extend([away, listed(["a"]), away, watching(event("MODIFIED", "a", "8"))])
    assert follow(cluster, 2) == [("ADDED", "a"), ("MODIFIED", "a")]
    assert len(log.of("watch_interrupted")) == 2


def test_a_missing_permission_ends_the_watch(api: ScriptedApi, cluster: KubernetesCluster) -> None:
    api.answers["/api/v1/nodes"].append((403, {"message": 'cannot watch resource "nodes"'}))
    with pytest.raises(Forbidden, match="cannot watch resource"):
        follow(cluster, 1)


def test_a_quiet_watch_stops_when_told_to_and_leaves_no_thread(api: ScriptedApi, cluster: KubernetesCluster) -> None:
    quiet = threading.Event()
    api.answers["/api/v1/nodes"].extend([listed([]), watching(then=lambda: wait_for(quiet))])
    asked_to_stop = threading.Event()
    threading.Timer(0.5, asked_to_stop.set).start()
    try:
        assert list(cluster.watch(NODES, stop=asked_to_stop.is_set)) == []
        assert not [thread for thread in threading.enumerate() if thread.name == "watch-reader"]
    finally:
        quiet.set()


def test_an_object_larger_than_a_packet_arrives_whole(api: ScriptedApi, cluster: KubernetesCluster) -> None:
    large = event("MODIFIED", "a", "8")
    large["object"]["metadata"]["annotations"] = {"text": "x" * 300_000}
    api.answers["/api/v1/nodes"].extend([listed([]), watching(large)])
    (seen,) = take(cluster, 1)
    assert json.dumps(seen.object) == json.dumps(large["object"])
