"""The device plugin's configuration, v1, as strict as the plugin reads it (api/config/v1 of k8s-device-plugin)."""

from __future__ import annotations

from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Resource(_Block):
    """One replicated resource. The plugin parses `rename` and `devices` and ignores them, so they are refused here."""

    name: str = Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")
    replicas: int = Field(ge=2)


class TimeSlicing(_Block):
    """`sharing.timeSlicing`; an empty `resources` is an error in the plugin."""

    renameByDefault: bool = False  # noqa: N815 - the device plugin's own field name
    failRequestsGreaterThanOne: bool = False  # noqa: N815 - the device plugin's own field name
    resources: list[Resource] = Field(min_length=1)


class Sharing(_Block):
    """`sharing`; `mps` would win over timeSlicing, so it is no field here."""

    timeSlicing: TimeSlicing  # noqa: N815 - the device plugin's own field name


class DevicePluginConfig(_Block):
    """The whole file."""

    version: Literal["v1"]
    flags: dict[str, Any] | None = None
    sharing: Sharing | None = None

    @classmethod
    def read(cls, text: str) -> DevicePluginConfig:
        """Raises pydantic.ValidationError where the plugin would refuse, or ignore, a part."""
        return cls.model_validate(yaml.safe_load(text))
