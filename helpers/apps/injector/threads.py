"""The process's own threads: they start and stop together, and one that ends by itself is missed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from helpers.adapters.lease import LeaderElection
from helpers.adapters.process import Loops
from helpers.domain import names
from helpers.domain.errors import Forbidden
from helpers.services.certificates import RETRY_SECONDS, CertificateKeeper, KeeperPorts, KeeperSettings

THREADS_BOUND_SECONDS = 20.0


class Keeping:
    """The keeper with its Lease; both begin anew where the Lease was forbidden, because rights can be mended."""

    def __init__(self, ports: KeeperPorts, settings: KeeperSettings, *, identity: str) -> None:
        self._ports = ports
        self._settings = settings
        self._identity = identity
        self._keeper: CertificateKeeper | None = None

    def wake(self) -> None:
        """Makes the keeper look."""
        if self._keeper is not None:
            self._keeper.wake()

    def run(self, stop: Callable[[], bool]) -> None:
        """Keeps the certificate until `stop()`."""
        while not stop():
            election = LeaderElection(
                self._ports.cluster,
                self._ports.clock,
                self._ports.log,
                namespace=self._settings.namespace,
                name=names.INJECTOR_LEASE,
                identity=self._identity,
            )
            with contextlib.suppress(Forbidden), election:  # the election has logged it
                self._keeper = CertificateKeeper(self._ports, self._settings, election)
                self._keeper.run(stop)
            for _ in range(int(RETRY_SECONDS / 0.1)):
                if stop():
                    return
                time.sleep(0.1)


class Threads:
    """Threads that end together, when the block ends. `wake` makes one of them look at `stopped`."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._stop = threading.Event()
        self._loops = Loops()

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._wake()
        self._loops.join(THREADS_BOUND_SECONDS)

    def start(self, name: str, run: Callable[[Callable[[], bool]], None]) -> None:
        """Starts one."""
        self._loops.start(name, run, self.stopped)

    def stopped(self) -> bool:
        """Whether they are to end."""
        return self._stop.is_set()

    def alive(self) -> bool:
        """Whether all of them still run."""
        return self._loops.alive()
