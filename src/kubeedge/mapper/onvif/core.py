"""What a Device says of an ONVIF camera, and what its properties are. Pure.

The protocol's configData:

    url                      http://HOST[:PORT][/PATH] or https://... of the device service; HOST or HOST:PORT will do. rtsp://HOST[:PORT]/PATH or
                             rtsps://... of a camera without ONVIF: it has `encoding` and its video
    userName, password       a user of the camera
    allowBasic               true: the password may be sent unencrypted where the camera knows nothing better (false)
    caFile                   a file of the node with the authorities of an https camera; the system's without it
    profile                  token or name of a profile; the first one with video without it
    timeout                  milliseconds for an answer (5000)
    video                    true: the mapper shows its video by HTTP (`--listen`)

The visitor's configData:

    item                     what the property is: one of READ or WRITE below; the property's own name without it

Of a property that the camera sends by itself (push: true):

    event                    motion, tamper, input, relay; or a topic without prefixes, as RuleEngine/LineDetector/Crossed; or any: each event, as JSON
    data                     the name of the item that is the value; the first one without it
    source                   what one of the event's sources must be, as the token of an input; all without it
"""

from __future__ import annotations

import math
from typing import TypeAlias
from urllib.parse import urlsplit

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass
from kubeedge.mapper.http_digest import DeviceUser
from kubeedge.mapper.onvif import messages
from kubeedge.mapper.onvif.messages import OnvifRequest, PtzVector
from kubeedge.mapper.values import MappedDevice, MappedProperty, TypedValue

MAX_PICTURE = 2 * 1024 * 1024  # bytes of a snapshot
_SERVICE = "/onvif/device_service"
_SECONDS = 1.0  # of a continuous move that says nothing
_MAX_SECONDS = 60.0
_MAX_TEXT = 256
_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}

INFORMATION = ("manufacturer", "model", "firmware", "serial")
PTZ = ("pan", "tilt", "zoom", "position", "moving")
#: what is read: what the camera is, where it looks, its presets (JSON, name -> token), the encoding and size of its video, and a small picture
READ = (*INFORMATION, *PTZ, "presets", "encoding", "resolution", "snapshot")
#: what is done once for each value: "PAN,TILT,ZOOM" by which it turns; "PAN,TILT,ZOOM[,SECONDS]" at which it turns, or "stop"; the name or token
#: of a preset to go to; the name under which the position is kept
ACTIONS = ("step", "move", "preset", "savePreset")
#: what may be written
WRITE = ("pan", "tilt", "zoom", "position", *ACTIONS)

PtzRange: TypeAlias = tuple[float, float]
_RANGES: dict[str, PtzRange] = {"pan": (-1, 1), "tilt": (-1, 1), "zoom": (0, 1)}
_BOTH: PtzRange = (-1, 1)


@dataclass(frozen=True, slots=True)
class OnvifAddress:
    """Where a camera is. `timeout` in seconds."""

    host: str
    port: int
    is_tls: bool
    path: str
    user: DeviceUser | None
    ca_file: str
    profile: str
    timeout: float
    has_video: bool
    is_plain: bool = False  # it is known by its video alone; `path` has the query, too


def address_of(device: MappedDevice) -> OnvifAddress:
    """Raises Invalid, with the device's name, for a configuration that names no camera."""
    texts = {key: device.config.get(key, "") for key in ("url", "userName", "password", "caFile", "profile")}
    for key, value in texts.items():
        if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
            raise device.invalid(f"{key} must be a text of at most {_MAX_TEXT} characters")
    for key in ("allowBasic", "video"):
        if not isinstance(device.config.get(key, False), bool):
            raise device.invalid(f"{key} must be true or false")
    url = texts["url"]
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as exc:
        raise device.invalid(f"url: {exc}") from exc
    is_plain = parts.scheme in ("rtsp", "rtsps")
    has_more = parts.username or parts.fragment or (parts.query and not is_plain)
    if parts.scheme not in _PORTS or not parts.hostname or has_more:
        raise device.invalid(
            "url must be http://HOST[:PORT][/PATH] or https://..., without a query, a user or a fragment"
        )
    if texts["caFile"] and not texts["caFile"].startswith("/"):
        raise device.invalid("caFile must be an absolute path")
    user = DeviceUser(texts["userName"], texts["password"], device.config.get("allowBasic") is True)
    try:
        path = messages.path_of(parts.geturl())
    except Invalid as exc:
        raise device.invalid("url has characters that no URL has") from exc
    return OnvifAddress(
        parts.hostname,
        port,
        parts.scheme in ("https", "rtsps"),
        path if path != "/" or is_plain else _SERVICE,
        user if user.user else None,
        texts["caFile"],
        texts["profile"],
        device.number("timeout", 100, 60_000, 5000) / 1000,
        device.config.get("video") is True,
        is_plain,
    )


def item_of(prop: MappedProperty) -> str:
    """Raises Invalid for one that no camera has."""
    found = prop.visitor.get("item", prop.name)
    if found not in READ and found not in WRITE:
        raise prop.invalid(f"item {str(found)[:40]!r} is none of {', '.join(sorted({*READ, *WRITE}))}")
    return str(found)


def move_of(prop: MappedProperty, value: TypedValue, profile: str, now: PtzVector | None = None) -> OnvifRequest:
    """The request for a value of pan, tilt, zoom, position, step or move. `now`: where it looks, for pan and tilt, of which ONVIF moves both or none.
    Raises Invalid for a value that says no move."""
    item, now = item_of(prop), now or PtzVector()
    if item in _RANGES:
        axis = _axis(prop, item, str(value))
        match item:
            case "pan":
                return messages.absolute_move(profile, PtzVector(axis, now.tilt))
            case "tilt":
                return messages.absolute_move(profile, PtzVector(now.pan, axis))
        return messages.absolute_move(profile, PtzVector(zoom=axis))
    if item == "move" and value == "stop":
        return messages.stop(profile)
    parts = str(value).split(",")
    if len(parts) not in ((3, 4) if item == "move" else (3,)):
        raise prop.invalid(f"{str(value)[:40]!r} is no PAN,TILT,ZOOM{'[,SECONDS] or stop' if item == 'move' else ''}")
    is_place = item == "position"
    axes = [
        _axis(prop, name, text, _RANGES[name] if is_place else _BOTH) if text.strip() else None
        for name, text in zip(("pan", "tilt", "zoom"), parts, strict=False)
    ]
    vector = PtzVector(*axes)
    if is_place:
        return messages.absolute_move(profile, vector)
    if item == "step":
        return messages.relative_move(profile, vector)
    seconds = _axis(prop, "seconds", parts[3], (0.1, _MAX_SECONDS)) if len(parts) > 3 else _SECONDS
    return messages.continuous_move(profile, vector, seconds)


def _axis(prop: MappedProperty, name: str, text: str, range: PtzRange | None = None) -> float:
    low, high = range or _RANGES[name]
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not low <= found <= high:
        raise prop.invalid(f"{name} must be a number from {low:g} to {high:g}")
    return found


def preset_token(prop: MappedProperty, value: TypedValue, presets: dict[str, str]) -> str:
    """The token of the preset that a text names. Raises Invalid for none of the camera's."""
    for token, name in presets.items():
        if value in (name, token):
            return token
    known = ", ".join(name or token for token, name in presets.items())
    raise prop.invalid(f"{str(value)[:40]!r} is none of the camera's presets: {known[:300] or 'it has none'}")
