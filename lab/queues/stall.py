"""A TCP proxy of the tests' own, which can stall (bytes wait and are delivered late) or cut."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Proxy:
    """Between a coordinator and its Redis."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._flows = threading.Event()
        self._flows.set()
        self._closed = False
        self._stall_at = b""
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Redis behind it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def stall(self) -> None:
        """Nothing passes, nothing is lost, no connection ends."""
        self._flows.clear()

    def stall_at(self, word: bytes) -> None:
        """Stalls as soon as somebody sends `word`, which is held back with the rest."""
        self._stall_at = word

    @property
    def stalls(self) -> bool:
        """Whether nothing passes now."""
        return not self._flows.is_set()

    def flow(self) -> None:
        """Everything that waited is delivered, however late."""
        self._stall_at = b""
        self._flows.set()

    def turn_to(self, port: int) -> None:
        """New connections go to another server: the address stays, as a Service's does after a failover."""
        self._target = ("127.0.0.1", port)

    def close(self) -> None:
        """Ends it."""
        self._closed = True
        self._flows.set()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._pump, args=(near,), daemon=True).start()

    def _pump(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target, timeout=5)
        except OSError:
            near.close()
            return
        with near, far, selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            selector.register(near, selectors.EVENT_READ, far)
            selector.register(far, selectors.EVENT_READ, near)
            while not self._closed:
                for key, _ in selector.select(1.0):
                    content = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if self._stall_at and self._stall_at in content:
                        self._flows.clear()
                    self._flows.wait()
                    if not content:
                        return
                    key.data.sendall(content)


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """One that flows."""
    between = Proxy(port)
    try:
        yield between
    finally:
        between.close()
