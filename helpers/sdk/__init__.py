"""What applications use: GPU jobs, leases for what is in no queue, and the worker-side helpers of lanes.

`from helpers.sdk import lease` or `GPUJobClient` loads the HTTP client; `helpers.sdk.lane` does without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helpers.sdk.gpu import AsyncGPUJobClient, GPUJobClient
    from helpers.sdk.leases import lease, lease_async

__all__ = ["AsyncGPUJobClient", "GPUJobClient", "lease", "lease_async"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        module = "gpu" if name.endswith("GPUJobClient") else "leases"
        return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
