"""The kubelet's side over real gRPC: a small kubelet made here, and the published interface files."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.adapters import dra_messages as messages
from helpers.adapters.dra_kubelet import DRA_SOCKET, REGISTRATION_SOCKET, KubeletPlugin
from helpers.adapters.folder_lock import folder_locked
from helpers.domain.dra.prepared import ClaimRef, Grant, PreparedClaim
from helpers.domain.errors import CheckFailed, InputError
from lab.dra_agent_process import call
from tests.fakes.dra import UID, FakeDraMetrics
from tests.fakes.telemetry import FakeLog
from tests.fixtures.go_modules import go_module

KUBELET_MODULE = "k8s.io/kubelet@v0.36.1"
GRANTS = tuple(
    Grant(request="gpu", pool="n", device=f"gpu-{n}", uuid=f"GPU-{n}", share_id="s" if n else None, granted_mib=5)
    for n in (0, 1)
)


class FakePreparer:
    """Prepares `good`, refuses everything else, and keeps what it was asked to take back."""

    def __init__(self) -> None:
        self.taken_back: list[ClaimRef] = []

    def prepare(self, refs: Sequence[ClaimRef]) -> dict[str, PreparedClaim | str]:
        made = {ref.uid: PreparedClaim(**vars_of(ref), grants=GRANTS) for ref in refs if ref.name == "good"}
        return {ref.uid: made.get(ref.uid, "no such claim") for ref in refs}

    def unprepare(self, refs: Sequence[ClaimRef]) -> dict[str, str]:
        self.taken_back += refs
        return {ref.uid: "" if ref.name == "good" else "disk full" for ref in refs}


def vars_of(ref: ClaimRef) -> dict[str, str]:
    return {"namespace": ref.namespace, "name": ref.name, "uid": ref.uid}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short: a socket's path has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="dra") as made:
        yield Path(made)


@pytest.fixture
def plugin(folder: Path) -> KubeletPlugin:
    return KubeletPlugin(
        FakePreparer(),
        plugin_dir=folder / "plugin",
        registry_dir=folder / "registry",
        metrics=FakeDraMetrics(),
        log=FakeLog(),
    )


def dra(folder: Path, method: str, *names: str) -> Any:
    make = messages.message_class(messages.DRA_PACKAGE, "Claim")
    claims = [make(namespace="ns", uid=f"{UID}-{name}", name=name) for name in names]
    at = (folder / "plugin" / DRA_SOCKET, messages.DRA_PACKAGE, messages.DRA_SERVICE, method)
    return call(*at, f"{method}Request", f"{method}Response", claims=claims)


def register(folder: Path, method: str, request: str, answer: str, **fields: Any) -> Any:
    path = folder / "registry" / REGISTRATION_SOCKET
    return call(path, messages.REGISTRATION_PACKAGE, messages.REGISTRATION_SERVICE, method, request, answer, **fields)


def test_the_kubelet_learns_where_and_what_the_plugin_is(folder: Path, plugin: KubeletPlugin) -> None:
    with plugin:
        info = register(folder, "GetInfo", "InfoRequest", "PluginInfo")
        register(
            folder,
            "NotifyRegistrationStatus",
            "RegistrationStatus",
            "RegistrationStatusResponse",
            plugin_registered=True,
        )
        assert plugin.registered
    assert (info.type, info.name, list(info.supported_versions)) == ("DRAPlugin", "gpu.gpumem.io", ["v1.DRAPlugin"])
    assert info.endpoint == str(folder / "plugin" / DRA_SOCKET)


def test_a_refused_registration_is_said(folder: Path, plugin: KubeletPlugin) -> None:
    with plugin:
        register(
            folder,
            "NotifyRegistrationStatus",
            "RegistrationStatus",
            "RegistrationStatusResponse",
            plugin_registered=False,
            error="version",
        )
    assert not plugin.registered
    assert ("error", "not_registered_with_kubelet", {"reason": "version"}) in plugin._log.lines  # type: ignore[attr-defined]


def test_a_prepared_claim_is_answered_with_its_devices_and_one_cdi_device(folder: Path, plugin: KubeletPlugin) -> None:
    with plugin:
        answer = dra(folder, "NodePrepareResources", "good", "bad")
    assert set(answer.claims) == {f"{UID}-good", f"{UID}-bad"}
    first, second = answer.claims[f"{UID}-good"].devices
    assert list(first.cdi_device_ids) == [f"gpu.gpumem.io/claim=claim-{UID}-good"]
    assert list(second.cdi_device_ids) == []
    assert (second.pool_name, second.device_name, list(second.request_names)) == ("n", "gpu-1", ["gpu"])
    assert (first.HasField("share_id"), second.HasField("share_id"), second.share_id) == (False, True, "s")
    assert answer.claims[f"{UID}-bad"].error == "no such claim"


def test_taking_back_is_answered_for_each_claim_also_where_there_is_nothing_to_say(
    folder: Path, plugin: KubeletPlugin
) -> None:
    with plugin:
        answer = dra(folder, "NodeUnprepareResources", "good", "bad")
    errors = {uid: one.error for uid, one in answer.claims.items()}
    assert errors == {f"{UID}-good": "", f"{UID}-bad": "disk full"}


def test_the_sockets_of_a_killed_agent_are_replaced_and_go_at_the_end(folder: Path, plugin: KubeletPlugin) -> None:
    sockets = [folder / "plugin" / DRA_SOCKET, folder / "registry" / REGISTRATION_SOCKET]
    for path in sockets:
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(path))
    with plugin:
        assert register(folder, "GetInfo", "InfoRequest", "PluginInfo").name == "gpu.gpumem.io"
        assert dra(folder, "NodePrepareResources", "good").claims
    assert not any(path.exists() for path in sockets), "the kubelet then knows that it is gone"


def test_a_path_that_no_socket_can_have_is_refused_by_name(folder: Path) -> None:
    long = folder / ("x" * 120)
    plugin = KubeletPlugin(
        FakePreparer(), plugin_dir=long, registry_dir=folder, metrics=FakeDraMetrics(), log=FakeLog()
    )
    with pytest.raises(InputError, match="at most 107 bytes"), plugin:
        pass


def test_only_one_agent_has_a_plugin_folder(folder: Path) -> None:
    with (
        folder_locked(folder, wait_seconds=0),
        pytest.raises(CheckFailed, match=r"another agent \(process \d+\) has"),
        folder_locked(folder, wait_seconds=0.2),
    ):
        pass
    with folder_locked(folder, wait_seconds=0):
        pass


_MESSAGE = re.compile(r"^message (\w+) \{(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\s*(?:(repeated|optional) )?(map<string, (\w+)>|\w+) (\w+)\s*=\s*(\d+);", re.MULTILINE)
_SERVICE = re.compile(r"^service (\w+)", re.MULTILINE)
_RPC = re.compile(r"rpc (\w+)\s*\((\w+)\)\s*returns \((\w+)\)")


@pytest.mark.parametrize(
    ("file", "package", "service", "described"),
    [
        ("dra/v1/api.proto", messages.DRA_PACKAGE, messages.DRA_SERVICE, messages.DRA_MESSAGES),
        (
            "pluginregistration/v1/api.proto",
            messages.REGISTRATION_PACKAGE,
            messages.REGISTRATION_SERVICE,
            messages.REGISTRATION_MESSAGES,
        ),
    ],
)
def test_the_messages_are_those_that_kubernetes_publishes(
    tmp_path: Path, file: str, package: str, service: str, described: dict[str, messages.Fields]
) -> None:
    text = (go_module(KUBELET_MODULE, tmp_path) / "pkg/apis" / file).read_text()
    text = re.sub(r"//.*", "", text)
    published = {name: _fields(body) for name, body in _MESSAGE.findall(text)}
    assert published
    assert {name: sorted(fields) for name, fields in described.items()} == published
    assert f"package {package};" in text
    assert [f"{package}.{name}" for name in _SERVICE.findall(text)] == [service]
    for method, request, answer in _RPC.findall(text):
        assert {request, answer} <= published.keys(), method


def _fields(body: str) -> list[tuple[str, int, str]]:
    found = []
    for label, kind, value, name, number in _FIELD.findall(body):
        of = f"map {value}" if value else f"{label} {kind}".strip()
        found.append((name, int(number), of))
    return sorted(found)
