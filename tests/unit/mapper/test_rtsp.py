"""Video: packets that ffmpeg makes, put together here and judged by ffmpeg again; conversations, bounds, and cameras that lie."""

from __future__ import annotations

import asyncio
import base64
import functools
import itertools
import socket
import struct
import subprocess
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeedge.errors import Invalid, PeerError, Refused, Unavailable
from kubeedge.kit.http1 import Request
from kubeedge.kit.streams import abort_writer
from kubeedge.mapper.http_digest import DeviceUser, challenge_of
from kubeedge.mapper.onvif.client import OnvifClient
from kubeedge.mapper.onvif.core import address_of
from kubeedge.mapper.onvif.driver import onvif_mapper
from kubeedge.mapper.onvif.http import CameraHttp
from kubeedge.mapper.onvif.video import CameraVideos
from kubeedge.mapper.rtsp import mp4, page
from kubeedge.mapper.rtsp.core import RtspAnswer, RtspConversation, RtspDemand, RtspPacket, session_of
from kubeedge.mapper.rtsp.driver import RtspVideo, VideoNotShown
from kubeedge.mapper.rtsp.feed import MAX_VIEWERS, VideoFeed, Viewer
from kubeedge.mapper.rtsp.frames import MAX_FRAME, RtpPacket, VideoFrame, rtp_of
from kubeedge.mapper.rtsp.h264 import H264Assembler
from kubeedge.mapper.rtsp.jpeg import JpegAssembler
from kubeedge.mapper.rtsp.sdp import VideoDescription, video_of
from kubeedge.mapper.rtsp.sps import size_of
from kubeedge.mapper.simulated import SimulatedDevice
from kubeedge.mapper.values import MappedDevice
from tests.fuzz.decoders import mutations
from tests.kit.foreign import ffmpeg

URL = "rtsp://192.168.1.9:554/video"
USER = DeviceUser("admin", "secret")
SECONDS, RATE = 2, 10


@functools.cache
def sent(*how: str) -> tuple[str, tuple[bytes, ...]]:
    """(description, packets) of a moving picture that ffmpeg sends by RTP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
        sock.bind(("127.0.0.1", 0))
        source = f"testsrc=size=320x240:rate={RATE}:duration={SECONDS}"
        port = sock.getsockname()[1]
        argv = [
            ffmpeg(),
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            source,
            *how,
            "-f",
            "rtp",
            f"rtp://127.0.0.1:{port}?rtcpport=9",
        ]
        said = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout
        sock.setblocking(False)
        packets = []
        try:
            while True:
                packets.append(sock.recv(65536))
        except BlockingIOError:
            pass
    return said, tuple(packets)


JPEG = ("-pix_fmt", "yuvj420p", "-huffman", "default", "-c:v", "mjpeg", "-q:v", "5")
H264 = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-profile:v", "baseline", "-g", "10", "-bsf:v", "dump_extra")


def frames_of(assembler: JpegAssembler | H264Assembler, packets: Iterable[bytes]) -> list[VideoFrame]:
    return [frame for one in packets if (frame := assembler.packet(rtp_of(one))) is not None]


def decoded(data: bytes, path: Path) -> list[tuple[int, ...]]:
    """(when, width, height, average of brightness) of each picture that ffmpeg finds in a file, without an error."""
    path.write_bytes(data)
    shown = "showinfo"
    argv = [ffmpeg(), "-v", "info", "-nostdin", "-i", str(path), "-vf", shown, "-f", "null", "-"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stderr
    assert "error" not in said.lower() and "invalid" not in said.lower(), said
    found = []
    for line in said.splitlines():
        if "Parsed_showinfo" in line and " pts_time:" in line:
            when, size = line.split("pts_time:")[1].split()[0], line.split(" s:")[1].split()[0]
            found.append((round(float(when) * 1000), *map(int, size.split("x"))))
    return found


def test_jpeg_of_ffmpeg_becomes_files_that_ffmpeg_reads(tmp_path: Path) -> None:
    description, packets = sent(*JPEG)
    video = video_of(description, URL)
    assert (video.encoding, video.payload_type, video.clock, video.control) == ("JPEG", 26, 90000, URL)
    frames = frames_of(JpegAssembler(), packets)
    assert len(frames) == SECONDS * RATE and all(frame.is_key for frame in frames)
    for n, frame in enumerate(frames[:3]):
        assert decoded(frame.data, tmp_path / f"{n}.jpg") == [(0, 320, 240)]


def test_h264_of_ffmpeg_becomes_fragments_that_ffmpeg_reads(tmp_path: Path) -> None:
    description, packets = sent(*H264)
    video = video_of(description, URL)
    assert (video.encoding, video.clock) == ("H264", 90000)
    assembler = H264Assembler(video.parameter_sets)
    frames = frames_of(assembler, packets)
    assert len(frames) == SECONDS * RATE and [frame.is_key for frame in frames[:11]] == [True] + 9 * [False] + [True]
    assert size_of(assembler.parameters.sps) == (320, 240) and assembler.codec.startswith(
        'video/mp4; codecs="avc1.42c0'
    )
    fragments = mp4.Mp4Fragments(90000)
    whole = mp4.start_of(assembler.parameters, 90000) + b"".join(fragments.head_of(f) + f.data for f in frames)
    assert decoded(whole, tmp_path / "x.mp4") == [(100 * n, 320, 240) for n in range(SECONDS * RATE)]


def test_frames_that_are_shown_in_another_order_than_they_come_keep_it(tmp_path: Path) -> None:
    description, packets = sent(
        "-pix_fmt", "yuv420p", "-c:v", "libx264", "-bf", "2", "-g", "10", "-bsf:v", "dump_extra"
    )
    assembler = H264Assembler(video_of(description, URL).parameter_sets)
    frames = frames_of(assembler, packets)
    assert [f.time for f in frames] != sorted(f.time for f in frames)
    fragments = mp4.Mp4Fragments(90000)
    whole = mp4.start_of(assembler.parameters, 90000) + b"".join(fragments.head_of(f) + f.data for f in frames)
    shown = [when for when, _, _ in decoded(whole, tmp_path / "x.mp4")]
    assert len(shown) == SECONDS * RATE and shown == sorted(shown)


def test_a_lost_packet_costs_its_frame_of_jpeg_and_all_up_to_the_next_key_frame_of_h264() -> None:
    packets = sent(*JPEG)[1]
    assert len(frames_of(JpegAssembler(), packets[:1] + packets[2:])) == SECONDS * RATE - 1
    description, packets = sent(*H264)
    without = [p for n, p in enumerate(packets) if n != 4]
    frames = frames_of(H264Assembler(video_of(description, URL).parameter_sets), without)
    assert len(frames) < SECONDS * RATE
    keys = [n for n, frame in enumerate(frames) if frame.is_key]
    assert keys[-1] > 0 and len(frames) - keys[-1] == RATE, "from the next key frame on they are all there"


@pytest.mark.parametrize("seed", range(4))
def test_damaged_packets_are_refused_or_left_out(seed: int) -> None:
    for how, made in ((JPEG, JpegAssembler), (H264, H264Assembler)):
        packets = sent(*how)[1][:40]
        assembler = made()
        for number, packet in enumerate(packets):
            for damaged in mutations(packet, 6, seed * 1000 + number):
                try:
                    frame = assembler.packet(rtp_of(damaged))
                    assert frame is None or len(frame.data) <= MAX_FRAME + 2048
                except PeerError:
                    pass


def test_a_frame_without_end_is_refused() -> None:
    nal = bytes((28 | 0x60, 0x05)) + bytes(60000)  # the middle of a fragment, again and again
    first = bytes((28 | 0x60, 0x85)) + bytes(60000)
    with pytest.raises(PeerError, match="more than"):
        assembler = H264Assembler()
        for n in range(40):
            assembler.packet(RtpPacket(96, n, 0, False, nal if n else first))
    with pytest.raises(PeerError, match="more than"):
        pictures = JpegAssembler()
        for n in range(40):
            head = b"\0" + (60000 * n).to_bytes(3, "big") + bytes((0, 50, 40, 30))
            pictures.packet(RtpPacket(26, n, 0, False, head + bytes(60000)))


@pytest.mark.parametrize("sps", ["67", "6742c01f", "67ffffff" + "00" * 30, "6764001f" + "ff" * 40])
def test_a_parameter_set_that_says_nonsense_is_refused_or_has_a_size(sps: str) -> None:
    try:
        width, height = size_of(bytes.fromhex(sps))
        assert 0 < width <= 16384 and 0 < height <= 16384
    except PeerError:
        pass


def test_a_time_that_begins_again_or_jumps_does_not_stop_the_picture() -> None:
    fragments = mp4.Mp4Fragments(90000)
    times = [0xFFFFFF00, 0xFFFFFF00 + 9000 & 0xFFFFFFFF, 17000, 17000 + 90000 * 3600, 17000 + 90000 * 3600 + 9000]
    decode = []
    for time in times:
        head = fragments.head_of(VideoFrame(b"x", time, True))
        decode.append(struct.unpack_from(">Q", head, head.index(b"tfdt") + 8)[0])
    steps = [b - a for a, b in itertools.pairwise(decode)]
    assert steps[0] == 9000 and steps[3] == 9000 and all(0 < step <= 10 * 90000 for step in steps)


# Conversations

SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nm=audio 0 RTP/AVP 8\r\na=control:track2\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LAH9kAoD2Q,aMuDyyA=\r\n"
    "a=control:{control}\r\n"
)


@pytest.mark.parametrize(
    ("control", "url"),
    [
        ("track1", f"{URL}/track1"),
        ("rtsp://10.9.9.9:99/video/track1", "rtsp://192.168.1.9:554/video/track1"),  # another host's: ours is kept
        ("/x?y=1", "rtsp://192.168.1.9:554/x?y=1"),
        ("*", URL),
    ],
)
def test_a_description_stays_at_its_camera(control: str, url: str) -> None:
    video = video_of(SDP.format(control=control), URL)
    assert video.control == url and video.payload_type == 96 and len(video.parameter_sets) == 2
    assert video.parameter_sets[0] == base64.b64decode("Z0LAH9kAoD2Q")


@pytest.mark.parametrize(
    "text", ["", "m=audio 0 RTP/AVP 8", "m=video 0 RTP/AVP", SDP.format(control="a b"), SDP.replace("90000", "0")]
)
def test_a_description_without_video_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        video_of(text, URL)


answers = st.builds(
    lambda status, body: RtspAnswer(status, "Why", (("cseq", "1"), ("content-length", str(len(body)))), body),
    st.integers(100, 999),
    st.binary(max_size=50),
)
packets = st.builds(RtspPacket, st.integers(0, 255), st.binary(max_size=80))


def wire_of(event: RtspAnswer | RtspPacket) -> bytes:
    if isinstance(event, RtspPacket):
        return struct.pack(">BBH", 0x24, event.channel, len(event.data)) + event.data
    lines = [f"RTSP/1.0 {event.status} {event.reason}", *(f"{name}: {value}" for name, value in event.headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + event.body


@given(st.lists(answers | packets, max_size=8), st.lists(st.integers(1, 40)))
def test_the_network_may_cut_a_conversation_anywhere(events: list[RtspAnswer | RtspPacket], cuts: list[int]) -> None:
    conversation, wire, found = RtspConversation(), b"".join(map(wire_of, events)), []
    for cut in cuts:
        found += conversation.receive_data(wire[:cut])
        wire = wire[cut:]
    assert found + conversation.receive_data(wire) == events


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"RTSP/1.0 2 OK\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nno colon\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 999999\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n" + b"x" * 20000,
        b"\xff" * 20000,
    ],
)
def test_what_is_no_rtsp_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError):
        RtspConversation().receive_data(data)


def test_a_camera_that_asks_is_answered() -> None:
    conversation = RtspConversation()
    (demand,) = conversation.receive_data(b"\r\nOPTIONS * RTSP/1.0\r\nCSeq: 7\r\n\r\n")
    assert demand == RtspDemand("OPTIONS", "7")
    assert conversation.refusal(demand) == b"RTSP/1.0 501 Not Implemented\r\nCSeq: 7\r\n\r\n"


@pytest.mark.parametrize(
    ("value", "found"),
    [("abc", ("abc", 60.0)), ("abc;timeout=10", ("abc", 10.0)), ("abc; timeout = 0", ("abc", 60.0)), ("", ("", 60.0))],
)
def test_how_long_a_session_lasts(value: str, found: tuple[str, float]) -> None:
    assert session_of(RtspAnswer(200, "OK", (("session", value),))) == found


class Camera:
    """RTSP with digest authentication, as RFC 2326 has it, sending packets of ffmpeg's."""

    def __init__(self, description: str, stream: Iterable[bytes], *, nonce: str = "n1") -> None:
        self.description, self.stream, self.nonce = description, list(stream), nonce
        self.asked: list[str] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                method, url, _ = head.split(" ", 2)
                self.asked.append(method)
                number = head.lower().split("cseq:")[1].split()[0]
                challenge = challenge_of([f'Digest realm="cam", nonce="{self.nonce}"'], USER)
                expected = challenge.authorization(USER, method, url, "")
                if f"Authorization: {expected}" not in head:
                    refusal = f'WWW-Authenticate: Basic realm="cam"\r\nWWW-Authenticate: Digest realm="cam", nonce="{self.nonce}"'
                    writer.write(f"RTSP/1.0 401 Unauthorized\r\nCSeq: {number}\r\n{refusal}\r\n\r\n".encode())
                    continue
                body = self.description if method == "DESCRIBE" else ""
                more = "Session: 12;timeout=4\r\n" if method != "DESCRIBE" else ""
                writer.write(
                    f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}".encode()
                )
                if method == "PLAY":
                    for packet in self.stream:
                        writer.write(struct.pack(">BBH", 0x24, 0, len(packet)) + packet)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def test_a_video_with_a_password_is_played_and_ended() -> None:
    description, stream = sent(*JPEG)

    async def run() -> None:
        camera = Camera(description, stream)
        async with asyncio.timeout(30):
            server = await asyncio.start_server(camera.serve, "127.0.0.1", 0)
            async with server:
                url = f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/video"
                video = await RtspVideo.open(url, USER, 10.0)
                found = 0
                frames = video.frames()
                async for _ in frames:
                    found += 1
                    if found == SECONDS * RATE:
                        break
                await frames.aclose()
                await video.aclose()
                while camera.asked[-1] != "TEARDOWN":
                    await asyncio.sleep(0.01)
                assert camera.asked == ["DESCRIBE", "DESCRIBE", "SETUP", "PLAY", "TEARDOWN"]
                with pytest.raises(Refused, match="DESCRIBE: the camera refuses its video to this user"):
                    await RtspVideo.open(url, DeviceUser("admin", "wrong"), 10.0)
                with pytest.raises(Refused, match="userName and password are missing"):
                    await RtspVideo.open(url, None, 10.0)

    asyncio.run(run())


def test_a_camera_without_onvif_has_its_video_and_nothing_else() -> None:
    description, stream = sent(*JPEG)
    properties = {name: {"type": "STRING"} for name in ("encoding", "model", "position")}

    async def run() -> None:
        camera = Camera(description, stream)
        async with asyncio.timeout(30):
            server = await asyncio.start_server(camera.serve, "127.0.0.1", 0)
            async with server:
                url = f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/video?x=1"
                config = {"url": url, "userName": "admin", "password": "secret"}
                async with SimulatedDevice(onvif_mapper(), properties, config=config) as device:
                    assert await device.read("encoding") == "JPEG"
                    assert await device._client.client.stream_uri() == url
                    for name in ("model", "position"):
                        with pytest.raises(Invalid, match="by rtsp alone|does not say"):
                            await device.read(name)
                    with pytest.raises(Invalid, match="by rtsp alone"):
                        await device.write("position", "0,0,0")
                with pytest.raises(Refused):
                    async with SimulatedDevice(onvif_mapper(), properties, config={**config, "password": "wrong"}):
                        pass

    asyncio.run(run())


def test_a_video_that_no_browser_plays_is_said_so_and_the_page_has_pictures() -> None:
    description, stream = sent("-c:v", "libx265", "-x265-params", "log-level=none")

    async def none() -> AsyncIterator[bytes]:
        return
        yield b""

    async def run() -> None:
        camera = Camera(description, stream)
        async with asyncio.timeout(30):
            server = await asyncio.start_server(camera.serve, "127.0.0.1", 0)
            async with server:
                url = f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/video"
                feed = VideoFeed("default/gate", lambda: RtspVideo.open(url, USER, 10.0))
                for _ in range(2):
                    with pytest.raises(VideoNotShown, match="is H.265: JPEG and H.264 can be shown"):
                        await feed.join()
                videos = CameraVideos("127.0.0.1", 0)
                address = address_of(MappedDevice("default/gate", "onvif", {"url": "127.0.0.1"}, {}))
                videos.add("default/gate", OnvifClient(address, CameraHttp.make(address)))
                videos._cameras["default/gate"].feed = feed
                answer = await videos.handle(Request("GET", "/default/gate/stream", [], lambda name: None, none()))
                assert answer.status == 406 and b"H.265" in answer.body  # type: ignore[operator]
                text = page.page_of("default/gate")
                assert b"answer.status === 406" in text and b"snapshot.jpg?" in text

    asyncio.run(run())


def test_digests_of_the_standards() -> None:
    """RFC 2617 section 3.5, RFC 7616 section 3.9.1."""
    old = 'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    proof = challenge_of([old], DeviceUser("Mufasa", "Circle Of Life")).authorization(
        DeviceUser("Mufasa", "Circle Of Life"), "GET", "/dir/index.html", "0a4f113b"
    )
    assert 'response="6629fae49393a05397450978507c4ef1"' in proof and "nc=00000001" in proof
    both = [
        f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={name}, '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
        for name in ("MD5", "SHA-256")
    ]
    mufasa, cnonce = DeviceUser("Mufasa", "Circle of Life"), "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    for given_, response in (
        (both, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        (both[:1], "8ca523f5e9506fed4657c9700eebdbec"),
    ):
        proof = challenge_of(given_, mufasa).authorization(mufasa, "GET", "/dir/index.html", cnonce)
        assert f'response="{response}"' in proof


@pytest.mark.parametrize(
    ("headers", "user", "why"),
    [
        (['Basic realm="x"'], USER, "allowBasic"),
        (['Basic realm="x"'], None, "userName and password are missing"),
        (['Digest realm="x", nonce="y", algorithm=SHA-512-256'], USER, "not known here"),
        (['Digest realm="x"'], USER, "not known here"),
        (['Digest realm="x\r\nX: y", nonce="z"'], USER, "not known here"),
        (["Negotiate"], USER, "not known here"),
    ],
)
def test_what_no_password_is_shown_to(headers: list[str], user: DeviceUser | None, why: str) -> None:
    with pytest.raises(Refused, match=why):
        challenge_of(headers, user)


# Who looks


class Played(RtspVideo):
    """A video without a camera."""

    def __init__(self, frames: list[VideoFrame], ends: bool) -> None:
        self.description = VideoDescription(26, "JPEG", 90000, "")
        self.assembler = JpegAssembler()
        self._frames, self._ends = frames, ends
        self.is_closed = self.is_prompt = False

    async def frames(self) -> AsyncGenerator[VideoFrame, None]:
        for frame in self._frames:
            yield frame
            if not self.is_prompt:
                await asyncio.sleep(0)
        if not self._ends:
            await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.is_closed = True


def test_a_camera_is_fetched_once_for_all_and_not_at_all_for_nobody() -> None:
    opened: list[Played] = []

    async def open() -> RtspVideo:
        opened.append(Played([VideoFrame(b"1", 0, True)], ends=False))
        return opened[-1]

    async def run() -> None:
        feed = VideoFeed("default/gate", open)
        viewers = await asyncio.gather(*(feed.join() for _ in range(MAX_VIEWERS)))
        assert len(opened) == 1 and feed.is_running
        with pytest.raises(Unavailable, match="8 are looking at it already"):
            await feed.join()
        for viewer in viewers[1:]:
            await feed.leave(viewer)
        assert not opened[0].is_closed
        await feed.leave(viewers[0])
        assert opened[0].is_closed and not feed.is_running
        await feed.leave(await feed.join())
        assert len(opened) == 2

    asyncio.run(run())


def test_a_camera_that_ends_or_refuses_is_told_to_who_looks() -> None:
    async def refuses() -> RtspVideo:
        raise Refused("the camera refuses its video to this user")

    async def ends() -> RtspVideo:
        return Played([VideoFrame(b"1", 0, True)], ends=True)

    async def run() -> None:
        with pytest.raises(Unavailable, match="default/gate: the camera refuses its video"):
            await VideoFeed("default/gate", refuses).join()
        feed = VideoFeed("default/gate", ends)
        viewer = await feed.join()
        assert await viewer.next() is not None and await viewer.next() is None
        await feed.leave(viewer)

    asyncio.run(run())


def test_who_comes_while_the_last_one_leaves_sees_a_video_of_its_own() -> None:
    opened: list[Played] = []

    async def open() -> RtspVideo:
        opened.append(Played([VideoFrame(b"1", 0, True)], ends=False))
        return opened[-1]

    async def run() -> None:
        feed = VideoFeed("default/gate", open)
        first = await feed.join()
        leaving = asyncio.create_task(feed.leave(first))
        await asyncio.sleep(0)
        second = await feed.join()
        await leaving
        assert await second.next() is not None and feed.is_running and len(opened) == 2
        waiting = asyncio.create_task(second.next())
        await asyncio.sleep(0)
        assert not waiting.done(), "it has not ended with the one before"
        await feed.leave(second)
        assert await waiting is None and opened[1].is_closed

    asyncio.run(run())


def test_a_moving_picture_begins_with_its_key_frame_however_fast_the_others_come() -> None:
    description = video_of(sent(*H264)[0], URL)

    async def open() -> RtspVideo:
        made = Played([VideoFrame(b"key", 0, True), *(VideoFrame(b"more", n, False) for n in range(1, 9))], ends=False)
        made.assembler = H264Assembler(description.parameter_sets)
        made.is_prompt = True
        return made

    async def run() -> None:
        feed = VideoFeed("default/gate", open)
        viewer = await feed.join()
        assert [(await viewer.next()).time for _ in range(9)] == list(range(9))  # type: ignore[union-attr]
        await feed.leave(viewer)

    asyncio.run(run())


def test_who_is_slow_misses_frames_and_takes_no_memory() -> None:
    async def run() -> None:
        still = Viewer(is_still=True)
        for n in range(100):
            still.put(VideoFrame(b"x" * 1000, n, True))
        newest = await still.next()
        assert newest is not None and newest.time == 99 and still.missed == 99
        moving = Viewer(is_still=False)
        for n in range(1001):
            moving.put(VideoFrame(bytes(100_000), n, n % 50 == 0))
            assert moving._bytes <= 2 * 1024 * 1024
        first = await moving.next()
        assert first is not None and first.is_key, "what it gets begins with a frame that can be shown"

    asyncio.run(run())


def test_the_page_shows_names_and_no_markup() -> None:
    assert b"<b>" not in page.page_of("<b>") and b"&lt;b&gt;" in page.page_of("<b>")
    assert b'href="a/b/"' in page.list_of(["a/b"]) and b"<i>" not in page.list_of(["<i>"])


def test_packets_without_data_take_no_memory() -> None:
    assembler = JpegAssembler()

    def packet(n: int, offset: int, data: bytes) -> RtpPacket:
        return RtpPacket(26, n & 0xFFFF, 0, False, b"\0" + offset.to_bytes(3, "big") + bytes((1, 50, 2, 2)) + data)

    assembler.packet(packet(0, 0, b"x"))
    tracemalloc.start()
    try:
        for n in range(1, 50_000):
            assert assembler.packet(packet(n, 1, b"")) is None
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()


def test_a_time_that_goes_back_and_back_has_a_fragment_all_the_same() -> None:
    clock, time = 9_999_999, 0
    fragments = mp4.Mp4Fragments(clock)
    for step in [0] + 40 * [10 * clock] + 400 * [1 - clock]:
        time = (time + step) & 0xFFFFFFFF
        assert fragments.head_of(VideoFrame(b"x", time, True)).endswith(b"mdat")


def test_a_message_that_comes_byte_by_byte_is_not_read_anew_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    message = RtspConversation._message

    def counted(self: RtspConversation, at: int, head_end: int) -> object:
        nonlocal read
        read += 1
        return message(self, at, head_end)

    monkeypatch.setattr(RtspConversation, "_message", counted)
    conversation = RtspConversation()
    head = b"ANNOUNCE x RTSP/1.0\r\nCSeq: 7\r\n" + 500 * b"X: y\r\n" + b"Content-Length: 20000\r\n\r\n"
    assert conversation.receive_data(b"$\0\0\1x" + head) == [RtspPacket(0, b"x")]
    assert not [event for _ in range(19_999) for event in conversation.receive_data(b"z")]
    assert conversation.receive_data(b"z$\0\0\1y") == [RtspDemand("ANNOUNCE", "7"), RtspPacket(0, b"y")]
    assert read == 2


class Demanding(Camera):
    """Makes demands without end once it plays, and reads no answer."""

    sent = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def until_play() -> None:
            while b"PLAY " not in (head := await reader.readuntil(b"\r\n\r\n")):
                body = self.description if head.startswith(b"DESCRIBE") else ""
                writer.write(f"RTSP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

        try:
            await until_play()
            writer.write(b"RTSP/1.0 200 OK\r\n\r\n")
            while True:
                writer.write(3000 * b"A B RTSP/1.0\r\n\r\n")
                await writer.drain()
                self.sent += 1
        except ConnectionError:
            pass
        finally:
            writer.close()


def test_a_camera_that_asks_and_takes_no_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeedge.mapper.rtsp.driver._SILENCE", 1.0)
    description, _ = sent(*JPEG)

    async def run() -> None:
        camera = Demanding(description, ())
        server = await asyncio.start_server(camera.serve, "127.0.0.1", 0)
        async with asyncio.timeout(60), server:
            video = await RtspVideo.open(f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/video", None, 10.0)
            with pytest.raises(TimeoutError):
                async for _ in video.frames():
                    pass
            assert video._writer.transport.get_write_buffer_size() < 1024 * 1024
            abort_writer(video._writer)

    asyncio.run(run())
