"""The leases over real HTTP: codes, words, and who gets in."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers.adapters.asgi_server import MOST_BODY_BYTES, asgi_served
from helpers.adapters.certificates import X509Certificates
from helpers.adapters.metrics import ListenAddress
from helpers.apps.coordinator.lease_api import lease_api
from helpers.domain.errors import InputError
from tests.fakes.lease_ports import FakeCallers, LeaseBench
from tests.fakes.leases import card

ASKED = {"tenant": "trainer", "mib": 2000, "lane": "day", "max_wait_seconds": 60, "request_id": "run-0001"}

TRAINER = "token-of-trainer"


class Scene:
    def __init__(self, bench: LeaseBench, callers: FakeCallers, port: int) -> None:
        self.bench, self.callers, self.port = bench, callers, port
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)

    def send(self, method: str, path: str, body: Any = None, token: str = TRAINER) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.client.request(method, path, json=body, headers=headers)


@pytest.fixture
def scene() -> Iterator[Scene]:
    bench, callers = LeaseBench(), FakeCallers()
    api = lease_api(bench.keeper, callers, bench.settings, bench.log)
    with asgi_served(api, ListenAddress(), name="leases", option="--lease-address") as port:
        one = Scene(bench, callers, port)
        yield one
        one.client.close()


def test_a_lease_from_asking_to_giving_back(scene: Scene) -> None:
    answer = scene.send("POST", "/v1/leases", ASKED)
    assert answer.status_code == 201
    found = answer.json()
    assert (found["state"], found["node"], found["gpu_index"], found["ttl_seconds"]) == ("granted", "desk", 0, 30.0)
    assert (found["user"], found["pod"]) == ("trainer-sa", "trainer-0")
    assert scene.send("POST", "/v1/leases", ASKED).json()["id"] == "run-0001"
    assert scene.send("PUT", "/v1/leases/run-0001").status_code == 200
    assert scene.send("PUT", "/v1/leases/run-0001", {"used_mib": 1500}).json()["state"] == "granted"
    assert scene.bench.store.signs["run-0001"][1] == 1500
    assert [one["id"] for one in scene.send("GET", "/v1/leases").json()["leases"]] == ["run-0001"]
    assert scene.send("DELETE", "/v1/leases/run-0001").json()["end"] == "released"
    gone = scene.send("PUT", "/v1/leases/run-0001")
    assert (gone.status_code, gone.json()["reason"]) == (410, "its holder gave it back")
    assert scene.send("GET", "/v1/leases/run-0001").json()["state"] == "ended"


def test_who_waits_is_told_its_place_and_why(scene: Scene) -> None:
    scene.bench.cards.cards = (card(2500),)
    answer = scene.send("POST", "/v1/leases", ASKED)
    assert answer.status_code == 202
    assert answer.json()["place"] == 1
    assert answer.json()["reason"].startswith("desk/0 has 2500 MiB measured free")
    assert scene.send("PUT", "/v1/leases/run-0001").status_code == 202
    scene.bench.cards.cards = (card(7000),)
    scene.bench.keeper.turn()
    assert scene.send("PUT", "/v1/leases/run-0001").status_code == 200


def test_who_will_not_wait_is_told_no(scene: Scene) -> None:
    scene.bench.cards.cards = (card(None),)
    answer = scene.send("POST", "/v1/leases", ASKED | {"max_wait_seconds": 0})
    assert answer.status_code == 409
    assert "unknown is not free" in answer.json()["reason"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"mib": "2000"}, "mib"), ({"mib": 0}, "mib"), ({"mib": None}, "mib"), ({"tenant": "nobody"}, "tenant"),
        ({"lane": "nowhere"}, "lane"), ({"max_wait_seconds": -1}, "max_wait_seconds"), ({"more": 1}, "more"),
        ({"request_id": "a/b"}, "request_id"), ({"max_wait_seconds": 1e9}, "max_wait_seconds"),
    ],
)  # fmt: skip
def test_a_bad_request_is_told_place_value_rule_and_repair(scene: Scene, change: dict[str, Any], place: str) -> None:
    answer = scene.send("POST", "/v1/leases", ASKED | change)
    assert answer.status_code == 422
    assert answer.json()["place"] == place
    assert all(answer.json()[key] for key in ("error", "rule", "repair"))
    assert scene.bench.store.book == {}


def test_a_stranger_is_not_told_which_tenants_there_are(scene: Scene) -> None:
    answer = scene.send("POST", "/v1/leases", ASKED | {"tenant": "triner"}, token="token-of-nobody")
    assert answer.status_code == 403
    assert "trainer" not in answer.text


@pytest.mark.parametrize("word", ["NaN", "Infinity"])
def test_a_wait_that_is_no_number_is_refused(scene: Scene, word: str) -> None:
    body = f'{{"tenant": "trainer", "mib": 1, "lane": "day", "max_wait_seconds": {word}}}'
    headers = {"Authorization": f"Bearer {TRAINER}", "Content-Type": "application/json"}
    assert scene.client.post("/v1/leases", content=body, headers=headers).status_code == 422


def test_a_body_that_is_no_json_is_told_so(scene: Scene) -> None:
    headers = {"Authorization": "Bearer token-of-trainer", "Content-Type": "application/json"}
    answer = scene.client.post("/v1/leases", content=b"{", headers=headers)
    assert answer.status_code == 422


@pytest.mark.parametrize("token", ["", "wrong-token"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", ""), ("GET", ""), ("GET", "/run-0001"), ("PUT", "/run-0001"), ("DELETE", "/run-0001")],
)
def test_without_a_known_token_there_is_nothing(scene: Scene, token: str, method: str, path: str) -> None:
    answer = scene.send(method, f"/v1/leases{path}", ASKED if method == "POST" else None, token)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "run-0001" not in answer.text


@pytest.mark.parametrize(
    ("verb", "method", "path"),
    [
        ("create", "POST", ""), ("get", "GET", "/run-0001"), ("update", "PUT", "/run-0001"),
        ("delete", "DELETE", "/run-0001"),
    ],
)  # fmt: skip
def test_each_verb_needs_its_right(scene: Scene, verb: str, method: str, path: str) -> None:
    scene.send("POST", "/v1/leases", ASKED)
    scene.callers.allowed.discard(("trainer-sa", verb, "trainer"))
    before = dict(scene.bench.store.book)
    answer = scene.send(method, f"/v1/leases{path}", ASKED | {"request_id": "run-0002"} if method == "POST" else None)
    assert answer.status_code == 403
    assert answer.json()["error"] == f"trainer-sa may not {verb} leases.gpumem.io 'trainer' in namespace train"
    assert scene.bench.store.book == before


def test_a_list_holds_only_what_the_caller_may_list(scene: Scene) -> None:
    scene.send("POST", "/v1/leases", ASKED)
    assert scene.send("GET", "/v1/leases", token="token-of-nobody").json() == {"leases": []}


def test_authority_or_store_that_do_not_answer_are_503_and_never_a_yes(scene: Scene) -> None:
    scene.callers.broken = "the Kubernetes API does not answer"
    answer = scene.send("POST", "/v1/leases", ASKED)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert scene.bench.store.book == {}
    scene.callers.broken, scene.bench.store.broken = "", "Redis does not answer"
    assert scene.send("POST", "/v1/leases", ASKED).status_code == 503
    assert scene.send("PUT", "/v1/leases/run-0001").status_code == 503


def test_a_lease_that_was_never_there_is_404(scene: Scene) -> None:
    assert scene.send("PUT", "/v1/leases/run-0009").status_code == 404


def test_a_body_without_end_is_turned_away(scene: Scene) -> None:
    headers = {"Authorization": "Bearer token-of-trainer"}
    assert scene.client.post("/v1/leases", content=b"x" * (MOST_BODY_BYTES + 1), headers=headers).status_code == 413
    assert scene.client.post("/v1/leases", content=iter([b"{}"]), headers=headers).status_code == 411


def test_with_a_certificate_it_is_https(tmp_path: Path) -> None:
    bench, callers = LeaseBench(), FakeCallers()
    api = lease_api(bench.keeper, callers, bench.settings, bench.log)
    missing = pytest.raises(InputError, match=r"tls.crt: no such file. Mount a Secret of kubernetes.io/tls")
    with missing, asgi_served(api, ListenAddress(), name="leases", option="--lease-address", tls_folder=tmp_path):
        pass
    names = frozenset({"127.0.0.1", "localhost"})
    certificate = X509Certificates().issue(names, now_at=datetime.now(UTC), lifetime_seconds=3600)
    (tmp_path / "tls.crt").write_text(certificate.chain_pem)
    (tmp_path / "tls.key").write_text(certificate.key_pem)
    context = ssl.create_default_context(cadata=certificate.authority.pem)
    served = asgi_served(api, ListenAddress(), name="leases", option="--lease-address", tls_folder=tmp_path)
    with served as port, httpx.Client(verify=context) as client:
        assert client.get(f"https://127.0.0.1:{port}/v1/leases").status_code == 401


def test_a_port_that_is_taken_is_told_with_its_option(scene: Scene) -> None:
    taken = ListenAddress("127.0.0.1", scene.port)
    with (
        pytest.raises(InputError, match="--lease-address"),
        asgi_served(None, taken, name="x", option="--lease-address"),
    ):
        pass
