"""A program that holds a lease as an application would, in a process of its own, so that it can be killed.

`python -m lab.queues.lease_holder URL TOKEN TENANT MIB LANE MAX_WAIT_SECONDS` prints one JSON line when it
has the lease, and one when it has lost it or was refused; it holds it until it is ended.
"""

from __future__ import annotations

import json
import sys
import time

from helpers.sdk.leases import LeaseError, lease


def main(url: str, token: str, tenant: str, mib: str, lane: str, max_wait_seconds: str) -> None:
    """Holds it."""
    try:
        with lease(
            tenant=tenant, mib=int(mib), lane=lane, max_wait_seconds=float(max_wait_seconds), url=url, token=token
        ) as held:
            print(json.dumps({"event": "held", "id": held.id}), flush=True)
            while True:
                time.sleep(0.05)
                held.check()
    except LeaseError as error:
        print(json.dumps({"event": type(error).__name__, "text": str(error)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
