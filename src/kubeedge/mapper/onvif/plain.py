"""A camera that is known by the address of its video alone (`url: rtsp://...`): no ONVIF, so that it neither turns nor says what it is."""

from __future__ import annotations

from kubeedge.errors import Invalid
from kubeedge.mapper.onvif.client import OnvifClient
from kubeedge.mapper.onvif.core import OnvifAddress
from kubeedge.mapper.onvif.elements import XmlElement
from kubeedge.mapper.onvif.http import CameraHttp
from kubeedge.mapper.onvif.messages import OnvifProfile, OnvifRequest
from kubeedge.mapper.rtsp.driver import RtspVideo


class PlainCamera(OnvifClient):
    """Its `encoding` is read anew each time, which shows whether it is there."""

    @staticmethod
    async def open(address: OnvifAddress) -> PlainCamera:
        """Raises Invalid for a camera without a video that can be shown, Refused when it does not know the user, OSError and PeerError."""
        camera = PlainCamera(address, CameraHttp.make(address))
        await camera.encoding()
        return camera

    async def ask(self, request: OnvifRequest, *, is_open: bool = False) -> XmlElement:
        """Raises Invalid, whatever is asked for."""
        raise Invalid("the Device knows the camera by rtsp alone: what ONVIF says is not there")

    async def stream_uri(self) -> str:
        """What the Device says."""
        host = f"[{self.address.host}]" if ":" in self.address.host else self.address.host
        return f"{'rtsps' if self.address.is_tls else 'rtsp'}://{host}:{self.address.port}{self.address.path}"

    async def encoding(self) -> str:
        """Of its video, which is not played. Raises as `open`."""
        address = self.address
        found = await RtspVideo.describe(await self.stream_uri(), address.user, address.timeout, address.ca_file)
        self.profile = OnvifProfile("", "", found.encoding)
        return found.encoding
