"""The handlers of the mapper of ONVIF cameras."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from kubeedge.errors import Invalid
from kubeedge.mapper.mapper import Mapper
from kubeedge.mapper.onvif import core, messages
from kubeedge.mapper.onvif.client import OnvifClient
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

_Found = dict[str, Any]


class CameraDevice:
    """A camera that is connected. `done`: item -> the text of the last action of a Device, whatever became of its connection since: an action is
    not for a second time because the camera was away."""

    def __init__(self, device: MappedDevice, client: OnvifClient, done: dict[str, str]) -> None:
        self.device = device
        self.client = client
        self._done = done

    async def read(self, props: Sequence[MappedProperty]) -> _Found:
        """Property -> value, or the exception that came instead: one request for all that it answers. Raises OSError and PeerError."""
        found: _Found = {}
        asked: dict[str, Any] = {}
        for prop in props:
            try:
                item = core.item_of(prop)
                group = "ptz" if item in core.PTZ else item
                if group not in asked:
                    asked[group] = await self._asked(group)
                value = asked[group]
                if isinstance(value, Invalid):
                    raise prop.invalid(str(value))
                value = value[item] if group == "ptz" else value
                if value is None:
                    raise prop.invalid("the camera does not say it")
                found[prop.name] = value if isinstance(value, bytes | float) else prop.typed(str(value))
            except Invalid as exc:
                found[prop.name] = exc
        return found

    async def _asked(self, group: str) -> Any:
        try:
            return await self._ask(group)
        except Invalid as exc:
            return exc

    async def _ask(self, group: str) -> Any:
        client = self.client
        if group in core.INFORMATION:
            return client.information.get(group) or None
        match group:
            case "ptz":
                status = await client.status()
                place = status.position
                values = {"pan": place.pan, "tilt": place.tilt, "zoom": place.zoom, "position": place.text}
                return {**values, "moving": status.moving}
            case "presets":
                return json.dumps({name or token: token for token, name in (await client.presets()).items()})
            case "encoding":
                return await client.encoding() or None
            case "resolution":
                width, height = client.profile.width, client.profile.height
                return f"{width}x{height}" if width and height else None
            case "snapshot":
                return await client.snapshot()
        return self._done.get(group, "")

    async def write(self, prop: MappedProperty, value: TypedValue) -> None:
        """Raises Invalid for what the camera cannot do or refuses, OSError and PeerError."""
        item, client = core.item_of(prop), self.client
        if item not in core.WRITE:
            raise prop.invalid("is what the camera says, and cannot be set")
        if item in core.ACTIONS and (value == "" or self._done.get(item) == value):
            return
        if item == "preset":
            token = core.preset_token(prop, value, await client.presets())
            await client.ask(messages.goto_preset(client.profile.token, token))
        elif item == "savePreset":
            same = {name: token for token, name in (await client.presets()).items()}
            await client.ask(messages.set_preset(client.profile.token, str(value)[:64], same.get(str(value), "")))
        else:
            now = (await client.status()).position if item in ("pan", "tilt") else None
            await client.ask(core.move_of(prop, value, client.profile.token, now))
        if item in core.ACTIONS:
            self._done[item] = str(value)

    async def aclose(self) -> None:
        """Ends the connection to the camera."""
        await self.client.aclose()


async def _plain(address: core.OnvifAddress) -> OnvifClient:
    from kubeedge.mapper.onvif.plain import PlainCamera

    return await PlainCamera.open(address)


def onvif_mapper(listen: tuple[str, int] | None = None) -> Mapper:
    """The mapper of ONVIF; what a Device says is in core.py. `listen`: where browsers see the video of cameras with `video: true`."""
    mapper = Mapper("onvif", timeout=60.0)
    done: dict[str, dict[str, str]] = {}
    shown = None
    if listen is not None:
        from kubeedge.mapper.onvif.video import CameraVideos

        shown = CameraVideos(*listen)
        mapper.background(shown.run)

    @mapper.connect
    async def connect(device: MappedDevice) -> CameraDevice:
        address = core.address_of(device)
        client = await (_plain(address) if address.is_plain else OnvifClient.open(address))
        for gone in [id for id in done if mapper.device(id) is None]:
            del done[gone]
        if shown is not None and client.address.has_video:
            shown.add(device.id, client)
        return CameraDevice(device, client, done.setdefault(device.id, {}))

    @mapper.read_many
    async def read_many(client: CameraDevice, props: Sequence[MappedProperty]) -> _Found:
        return await client.read(props)

    @mapper.listen
    async def follow(client: CameraDevice) -> None:
        wanted = [prop for prop in client.device.properties.values() if prop.is_pushed]
        if not wanted:  # its end would be the connection's
            await asyncio.get_running_loop().create_future()
        from kubeedge.mapper.onvif.pull_point import CameraEvents

        await CameraEvents(client.client, wanted, mapper.reporter(client.device)).run()

    @mapper.write
    async def write(client: CameraDevice, prop: MappedProperty, value: TypedValue) -> None:
        await client.write(prop, value)

    @mapper.close
    async def close(client: CameraDevice) -> None:
        if shown is not None:
            shown.remove(client.device.id, client.client)
        await client.aclose()

    return mapper
