"""One ONVIF camera: its services, its profile, where it looks."""

from __future__ import annotations

import datetime
import os
import time
from urllib.parse import urlsplit

from kubeedge.errors import Invalid, PeerError, Refused
from kubeedge.mapper.onvif import messages, soap
from kubeedge.mapper.onvif.core import MAX_PICTURE, OnvifAddress
from kubeedge.mapper.onvif.elements import MAX_BYTES, XmlElement
from kubeedge.mapper.onvif.http import CameraHttp, HttpPlace
from kubeedge.mapper.onvif.messages import OnvifProfile, OnvifRequest, PtzStatus

_PORTS = {"http": 80, "https": 443}
_LAST = datetime.datetime.max.replace(microsecond=0, tzinfo=datetime.UTC).timestamp()  # the last second of year 9999


class OnvifClient:
    """What `open` gives knows the camera's services and its profile."""

    def __init__(self, address: OnvifAddress, http: CameraHttp) -> None:
        self.address = address
        self.profile = OnvifProfile("", "")
        self.has_ptz = False
        self.information: dict[str, str] = {}
        self._http = http
        self._paths = {"tds": address.path}
        self._offset = 0.0  # seconds that the camera's clock is ahead of ours
        self._stream = ""

    @staticmethod
    async def open(address: OnvifAddress) -> OnvifClient:
        """Raises Invalid for a camera that has no such profile, Refused when it does not know the user, OSError and PeerError."""
        client = OnvifClient(address, CameraHttp.make(address))
        try:
            await client._begin()
        except BaseException:
            await client.aclose()
            raise
        return client

    async def _begin(self) -> None:
        try:
            told = messages.clock_of(await self.ask(messages.CLOCK, is_open=True))
            self._offset = told.timestamp() - time.time()
        except (Invalid, Refused):
            pass  # it should tell everybody, and some do not; then the clocks have to agree
        self._paths |= messages.services_of(await self.ask(messages.CAPABILITIES))
        profiles = messages.profiles_of(await self.ask(messages.PROFILES))
        self.profile = messages.profile_of(profiles, self.address.profile)
        self.has_ptz = "tptz" in self._paths and self.profile.has_ptz
        self.information = messages.information_of(await self.ask(messages.INFORMATION))

    async def ask(self, request: OnvifRequest, *, is_open: bool = False) -> XmlElement:
        """The answer's element; `is_open`: nobody has to be known for it. Raises OnvifFault and Invalid for what the camera does not do, Refused
        when it does not know the user, OSError and PeerError when the connection is of no use."""
        return (await self.answered(request, self._http, self.path_of(request), is_open=is_open))[0]

    def path_of(self, request: OnvifRequest) -> str:
        """Of the service that a request is for. Raises Invalid when the camera does not have it."""
        if (path := self._paths.get(request.service)) is None:
            raise Invalid("the camera has no such service")
        return path

    async def answered(
        self, request: OnvifRequest, http: CameraHttp, path: str, header: str = "", *, is_open: bool = False
    ) -> tuple[XmlElement, bytes]:
        """The answer's element, and the whole answer, over this connection. Raises as `ask`."""
        security, user = "", self.address.user
        if user is not None and not is_open:
            now = datetime.datetime.fromtimestamp(min(time.time() + self._offset, _LAST), datetime.UTC)
            security = soap.username_token(
                user.user,
                user.password,
                os.urandom(16),
                f"{now.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z",
            )
        kind = f'{soap.CONTENT_TYPE}; action="{request.action}"'
        status, data = await http.ask("POST", path, MAX_BYTES, soap.envelope(request.xml, header + security), kind)
        try:
            if status not in (200, 400, 500):  # SOAP has faults in 400 and 500
                raise Invalid(f"{request.name}: the camera answers {status}")
            return soap.answer(data, request.answer), data
        except (Invalid, PeerError) as exc:
            if status in (401, 403) or (isinstance(exc, soap.OnvifFault) and exc.is_of_sender):
                why = "is refused" if user else "is missing"
                raise Refused(f"{request.name}: the user of the camera {why}, or its clock is wrong") from exc
            if isinstance(exc, PeerError) and status != 200:
                raise Invalid(f"{request.name}: the camera answers {status}") from exc
            raise

    async def stream_uri(self) -> str:
        """The address of the video: rtsp://HOST:PORT/..., with the Device's host. Asked once."""
        if not self._stream:
            found = messages.parts_of(messages.uri_of(await self.ask(messages.stream_uri(self.profile.token))))
            if found.scheme not in ("rtsp", "rtsps"):
                raise Invalid(f"the camera's video is by {found.scheme[:16] or 'nothing'}, and not by rtsp")
            host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
            port = f":{_port_of(found.netloc, 554)}"
            self._stream = f"{found.scheme}://{host}{port}{messages.path_of(found.geturl())}"
        return self._stream

    async def encoding(self) -> str:
        """Of the video, as the camera calls it: "H264", "JPEG"; "" where it does not say."""
        return self.profile.encoding

    async def snapshot(self) -> bytes:
        """A picture, mostly JPEG. Raises as `ask`."""
        uri = messages.uri_of(await self.ask(messages.snapshot_uri(self.profile.token)))
        parts = messages.parts_of(uri)
        if parts.scheme not in _PORTS:
            raise Invalid("the camera's picture is not at an address of HTTP")
        place = HttpPlace(_port_of(parts.netloc, _PORTS[parts.scheme]), parts.scheme == "https")
        status, data = await self._http.ask("GET", messages.path_of(uri), MAX_PICTURE, place=place)
        if status != 200:
            raise Invalid(f"the camera answers {status} instead of a picture")
        return data

    async def status(self) -> PtzStatus:
        """Where the camera looks."""
        return messages.status_of(await self.ask(messages.ptz_status(self.profile.token)))

    async def presets(self) -> dict[str, str]:
        """Token -> name, of the positions that have one. Raises as `ask`."""
        return messages.presets_of(await self.ask(messages.presets(self.profile.token)))

    async def aclose(self) -> None:
        """Ends the connection to the camera."""
        await self._http.aclose()


def _port_of(netloc: str, default: int) -> int:
    """Raises Invalid."""
    try:
        return urlsplit(f"//{netloc}").port or default
    except ValueError as exc:
        raise Invalid(f"the camera says an address that is none: {exc}") from exc
