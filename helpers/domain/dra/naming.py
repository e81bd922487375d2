"""What budgets per card are called in Kubernetes' Dynamic Resource Allocation (API `resource.k8s.io/v1`)."""

from __future__ import annotations

DRIVER = "gpu.gpumem.io"
"""The driver that publishes the slices and prepares the claims; attributes live in its domain."""

DEVICE_CLASS = "gpumem"
MEMORY_CAPACITY = "memory"
"""The capacity of a device, and what a claim asks for: whole MiB, written with the suffix `Mi`."""

UUID_ATTRIBUTE = "uuid"
MODEL_ATTRIBUTE = "model"
INDEX_ATTRIBUTE = "index"
MIG_PROFILE_ATTRIBUTE = "migProfile"


def device_name(index: int, mig_number: int | None = None) -> str:
    """The device in its node's pool: `gpu-0`, or `gpu-0-mig-2` for the third slice of the first card."""
    return f"gpu-{index}" if mig_number is None else f"gpu-{index}-mig-{mig_number}"
