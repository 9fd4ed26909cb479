"""Bluetooth Low Energy devices that an adapter hears, through BlueZ or, on a machine without a system bus, directly. Nothing is connected to."""

from __future__ import annotations

from typing import Any

from kubeedge.mapper.ble.bluez import Bluez
from kubeedge.mapper.ble.controllers import heard
from kubeedge.mapper.dbus.bus import has_system_bus
from kubeedge.mapper.scan.core import Finding, ScanRequest
from kubeedge.mapper.scan.finder import ScanScope

_SECONDS = 8.0  # devices of little power are heard every few seconds
_LEFT = 1.0  # seconds of the scan that are left when it ends


class BleFinder:
    """One Device for each."""

    def wants(self, request: ScanRequest) -> bool:
        return bool(request.radios)

    async def find(self, scope: ScanScope) -> None:
        """Raises OSError for an adapter that is not ours to use, Invalid for an adapter that the machine has not."""
        bluez = Bluez() if has_system_bus() else None
        seconds = max(0.1, min(_SECONDS, scope.request.seconds - _LEFT) / len(scope.request.radios))
        try:
            for radio in scope.request.radios:
                await scope.packet()
                for one in await (bluez.scan(radio, seconds) if bluez else heard(radio, seconds)):
                    config: dict[str, Any] = {"macAddress": one.address, "adapter": radio}
                    if one.is_random:
                        config["addressType"] = "random"
                    info = {"name": one.name, "rssi": f"{one.rssi} dBm", "services": " ".join(one.uuids)}
                    scope.found(Finding("ble", "ble", one.address, config, {k: v for k, v in info.items() if v}))
        finally:
            if bluez is not None:
                await bluez.aclose()
