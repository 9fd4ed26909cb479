"""Requests to the services of an ONVIF device, and what their answers say. Pure.

Device and Media of "ONVIF Core Specification" and "Media Service Specification" (ver10), PTZ of "PTZ Service Specification" (ver20).
"""

from __future__ import annotations

import datetime
import math
from urllib.parse import SplitResult, urlsplit

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.mapper.markup import escape
from kubeedge.mapper.onvif.elements import XmlElement

_MAX_PROFILES = 64
_MAX_PRESETS = 512
_MAX_NAME = 128  # characters
_SHOWN = ("H264", "JPEG")  # encodings that the mapper passes on

_SPACES = {
    "tds": "http://www.onvif.org/ver10/device/wsdl",
    "trt": "http://www.onvif.org/ver10/media/wsdl",
    "tptz": "http://www.onvif.org/ver20/ptz/wsdl",
    "tev": "http://www.onvif.org/ver10/events/wsdl",
    "wsnt": "http://docs.oasis-open.org/wsn/bw-2",
}


@dataclass(frozen=True, slots=True)
class OnvifRequest:
    """One operation of a service: "tds" device, "trt" media, "tptz" pan, tilt and zoom, "tev" and "wsnt" events. `body` is what is in its element, as
    XML; `port`: the port type, where it is in the name of the action."""

    service: str
    name: str
    body: str = ""
    port: str = ""

    @property
    def action(self) -> str:
        """For the header Content-Type, and for that of WS-Addressing."""
        return f"{_SPACES[self.service]}/{f'{self.port}/{self.name}Request' if self.port else self.name}"

    @property
    def xml(self) -> str:
        """For the body of an envelope."""
        return f"<{self.service}:{self.name}>{self.body}</{self.service}:{self.name}>"

    @property
    def answer(self) -> str:
        """The name of the answer's element."""
        return f"{self.name}Response"


@dataclass(frozen=True, slots=True)
class OnvifProfile:
    """What a camera sends under one name. `encoding` as the device says it: H264, JPEG, ..."""

    token: str
    name: str
    encoding: str = ""
    width: int = 0
    height: int = 0
    has_ptz: bool = False


@dataclass(frozen=True, slots=True)
class PtzVector:
    """Where a camera looks, or how it moves; None: not said. In the generic spaces: -1 to 1, zoom 0 to 1."""

    pan: float | None = None
    tilt: float | None = None
    zoom: float | None = None

    @property
    def text(self) -> str:
        """ "PAN,TILT,ZOOM", empty where nothing is said."""
        return ",".join("" if one is None else f"{one:g}" for one in (self.pan, self.tilt, self.zoom))


@dataclass(frozen=True, slots=True)
class PtzStatus:
    """`moving`: "IDLE", "MOVING" or "UNKNOWN"."""

    position: PtzVector = field(default_factory=PtzVector)
    moving: str = "UNKNOWN"


CLOCK = OnvifRequest("tds", "GetSystemDateAndTime")
INFORMATION = OnvifRequest("tds", "GetDeviceInformation")
CAPABILITIES = OnvifRequest("tds", "GetCapabilities", "<tds:Category>All</tds:Category>")
PROFILES = OnvifRequest("trt", "GetProfiles")


def stream_uri(profile: str) -> OnvifRequest:
    """The address of a profile's video, over RTSP alone."""
    transport = "<tt:Transport><tt:Protocol>RTSP</tt:Protocol></tt:Transport>"
    setup = f"<trt:StreamSetup><tt:Stream>RTP-Unicast</tt:Stream>{transport}</trt:StreamSetup>"
    return OnvifRequest("trt", "GetStreamUri", setup + f"<trt:ProfileToken>{escape(profile)}</trt:ProfileToken>")


def snapshot_uri(profile: str) -> OnvifRequest:
    """The address of a profile's picture."""
    return OnvifRequest("trt", "GetSnapshotUri", f"<trt:ProfileToken>{escape(profile)}</trt:ProfileToken>")


def ptz_status(profile: str) -> OnvifRequest:
    """Where the camera looks."""
    return _ptz("GetStatus", profile)


def absolute_move(profile: str, to: PtzVector) -> OnvifRequest:
    """Turns to a position, as far as it is said."""
    return _ptz("AbsoluteMove", profile, f"<tptz:Position>{_vector(to)}</tptz:Position>")


def relative_move(profile: str, by: PtzVector) -> OnvifRequest:
    """Turns by a distance, as far as it is said."""
    return _ptz("RelativeMove", profile, f"<tptz:Translation>{_vector(by)}</tptz:Translation>")


def continuous_move(profile: str, speed: PtzVector, seconds: float) -> OnvifRequest:
    """At a speed, for so long: a camera whose controller is gone stops by itself."""
    body = f"<tptz:Velocity>{_vector(speed)}</tptz:Velocity><tptz:Timeout>PT{seconds:g}S</tptz:Timeout>"
    return _ptz("ContinuousMove", profile, body)


def stop(profile: str) -> OnvifRequest:
    """Ends all that moves: pan, tilt and zoom."""
    return _ptz("Stop", profile, "<tptz:PanTilt>true</tptz:PanTilt><tptz:Zoom>true</tptz:Zoom>")


def presets(profile: str) -> OnvifRequest:
    """The positions that have names."""
    return _ptz("GetPresets", profile)


def goto_preset(profile: str, token: str) -> OnvifRequest:
    """To a position that has a name."""
    return _ptz("GotoPreset", profile, f"<tptz:PresetToken>{escape(token)}</tptz:PresetToken>")


def set_preset(profile: str, name: str, token: str = "") -> OnvifRequest:
    """Gives a name to where the camera looks now. `token`: of a preset that is overwritten."""
    body = f"<tptz:PresetName>{escape(name)}</tptz:PresetName>"
    if token:
        body += f"<tptz:PresetToken>{escape(token)}</tptz:PresetToken>"
    return _ptz("SetPreset", profile, body)


def _ptz(name: str, profile: str, body: str = "") -> OnvifRequest:
    return OnvifRequest("tptz", name, f"<tptz:ProfileToken>{escape(profile)}</tptz:ProfileToken>{body}")


def _vector(given: PtzVector) -> str:
    text = ""
    if given.pan is not None or given.tilt is not None:
        text += f'<tt:PanTilt x="{given.pan or 0:g}" y="{given.tilt or 0:g}"/>'
    if given.zoom is not None:
        text += f'<tt:Zoom x="{given.zoom:g}"/>'
    return text


# Answers


def clock_of(answer: XmlElement) -> datetime.datetime:
    """The device's time. Raises Invalid."""
    found = answer.first("UTCDateTime") or answer.first("LocalDateTime")
    if found is None:
        raise Invalid("the device does not say what time it is")
    names = (("Date", "Year"), ("Date", "Month"), ("Date", "Day"), ("Time", "Hour"), ("Time", "Minute"))
    try:
        year, month, day, hour, minute = (int(found.value(*name)) for name in names)
        second = min(59, int(found.value("Time", "Second")))
        return datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)
    except (ValueError, OverflowError) as exc:
        raise Invalid(f"the device says a time that is none: {exc}") from exc


def information_of(answer: XmlElement) -> dict[str, str]:
    """manufacturer, model, firmware, serial."""
    names = {"manufacturer": "Manufacturer", "model": "Model", "firmware": "FirmwareVersion", "serial": "SerialNumber"}
    return {key: answer.value(name)[:_MAX_NAME] for key, name in names.items()}


def services_of(answer: XmlElement) -> dict[str, str]:
    """ "trt", "tptz" and "tev" -> the path of the service; those that the device has. Its hosts are left out: many devices say an address that they
    have no more, and none says to whom a password may be shown."""
    found = {}
    for key, name in (("trt", "Media"), ("tptz", "PTZ"), ("tev", "Events")):
        if address := answer.value("Capabilities", name, "XAddr"):
            found[key] = path_of(address)
    return found


def parts_of(address: str) -> SplitResult:
    """A URL in its parts. Raises Invalid for none."""
    try:
        return urlsplit(address)
    except ValueError as exc:
        raise Invalid(f"the device says an address that is none: {exc}") from exc


def path_of(address: str) -> str:
    """Path and query of a URL. Raises Invalid for none."""
    parts = parts_of(address)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if len(path) > 1024 or not all("!" <= c <= "~" for c in path) or not path.startswith("/"):
        raise Invalid("the device says an address that has characters which no URL has")
    return path


def profiles_of(answer: XmlElement) -> list[OnvifProfile]:
    """In the device's order; the first ones, when there are too many."""
    found: list[OnvifProfile] = []
    for one in answer.all("Profiles"):
        token = one.attributes.get("token", "")
        if not token or len(token) > _MAX_NAME or len(found) >= _MAX_PROFILES:
            continue
        encoder = one.first("VideoEncoderConfiguration") or XmlElement("")
        width, height = (_natural(encoder.value("Resolution", name)) for name in ("Width", "Height"))
        has_ptz = one.first("PTZConfiguration") is not None
        name, encoding = one.value("Name")[:_MAX_NAME], encoder.value("Encoding")[:32]
        found.append(OnvifProfile(token, name, encoding, width, height, has_ptz))
    return found


def profile_of(profiles: list[OnvifProfile], wanted: str) -> OnvifProfile:
    """The profile of that token or name; "": the first one whose video can be shown, else the first one that has some. Raises Invalid."""
    if wanted:
        for one in profiles:
            if wanted in (one.token, one.name):
                return one
        known = ", ".join(one.name or one.token for one in profiles)
        raise Invalid(f"profile {wanted[:_MAX_NAME]!r} is none of the device's: {known[:500]}")
    if not profiles:
        raise Invalid("the device has no profiles")
    found = [one for one in profiles if one.encoding]
    return next((one for one in found if one.encoding in _SHOWN), found[0] if found else profiles[0])


def uri_of(answer: XmlElement) -> str:
    """Of GetStreamUri and GetSnapshotUri. Raises Invalid."""
    found = answer.value("Uri")
    if not found or len(found) > 2048:
        raise Invalid("the device says no address")
    return found


def status_of(answer: XmlElement) -> PtzStatus:
    """Where the camera looks, as far as it knows."""
    position = answer.first("Position") or XmlElement("")
    pan, zoom = position.first("PanTilt") or XmlElement(""), position.first("Zoom") or XmlElement("")
    moving = answer.first("MoveStatus") or XmlElement("")
    states = {child.text.strip() for child in moving.children} & {"IDLE", "MOVING", "UNKNOWN"}
    vector = PtzVector(_axis(pan, "x"), _axis(pan, "y"), _axis(zoom, "x"))
    return PtzStatus(vector, next((one for one in ("MOVING", "UNKNOWN", "IDLE") if one in states), "UNKNOWN"))


def presets_of(answer: XmlElement) -> dict[str, str]:
    """Token -> name, which may be ""."""
    found: dict[str, str] = {}
    for one in answer.all("Preset"):
        token = one.attributes.get("token", "")
        if 0 < len(token) <= _MAX_NAME and len(found) < _MAX_PRESETS:
            found[token] = one.value("Name")[:_MAX_NAME]
    return found


def _natural(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0


def _axis(element: XmlElement, name: str) -> float | None:
    try:
        found = float(element.attributes[name])
    except (KeyError, ValueError):
        return None
    return found if math.isfinite(found) else None
