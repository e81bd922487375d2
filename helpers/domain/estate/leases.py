"""The estate's `coordinator.leases` block: who may hold a time-limited right to MiB, and how."""

from __future__ import annotations

from pydantic import Field

from helpers.domain.estate.base import DnsSubdomain, EstateModel


class LeaseTenant(EstateModel):
    """A tenant whose pods may ask for leases, in any lane of that tenant."""

    tenant: str = Field(description="The tenant.")
    service_accounts: tuple[DnsSubdomain, ...] = Field(
        default=("default",),
        min_length=1,
        strict=False,
        description="ServiceAccounts in the tenant's namespace that get the right to ask for its leases.",
    )


class Leases(EstateModel):
    """Time-limited rights to MiB, for work that is in no queue. Absent: there are none."""

    tenants: tuple[LeaseTenant, ...] = Field(min_length=1, strict=False, description="Who may hold leases.")
    ttl_seconds: float = Field(
        default=30.0, ge=3, le=3600, description="A lease ends that was not renewed for so long: its holder is gone."
    )
    longest_wait_seconds: int = Field(
        default=86_400, ge=0, le=604_800, description="The most that a request may say it waits."
    )
    audience: str = Field(
        default="",
        description="The audience that callers' tokens must be meant for; absent: the API server's own, "
        "which the token has that every pod is given.",
    )
    tls_secret: DnsSubdomain | None = Field(
        default=None, description="A Secret of kubernetes.io/tls with which leases are served; absent: plain HTTP."
    )
