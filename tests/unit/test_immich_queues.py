"""Pausing through Immich's own API, against a server of the test's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from helpers.adapters.immich_queues import EitherHands, ImmichHands
from helpers.domain.errors import DependencyError
from tests.fakes.http_server import QuietHandler, serving_http


class Immich:
    """Remembers what it is asked, and answers with `status`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, Any]]] = []
        self.status = 200
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def immich() -> Iterator[Immich]:
    state = Immich()

    class Handler(QuietHandler):
        def do_PUT(self) -> None:  # noqa: N802
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append((self.path, str(self.headers["x-api-key"]), body))
            self.send_response(state.status)
            self.end_headers()
            self.wfile.write(b'{"message":"no"}')

    with serving_http(Handler) as state.port:
        yield state


def test_it_is_asked_by_its_own_api_with_the_key(immich: Immich) -> None:
    hands = ImmichHands(immich.url, "secret")
    hands.pause("smartSearch", "immich")
    hands.resume("smartSearch", "immich")
    path = "/api/jobs/smartSearch"
    assert immich.asked == [
        (path, "secret", {"command": "pause", "force": False}),
        (path, "secret", {"command": "resume", "force": False}),
    ]


def test_a_refusal_and_a_silence_are_named(immich: Immich) -> None:
    immich.status = 403
    with pytest.raises(DependencyError, match="pause of smartSearch: status 403"):
        ImmichHands(immich.url, "").pause("smartSearch", "immich")
    with pytest.raises(DependencyError, match="resume of smartSearch"):
        ImmichHands("http://127.0.0.1:1", "").resume("smartSearch", "immich")


def test_each_queue_is_paused_by_whom_its_lane_names(immich: Immich) -> None:
    class Bullmq:
        def __init__(self) -> None:
            self.did: list[tuple[str, str]] = []

        def pause(self, queue: str, client: str) -> None:
            self.did.append((queue, client))

        resume = pause

        def warm(self, client: str) -> None:
            pass

    bullmq = Bullmq()
    hands = EitherHands(bullmq, ImmichHands(immich.url, ""))
    hands.pause("ai-batch", "5")
    hands.pause("ocr", "immich")
    assert bullmq.did == [("ai-batch", "5")]
    assert [path for path, *_ in immich.asked] == ["/api/jobs/ocr"]
    with pytest.raises(DependencyError, match="no address of Immich is declared"):
        EitherHands(bullmq, None).pause("ocr", "immich")
