"""Holding a lease by the SDK, for threads and for asyncio, against the API over real HTTP."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers.adapters.asgi_server import asgi_served
from helpers.adapters.metrics import ListenAddress
from helpers.apps.coordinator.lease_api import lease_api
from helpers.sdk import lease_wire
from helpers.sdk.leases import Held, LeaseError, LeaseLost, LeaseRefused, Unreachable, lease, lease_async
from lab.waiting import wait_for
from tests.fakes.lease_ports import FakeCallers, LeaseBench
from tests.fakes.leases import card, lease_settings

TOKEN = "token-of-trainer"
Hold = Callable[..., Any]


class Scene:
    """The API, and a keeper that looks twenty times a second."""

    def __init__(self, url: str, bench: LeaseBench, callers: FakeCallers) -> None:
        self.url, self.bench, self.callers = url, bench, callers

    def states(self) -> list[str]:
        return [one.end or one.state for one in self.bench.store.book.values()]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(lease_wire, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(lease_wire, "PATIENCE_SECONDS", 1.0)
    bench, callers = LeaseBench(), FakeCallers()
    stop = threading.Event()

    def turn() -> None:
        while not stop.wait(0.05):
            bench.keeper.turn()

    api = lease_api(bench.keeper, callers, lease_settings(ttl_seconds=3.0), bench.log)
    with asgi_served(api, ListenAddress(), name="leases", option="--lease-address") as port:
        thread = threading.Thread(target=turn, daemon=True)
        thread.start()
        yield Scene(f"http://127.0.0.1:{port}", bench, callers)
        stop.set()
        thread.join()


def in_a_thread(**fields: Any) -> Any:
    return lease(**fields)


def in_a_task(**fields: Any) -> Any:
    """`lease_async` as if it were `lease`, so that both do the same tests."""

    class Both:
        def __enter__(self) -> Held:
            self._loop = asyncio.new_event_loop()
            self._manager = lease_async(**fields)
            held: Held = self._run(self._manager.__aenter__())
            self._turning = threading.Thread(target=self._loop.run_forever, daemon=True)
            self._turning.start()
            return held

        def __exit__(self, *error: Any) -> None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._turning.join()
            self._run(self._manager.__aexit__(*error))

        def _run(self, what: Any) -> Any:
            return self._loop.run_until_complete(what)

    return Both()


@pytest.fixture(params=[in_a_thread, in_a_task])
def hold(request: pytest.FixtureRequest, scene: Scene) -> Hold:
    def held(**fields: Any) -> Any:
        block = {"tenant": "trainer", "mib": 2000, "lane": "day", "url": scene.url, "token": TOKEN}
        return request.param(**(block | fields))

    return held


def test_it_is_held_while_the_block_runs_and_given_back(scene: Scene, hold: Hold) -> None:
    with hold() as held:
        assert (held.node, held.gpu_index, held.mib) == ("desk", 0, 2000)
        held.check()
        assert scene.states() == ["granted"]
    assert scene.states() == ["released"]


def test_it_is_given_back_when_the_block_fails(scene: Scene, hold: Hold) -> None:
    with pytest.raises(ZeroDivisionError), hold():
        raise ZeroDivisionError
    assert scene.states() == ["released"]


def test_it_is_renewed_with_what_its_holder_uses(scene: Scene, hold: Hold) -> None:
    with hold() as held:
        held.used_mib = 1500
        wait_for(lambda: [used for _, used in scene.bench.store.signs.values() if used == 1500])


def test_it_waits_its_turn(scene: Scene, hold: Hold) -> None:
    scene.bench.cards.cards = (card(2500),)
    threading.Timer(0.5, lambda: setattr(scene.bench.cards, "cards", (card(7000),))).start()
    with hold(max_wait_seconds=60):
        assert scene.states() == ["granted"]


def test_a_refusal_says_why(scene: Scene, hold: Hold) -> None:
    scene.bench.cards.cards = (card(2500),)
    with pytest.raises(LeaseRefused, match="2500 MiB measured free"), hold():
        raise AssertionError
    with pytest.raises(LeaseRefused, match='did you mean "day"'), hold(lane="dya"):
        raise AssertionError
    with pytest.raises(LeaseRefused, match="the token is nobody's"), hold(token="wrong"):
        raise AssertionError


def test_a_lease_that_the_store_lost_is_lost(scene: Scene, hold: Hold) -> None:
    def loses_it() -> None:
        with hold() as held:
            scene.bench.store.flush()
            wait_for(lambda: held.lost)
            with pytest.raises(LeaseLost):
                held.check()

    with pytest.raises(LeaseLost, match="there is no lease"):
        loses_it()


def test_a_lease_that_cannot_be_renewed_is_lost_after_its_life_and_not_earlier(scene: Scene, hold: Hold) -> None:
    def loses_it() -> None:
        with hold() as held:
            began = time.monotonic()
            scene.callers.broken = "the API server is away"
            wait_for(lambda: held.lost)
            assert time.monotonic() - began > 2.5

    with pytest.raises(LeaseLost, match=r"could not be renewed for 3 s.*try again"):
        loses_it()


def test_a_short_silence_loses_nothing(scene: Scene, hold: Hold) -> None:
    with hold() as held:
        scene.callers.broken = "the API server is away"
        time.sleep(1.5)
        scene.callers.broken = ""
        seen = held.renewed_seconds
        wait_for(lambda: held.renewed_seconds > seen)
        held.check()


def test_nobody_there_is_said(hold: Hold) -> None:
    with pytest.raises(Unreachable, match=r"127.0.0.1:9 has not answered for 1 s"), hold(url="http://127.0.0.1:9"):
        raise AssertionError


def test_without_a_token_it_says_where_it_looked(hold: Hold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_wire, "TOKEN_FILE", tmp_path / "token")
    with pytest.raises(LeaseError, match="token cannot be read"), hold(token=None):
        raise AssertionError
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with hold(token=None):
        pass


def test_who_gives_up_waiting_is_not_granted_afterwards(scene: Scene) -> None:
    """A task that is cancelled while it waits."""
    scene.bench.cards.cards = (card(2500),)

    @asynccontextmanager
    async def waiting() -> AsyncIterator[None]:
        async with lease_async(tenant="trainer", mib=2000, lane="day", max_wait_seconds=60, url=scene.url, token=TOKEN):
            yield

    async def cancelled() -> None:
        task = asyncio.create_task(waiting().__aenter__())
        while not scene.states():
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert scene.states() == ["released"]


def test_a_client_of_ones_own_is_used_and_left_open(scene: Scene) -> None:
    with httpx.Client() as client:
        with lease(tenant="trainer", mib=2000, lane="day", url=scene.url, token=TOKEN, client=client):
            pass
        assert not client.is_closed


def test_the_package_offers_both_and_loads_the_http_client_only_for_them() -> None:
    program = (
        "import sys, helpers.sdk.lane; print('httpx' in sys.modules); "
        "from helpers.sdk import lease, lease_async; "
        "print('httpx' in sys.modules, lease.__name__, lease_async.__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True", "lease", "lease_async"]
