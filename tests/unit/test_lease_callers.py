"""Who callers are and what they may: by the API server, or by a file of tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.adapters.kubernetes_callers import ALLOWED_SECONDS, DENIED_SECONDS, KubernetesCallers
from helpers.adapters.token_file import TokenFile
from helpers.domain.errors import ClusterError, InputError
from helpers.domain.leases.book import Holder
from tests.fakes.cluster import FakeCluster
from tests.fakes.outside import FakeClock

POD = {"authentication.kubernetes.io/pod-name": ["t-0"], "authentication.kubernetes.io/pod-uid": ["u-0"]}
USER = {"username": "system:serviceaccount:train:default", "uid": "1", "groups": ["system:authenticated"], "extra": POD}


class Reviews(FakeCluster):
    """An API server that only reviews."""

    def __init__(self, **status: Any) -> None:
        super().__init__()
        self.status: dict[str, Any] = status
        self.specs: list[dict[str, Any]] = []
        self.away = False

    def create(self, manifest: Any, *, field_manager: str, dry_run: bool = False) -> dict[str, Any]:
        if self.away:
            raise ClusterError("the Kubernetes API does not answer")
        self.specs.append(dict(manifest["spec"]))
        return {**manifest, "status": self.status}


def test_a_pods_token_gives_its_pod() -> None:
    callers = KubernetesCallers(Reviews(authenticated=True, user=USER), FakeClock())
    caller = callers.caller("a-token")
    assert caller is not None
    assert caller.holder == Holder(user=str(USER["username"]), namespace="train", pod="t-0", pod_uid="u-0")
    assert caller.groups == ("system:authenticated",)


def test_a_token_that_is_nobodys_is_nobody() -> None:
    assert KubernetesCallers(Reviews(authenticated=False, user={}), FakeClock()).caller("a-token") is None
    assert KubernetesCallers(Reviews(error="cannot be checked"), FakeClock()).caller("a-token") is None


def test_a_token_for_another_audience_is_nobodys() -> None:
    ours, others = Reviews(authenticated=True, user=USER, audiences=["gpumem"]), Reviews(authenticated=True, user=USER)
    assert KubernetesCallers(ours, FakeClock(), audience="gpumem").caller("a-token") is not None
    assert ours.specs == [{"token": "a-token", "audiences": ["gpumem"]}]
    assert KubernetesCallers(others, FakeClock(), audience="gpumem").caller("a-token") is None


def test_rights_are_asked_with_everything_that_is_known_of_the_caller() -> None:
    cluster = Reviews(authenticated=True, user=USER, allowed=True)
    callers = KubernetesCallers(cluster, FakeClock())
    caller = callers.caller("a-token")
    assert caller is not None
    assert callers.may(caller, "create", "train", "trainer")
    spec = cluster.specs[1]
    assert spec.pop("resourceAttributes") == {
        "namespace": "train", "verb": "create", "group": "gpumem.io", "resource": "leases", "name": "trainer",
    }  # fmt: skip
    assert spec == {"user": USER["username"], "uid": "1", "groups": USER["groups"], "extra": POD}


@pytest.mark.parametrize("status", [{}, {"allowed": False}, {"allowed": True, "denied": True}])
def test_whatever_is_no_clear_yes_is_a_no(status: dict[str, Any]) -> None:
    cluster = Reviews(authenticated=True, user=USER)
    callers = KubernetesCallers(cluster, FakeClock())
    caller = callers.caller("a-token")
    assert caller is not None
    cluster.status = status
    assert not callers.may(caller, "create", "train", "trainer")


def test_answers_are_kept_for_a_while_a_no_shorter_than_a_yes_and_an_error_not_at_all() -> None:
    clock, cluster = FakeClock(), Reviews(authenticated=False, user={})
    callers = KubernetesCallers(cluster, clock)
    cluster.away = True
    with pytest.raises(ClusterError):
        callers.caller("a-token")
    cluster.away = False
    assert callers.caller("a-token") is None
    cluster.status = {"authenticated": True, "user": USER}
    assert callers.caller("a-token") is None
    clock.advance(DENIED_SECONDS)
    assert callers.caller("a-token") is not None
    cluster.away = True
    clock.advance(ALLOWED_SECONDS - 0.1)
    assert callers.caller("a-token") is not None
    clock.advance(0.2)
    with pytest.raises(ClusterError):
        callers.caller("a-token")


def test_one_callers_right_is_not_anothers() -> None:
    cluster = Reviews(authenticated=True, user=USER, allowed=True)
    callers = KubernetesCallers(cluster, FakeClock())
    first = callers.caller("a-token")
    cluster.status["user"] = USER | {"groups": []}
    second = callers.caller("another-token")
    assert first is not None
    assert second is not None
    assert callers.may(first, "create", "train", "trainer")
    cluster.status["allowed"] = False
    assert not callers.may(second, "create", "train", "trainer")


def token_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_of_tokens_says_whose_each_is_and_for_which_tenants(tmp_path: Path) -> None:
    text = "# desk\n0123456789abcdef anna trainer,plex  # both\n\nfedcba9876543210 ben trainer\n"
    callers = TokenFile(token_file(tmp_path, text))
    anna, ben = callers.caller("0123456789abcdef"), callers.caller("fedcba9876543210")
    assert anna is not None
    assert ben is not None
    assert callers.may(anna, "create", "media", "plex")
    assert not callers.may(ben, "create", "media", "plex")
    assert callers.caller("0123456789abcdeF") is None
    assert callers.caller("") is None


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("0123456789abcdef anna\n", 0o600, "tokens:1: 2 words; a line is TOKEN USER TENANT"),
        ("short anna trainer\n", 0o600, "tokens:1: the token of anna has 5 characters, and at least 16"),
        ("0123456789abcdef a t\n0123456789abcdef b t\n", 0o600, "tokens:2: b or its token stands there twice"),
        ("0123456789abcdef anna trainer\n", 0o640, "chmod 600"),
    ],
)
def test_a_file_that_is_not_right_is_refused(tmp_path: Path, text: str, mode: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TokenFile(token_file(tmp_path, text, mode))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--lease-tokens"):
        TokenFile(tmp_path / "none")
