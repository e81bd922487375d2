"""What publishing and preparing, two threads, know of each other."""

from __future__ import annotations

from collections.abc import Iterable

from helpers.domain.dra.devices import Device


class NodeBoard:
    """Each value is replaced as a whole, so a reader gets the old or the new one and never waits."""

    def __init__(self) -> None:
        self._devices: dict[str, Device] = {}
        self._in_use: frozenset[str] = frozenset()

    def devices(self) -> dict[str, Device]:
        """The devices of this node, by name."""
        return self._devices

    def in_use(self) -> frozenset[str]:
        """Uuids of the cards that prepared claims are on."""
        return self._in_use

    def show_devices(self, devices: Iterable[Device]) -> None:
        """Replaces the devices."""
        self._devices = {device.name: device for device in devices}

    def show_in_use(self, uuids: Iterable[str]) -> None:
        """Replaces what is in use."""
        self._in_use = frozenset(uuids)
