"""The video of cameras by HTTP, for browsers: what `kubeedge publish` or a Service with `kubeedge.io/publish` leads to.

/NAMESPACE/NAME/ is a page; `stream` beside it is multipart/x-mixed-replace of JPEG, or fragmented MP4 of H.264, without an end; `snapshot.jpg` is a
picture. A camera is shown when its Device says `video: true`. Who may look is decided where it is published.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from kubeedge.errors import KubeEdgeError, Unavailable
from kubeedge.kit.acceptor import Accepted, Acceptor, in_tasks, open_streams
from kubeedge.kit.connection_limiter import ConnectionLimits
from kubeedge.kit.http1 import Limits, Request, Response, serve_connection, text_response
from kubeedge.kit.streams import listening_socket
from kubeedge.kit.tasks import TaskSet
from kubeedge.mapper.onvif.client import OnvifClient
from kubeedge.mapper.rtsp import mp4, page
from kubeedge.mapper.rtsp.driver import RtspVideo, VideoNotShown
from kubeedge.mapper.rtsp.feed import VideoFeed, Viewer

log = logging.getLogger("kubeedge.mapper.onvif")

_CONNECTIONS = ConnectionLimits(silent=32, queued=32, unauthenticated=64)
_LIMITS = Limits(header_bytes=8 * 1024, headers=64, idle=20.0, stall=20.0)
_FEEDS = 8  # cameras whose video is fetched at the same time
_FRESH = 1.0  # seconds for which a picture is good for all
_BOUNDARY = "kubeedge-frame"
_NEVER_KEPT = [("cache-control", "no-store"), ("x-content-type-options", "nosniff")]
_HTML = [
    ("content-type", "text/html; charset=utf-8"),
    (
        "content-security-policy",
        "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; media-src blob: 'self'",
    ),
    *_NEVER_KEPT,
]


class _ShownCamera:
    def __init__(self, name: str, client: OnvifClient) -> None:
        self.client = client
        self.feed = VideoFeed(name, self._open)
        self._picture: tuple[float, bytes] = (-_FRESH, b"")
        self._turn = asyncio.Lock()

    async def _open(self) -> RtspVideo:
        address = self.client.address
        return await RtspVideo.open(await self.client.stream_uri(), address.user, address.timeout, address.ca_file)

    async def snapshot(self) -> bytes:
        """One for all who ask within a second."""
        async with self._turn:
            now = asyncio.get_running_loop().time()
            at, data = self._picture
            if now - at >= _FRESH:
                data = await self.client.snapshot()
                self._picture = now, data
            return data


class CameraVideos:
    """Port 0 lets the kernel choose; `bound` is what it chose."""

    def __init__(self, address: str, port: int) -> None:
        self._address, self._port = address, port
        self._cameras: dict[str, _ShownCamera] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.bound = 0

    def add(self, name: str, client: OnvifClient) -> None:
        """A camera is connected. `name`: NAMESPACE/NAME."""
        self._cameras[name] = _ShownCamera(name, client)

    def remove(self, name: str, client: OnvifClient) -> None:
        """Its connection has ended, unless it has another one already."""
        if (camera := self._cameras.get(name)) is not None and camera.client is client:
            del self._cameras[name]
            task = asyncio.create_task(camera.feed.aclose())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError when the address cannot be bound."""
        with listening_socket(self._address, self._port) as listener:
            async with TaskSet("video connections") as tasks:
                self.bound = listener.getsockname()[1]
                log.info("the video of cameras is at http://%s:%d", self._address, self.bound)
                try:
                    await Acceptor(_CONNECTIONS, in_tasks(tasks, self._serve, "video connection")).run([listener])
                finally:
                    for camera in self._cameras.values():
                        await camera.feed.aclose()

    async def _serve(self, accepted: Accepted) -> None:
        try:
            reader, writer = await open_streams(accepted.socket)
        except OSError:
            return
        await serve_connection(reader, writer, self.handle, limits=_LIMITS)

    async def handle(self, request: Request) -> Response:
        """A page, a stream or a picture."""
        if request.method not in ("GET", "HEAD"):
            return text_response(405, "GET\n", [("allow", "GET, HEAD")])
        path = request.path.lstrip("/")
        if not path:
            return Response(200, list(_HTML), page.list_of(sorted(self._cameras)))
        name, slash, what = path.rpartition("/")
        camera = self._cameras.get(name)
        if camera is None and path in self._cameras:
            return Response(307, [("location", f"{path.rpartition('/')[2]}/"), *_NEVER_KEPT])
        if camera is None or not slash or what not in ("", "stream", "snapshot.jpg"):
            return text_response(404, "there is no such camera, or it is not connected\n")
        try:
            match what:
                case "":
                    return Response(200, list(_HTML), page.page_of(name))
                case "snapshot.jpg":
                    data = await camera.snapshot()
                    return Response(200, [("content-type", "image/jpeg"), *_NEVER_KEPT], data)
            if request.method == "HEAD":
                return text_response(405, "GET\n", [("allow", "GET")])
            return await self._stream(camera)
        except VideoNotShown as exc:  # the page shows pictures then
            return text_response(406, f"{exc}\n", _NEVER_KEPT)
        except Unavailable as exc:
            return text_response(503, f"{exc}\n", [("retry-after", "2")])
        except (OSError, EOFError, KubeEdgeError) as exc:
            return text_response(502, f"{str(exc) or 'the camera does not answer'}\n")

    async def _stream(self, camera: _ShownCamera) -> Response:
        feed = camera.feed
        if not feed.is_running and sum(one.feed.is_running for one in self._cameras.values()) >= _FEEDS:
            raise Unavailable(f"the video of {_FEEDS} cameras is fetched already")
        viewer = await feed.join()
        start = f"multipart/x-mixed-replace; boundary={_BOUNDARY}", b""
        if feed.parameters is not None:
            try:
                start = feed.codec, mp4.start_of(feed.parameters, feed.clock)
            except KubeEdgeError:
                await feed.leave(viewer)
                raise
        return Response(200, [("content-type", start[0]), *_NEVER_KEPT], _VideoBody(feed, viewer, start[1]))


class _VideoBody:
    """What a client gets. Not a generator: one that was not begun does not notice that it is closed, and its viewer would stay."""

    def __init__(self, feed: VideoFeed, viewer: Viewer, start: bytes) -> None:
        self._feed, self._viewer = feed, viewer
        self._fragments = mp4.Mp4Fragments(feed.clock) if start else None
        self._pieces: deque[bytes] = deque(filter(None, (start,)))

    def __aiter__(self) -> _VideoBody:
        return self

    async def __anext__(self) -> bytes:
        if not self._pieces:
            if (frame := await self._viewer.next()) is None:
                raise StopAsyncIteration
            if self._fragments is not None:
                self._pieces.extend((self._fragments.head_of(frame), frame.data))
            else:
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(frame.data)}\r\n\r\n"
                self._pieces.extend((head.encode(), frame.data, b"\r\n"))
        return self._pieces.popleft()

    async def aclose(self) -> None:
        """The client is gone, or there is no more."""
        await self._feed.leave(self._viewer)
