"""The estate's `manager.mig` block: how the MIG manager splits cards, in mig-parted's own format (version v1)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from helpers.domain.estate.base import DnsSubdomain, EstateModel, broken_rule

# A card has seven compute slices, of A100 and H100 alike; a profile's first number says how many it takes.
SLICES_A_CARD = 7
ALL_DISABLED = "all-disabled"
PROFILE = re.compile(r"(?:[1-7]c\.)?(?P<slices>[1-7])g\.[1-9][0-9]*gb(?:[+-][a-z.]+)?")


def _profile(value: str) -> str:
    if PROFILE.fullmatch(value) is None:
        raise broken_rule("a MIG profile", 'write it as `nvidia-smi mig -lgip` shows it, like "1g.10gb"')
    return value


Profile = Annotated[str, AfterValidator(_profile)]


def compute_slices(profile: str) -> int:
    """How many of a card's compute slices an instance of `profile` takes."""
    match = PROFILE.fullmatch(profile)
    return int(match["slices"]) if match else 0


class MigDevices(EstateModel):
    """What becomes of some cards of a node."""

    devices: Literal["all"] | Annotated[tuple[int, ...], Field(strict=False)] = Field(
        description="all, or the cards' indexes."
    )
    mig_enabled: bool = Field(alias="mig-enabled", description="Whether these cards are in MIG mode.")
    mig_devices: dict[Profile, Annotated[int, Field(ge=1, le=SLICES_A_CARD)]] = Field(
        alias="mig-devices", default_factory=dict, description="Instances of each profile on each card."
    )

    @model_validator(mode="after")
    def _fits_a_card(self) -> MigDevices:
        if self.mig_devices and not self.mig_enabled:
            raise broken_rule(
                "a card out of MIG mode has no instances", "set mig-enabled: true, or remove them", at="mig-devices"
            )
        taken = sum(compute_slices(profile) * count for profile, count in self.mig_devices.items())
        if taken > SLICES_A_CARD:
            raise broken_rule(
                f"a card has {SLICES_A_CARD} compute slices; these profiles take {taken}",
                "lower the numbers",
                at="mig-devices",
            )
        return self


class Mig(EstateModel):
    """Configurations that a node asks for by its label nvidia.com/mig.config."""

    config_map: DnsSubdomain = Field(
        default="gpumem-mig-parted-config",
        description="The ConfigMap, in the estate's namespace; the GPU Operator's migManager.config.name is this.",
    )
    configs: dict[DnsSubdomain, Annotated[tuple[MigDevices, ...], Field(strict=False)]] = Field(
        min_length=1,
        description="By name, in mig-parted's spelling. all-disabled, the operator's default, is added.",
    )

    def mig_parted(self) -> dict[str, Any]:
        """The document that stands under the ConfigMap's key `config.yaml`."""
        off = MigDevices.model_validate({"devices": "all", "mig-enabled": False})
        configs = {ALL_DISABLED: (off,)} | self.configs
        return {
            "version": "v1",
            "mig-configs": {name: [_parted(one) for one in devices] for name, devices in sorted(configs.items())},
        }

    def resources(self) -> list[str]:
        """What the device plugin calls the instances under its strategy `mixed`."""
        profiles = {name for devices in self.configs.values() for one in devices for name in one.mig_devices}
        return [f"nvidia.com/mig-{profile.replace('+', '.')}" for profile in sorted(profiles)]


def _parted(one: MigDevices) -> dict[str, Any]:
    # The parser of mig-parted refuses no empty mapping, but its own examples write none where MIG is off.
    document = one.model_dump(mode="json", by_alias=True)
    return document if one.mig_enabled else {key: document[key] for key in ("devices", "mig-enabled")}
