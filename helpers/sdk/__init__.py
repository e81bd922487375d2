"""What applications use: the worker-side helpers of the coordinator's lanes, and leases for what is in no queue.

`from helpers.sdk import lease` loads the HTTP client; `helpers.sdk.lane` does without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helpers.sdk.leases import lease, lease_async

__all__ = ["lease", "lease_async"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from helpers.sdk import leases  # noqa: PLC0415 - see above

        return getattr(leases, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
