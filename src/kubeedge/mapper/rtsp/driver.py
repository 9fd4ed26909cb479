"""One video of a camera: an RTSP connection from its description to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kubeedge.errors import Invalid, PeerError, Refused
from kubeedge.kit.streams import abort_writer, close_writer
from kubeedge.mapper.http_digest import DeviceUser, DigestChallenge, challenge_of
from kubeedge.mapper.rtsp.core import RtspAnswer, RtspConversation, RtspDemand, RtspPacket, session_of
from kubeedge.mapper.rtsp.frames import FrameAssembler, VideoFrame, rtp_of
from kubeedge.mapper.rtsp.h264 import H264Assembler
from kubeedge.mapper.rtsp.jpeg import JpegAssembler
from kubeedge.mapper.rtsp.sdp import VideoDescription, video_of

if TYPE_CHECKING:
    import ssl

_READ = 64 * 1024  # bytes of the buffer
_SILENCE = 15.0  # seconds without a packet after which a camera is away
_MAX_UNASKED = 256  # packets that may come before an answer


class VideoNotShown(Invalid):
    """The camera has a video, of a kind that is not passed on."""


class RtspVideo:
    """What `open` gives is playing. Memory: one packet, and one frame that is put together."""

    def __init__(
        self,
        url: str,
        user: DeviceUser | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        timeout: float,
    ) -> None:
        self._url = url
        self._user = user
        self._reader, self._writer = reader, writer
        self._timeout = timeout
        self._conversation = RtspConversation()
        self._challenge: DigestChallenge | None = None
        self._early: list[RtspPacket] = []
        self._session = ""
        self._keepalive = 30.0
        self.description = VideoDescription(0, "", 90000, "")
        self.assembler: FrameAssembler = JpegAssembler()

    @staticmethod
    async def open(url: str, user: DeviceUser | None, timeout: float, ca_file: str = "") -> RtspVideo:
        """`url`: rtsp:// or rtsps://HOST:PORT/..., without a user. `timeout`: seconds for each answer. Raises Invalid for a camera without a video
        that can be shown, Refused when it does not know the user, OSError and PeerError."""
        video = await RtspVideo._connect(url, user, timeout, ca_file)
        try:
            await video._describe()
            await video._play()
        except BaseException:
            abort_writer(video._writer)
            raise
        return video

    @staticmethod
    async def describe(url: str, user: DeviceUser | None, timeout: float, ca_file: str = "") -> VideoDescription:
        """What the camera says of its video, which is not played. Raises as `open`."""
        video = await RtspVideo._connect(url, user, timeout, ca_file)
        try:
            await video._describe()
        finally:
            abort_writer(video._writer)
        return video.description

    @staticmethod
    async def _connect(url: str, user: DeviceUser | None, timeout: float, ca_file: str) -> RtspVideo:
        parts = urlsplit(url)
        context: ssl.SSLContext | None = None
        if parts.scheme == "rtsps":
            import ssl

            context = ssl.create_default_context(cafile=ca_file or None)
        name = parts.hostname if context else None
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or 554, ssl=context, server_hostname=name, limit=_READ
            )
        return RtspVideo(url, user, reader, writer, timeout)

    async def _describe(self) -> None:
        described = await self._ask("DESCRIBE", self._url, (("Accept", "application/sdp"),))
        # what the camera says of its own address is not asked for: it stays where the Device says
        self.description = video_of(described.body.decode("utf-8", "replace"), self._url)
        match self.description.encoding:
            case "JPEG":
                self.assembler = JpegAssembler()
            case "H264":
                self.assembler = H264Assembler(self.description.parameter_sets)
            case other:
                shown = {"H265": "H.265"}.get(other, other[:32])
                raise VideoNotShown(f"the camera's video is {shown or 'of no known kind'}: JPEG and H.264 can be shown")

    async def _play(self) -> None:
        transport = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1")
        answer = await self._ask("SETUP", self.description.control, (transport,))
        self._session, seconds = session_of(answer)
        self._keepalive = max(1.0, seconds / 2)
        await self._ask("PLAY", self._url, (("Range", "npt=0.000-"),))

    async def frames(self) -> AsyncGenerator[VideoFrame, None]:
        """Until the camera ends it. Raises OSError and PeerError."""
        loop = asyncio.get_running_loop()
        speak_at = loop.time() + self._keepalive
        for packet in self._early:
            if (frame := self._frame(packet)) is not None:
                yield frame
        self._early.clear()
        while True:
            async with asyncio.timeout(_SILENCE):
                data = await self._reader.read(_READ)
            if not data:
                raise EOFError
            for event in self._conversation.receive_data(data):
                if isinstance(event, RtspDemand):
                    self._writer.write(self._conversation.refusal(event))
                elif isinstance(event, RtspPacket) and (frame := self._frame(event)) is not None:
                    yield frame
            if loop.time() >= speak_at:
                speak_at = loop.time() + self._keepalive
                self._say("OPTIONS", self._url)
            async with asyncio.timeout(_SILENCE):
                await self._writer.drain()  # a camera that takes no answers makes no more demands

    def _frame(self, packet: RtspPacket) -> VideoFrame | None:
        if packet.channel != 0:
            return None  # RTCP
        rtp = rtp_of(packet.data)
        return self.assembler.packet(rtp) if rtp.payload_type == self.description.payload_type else None

    async def aclose(self) -> None:
        """Says that it is over, and does not wait for an answer."""
        with contextlib.suppress(OSError):
            if self._session and not self._writer.is_closing():
                self._say("TEARDOWN", self._url)
        await close_writer(self._writer)

    def _say(self, method: str, url: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        if self._session:
            headers = (*headers, ("Session", self._session))
        if self._challenge is not None and self._user is not None:
            proof = self._challenge.authorization(self._user, method, url, os.urandom(8).hex())
            headers = (*headers, ("Authorization", proof))
        self._writer.write(self._conversation.request(method, url, headers))

    async def _ask(self, method: str, url: str, headers: tuple[tuple[str, str], ...] = ()) -> RtspAnswer:
        async with asyncio.timeout(self._timeout):
            for is_last in (False, True):
                self._say(method, url, headers)
                answer = await self._answer()
                if answer.status != 401 or is_last:
                    break
                wanted = [value for name, value in answer.headers if name == "www-authenticate"]
                self._challenge = challenge_of(wanted, self._user)
        if answer.status in (401, 403):
            raise Refused(f"{method}: the camera refuses its video to this user")
        if answer.status != 200:
            raise Invalid(f"{method}: the camera answers {answer.status} {answer.reason}")
        return answer

    async def _answer(self) -> RtspAnswer:
        """The next one; what has come with it is kept."""
        while True:
            if not (data := await self._reader.read(_READ)):
                raise EOFError
            events = self._conversation.receive_data(data)
            found = None
            for event in events:
                if isinstance(event, RtspAnswer) and found is None:
                    found = event
                elif isinstance(event, RtspDemand):
                    self._writer.write(self._conversation.refusal(event))
                elif isinstance(event, RtspPacket):
                    self._early.append(event)
                    if len(self._early) > _MAX_UNASKED:
                        raise PeerError("the camera sends before it is asked to")
            await self._writer.drain()
            if found is not None:
                return found
