"""Hold a lease on GPU memory while a block runs.

    from helpers.sdk import lease

    with lease(tenant="trainer", mib=6000, lane="night", max_wait_seconds=3600) as held:
        for batch in batches:
            held.check()          # raises LeaseLost as soon as the right to the memory is gone
            train(batch)

`lease_async` is the same for asyncio. A thread (a task) renews the lease; a holder that dies is noticed
by its silence. The lease is a right: nothing stops a program that goes on without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator

import httpx

from helpers.sdk.lease_wire import ASK_TIMEOUT_SECONDS, Held, LeaseError, LeaseLost, LeaseRefused, Unreachable, Wish

__all__ = ["Held", "LeaseError", "LeaseLost", "LeaseRefused", "Unreachable", "lease", "lease_async"]


@contextlib.contextmanager
def lease(
    *,
    tenant: str,
    mib: int,
    lane: str,
    max_wait_seconds: float = 0.0,
    url: str | None = None,
    token: str | None = None,
    client: httpx.Client | None = None,
) -> Iterator[Held]:
    """Waits for the lease, holds it while the block runs, gives it back.

    Args:
        tenant: Whose memory it is, as the estate calls it.
        mib: How much.
        lane: The tenant's lane in which it waits its turn.
        max_wait_seconds: How long to wait; 0: now or not at all.
        url: The coordinator; absent: $GPUMEM_LEASES_URL, else its Service in the cluster.
        token: Who asks; absent: the pod's own token, read anew each time.
        client: Another client, such as one that trusts a private authority.

    Raises:
        LeaseRefused: it is not granted; the message says why.
        LeaseLost: it ended before the block did (raised at the block's end, and by `held.check()`).
        Unreachable: no coordinator answered.
    """
    wish = Wish(tenant, mib, lane, max_wait_seconds, url, token)
    with contextlib.ExitStack() as stack:
        used = client or stack.enter_context(httpx.Client(timeout=ASK_TIMEOUT_SECONDS))
        held = _granted(used, wish)
        stop = threading.Event()
        thread = threading.Thread(target=_renew, args=(used, wish, held, stop), name="gpumem-lease", daemon=True)
        thread.start()
        try:
            yield held
        finally:
            stop.set()
            thread.join()
            with contextlib.suppress(httpx.HTTPError, OSError):  # it expires by itself
                used.request(*wish.release(), headers=wish.headers())
        held.check()


@contextlib.asynccontextmanager
async def lease_async(
    *,
    tenant: str,
    mib: int,
    lane: str,
    max_wait_seconds: float = 0.0,
    url: str | None = None,
    token: str | None = None,
    client: httpx.AsyncClient | None = None,
) -> AsyncIterator[Held]:
    """The same as `lease`, for asyncio."""
    wish = Wish(tenant, mib, lane, max_wait_seconds, url, token)
    async with contextlib.AsyncExitStack() as stack:
        used = client
        if used is None:
            used = await stack.enter_async_context(httpx.AsyncClient(timeout=ASK_TIMEOUT_SECONDS))
        held = await _granted_async(used, wish)
        task = asyncio.create_task(_renew_async(used, wish, held))
        try:
            yield held
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            with contextlib.suppress(httpx.HTTPError, OSError):  # it expires by itself
                await used.request(*wish.release(), headers=wish.headers())
        held.check()


def _granted(client: httpx.Client, wish: Wish) -> Held:
    wish.headers()  # without a token nothing is worth waiting for
    method, url, body = wish.ask()
    try:
        while True:
            answer = _sent(client, wish, method, url, body)
            held = wish.heard(answer)
            if held is not None:
                return held
            time.sleep(wish.pause_seconds(answer))
            method, url, body = wish.next()
    except BaseException:
        # Whoever gives up waiting (Ctrl-C, too) must not be granted what nobody will use.
        with contextlib.suppress(httpx.HTTPError, OSError):
            client.request(*wish.release(), headers=wish.headers())
        raise


async def _granted_async(client: httpx.AsyncClient, wish: Wish) -> Held:
    wish.headers()  # without a token nothing is worth waiting for
    method, url, body = wish.ask()
    try:
        while True:
            answer = await _sent_async(client, wish, method, url, body)
            held = wish.heard(answer)
            if held is not None:
                return held
            await asyncio.sleep(wish.pause_seconds(answer))
            method, url, body = wish.next()
    except BaseException:
        with contextlib.suppress(httpx.HTTPError, OSError):
            await client.request(*wish.release(), headers=wish.headers())
        raise


def _renew(client: httpx.Client, wish: Wish, held: Held, stop: threading.Event) -> None:
    while not stop.wait(wish.renew_seconds(held)):
        wish.renewed(held, _sent(client, wish, *wish.renewal(held)))
        if held.lost:
            return


async def _renew_async(client: httpx.AsyncClient, wish: Wish, held: Held) -> None:
    while not held.lost:
        await asyncio.sleep(wish.renew_seconds(held))
        wish.renewed(held, await _sent_async(client, wish, *wish.renewal(held)))


def _sent(client: httpx.Client, wish: Wish, method: str, url: str, body: object) -> httpx.Response | None:
    try:
        return client.request(method, url, json=body, headers=wish.headers())
    except (httpx.HTTPError, LeaseError) as error:  # also a token file that is being replaced
        wish.problem = f"{method} {url}: {error or type(error).__name__}"
        return None


async def _sent_async(
    client: httpx.AsyncClient, wish: Wish, method: str, url: str, body: object
) -> httpx.Response | None:
    try:
        return await client.request(method, url, json=body, headers=wish.headers())
    except (httpx.HTTPError, LeaseError) as error:  # also a token file that is being replaced
        wish.problem = f"{method} {url}: {error or type(error).__name__}"
        return None
