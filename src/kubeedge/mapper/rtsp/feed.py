"""The video of one camera for all who look at it: it is fetched once, and while nobody looks not at all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from kubeedge.errors import KubeEdgeError, PeerError, Unavailable
from kubeedge.kit.tasks import cancel_and_wait
from kubeedge.mapper.rtsp.driver import RtspVideo, VideoNotShown
from kubeedge.mapper.rtsp.frames import VideoFrame
from kubeedge.mapper.rtsp.h264 import H264Assembler, H264Parameters

log = logging.getLogger("kubeedge.mapper.rtsp")

MAX_VIEWERS = 8  # of a camera
_BEGIN = 20.0  # seconds for the first frame
_QUEUE = 2 * 1024 * 1024  # bytes that wait for a viewer, who else misses frames
_FAR = 128  # frames, likewise


class Viewer:
    """Frames that one client has not taken yet. Of JPEG (`is_still`) the newest alone; of H.264 all, or none up to the next key frame."""

    def __init__(self, is_still: bool) -> None:
        self.is_still = is_still
        self._frames: deque[VideoFrame] = deque()
        self._bytes = 0
        self._waits = True
        self._wake = asyncio.Event()
        self._is_over = False
        self.missed = 0

    def put(self, frame: VideoFrame) -> None:
        """A new frame, which may cost those that wait."""
        if self.is_still:
            self.missed += len(self._frames)
            self._drop()
        elif self._waits and not frame.is_key:
            self.missed += 1
            return
        elif self._bytes + len(frame.data) > _QUEUE or len(self._frames) >= _FAR:
            self.missed += len(self._frames) + 1
            self._drop()
            self._waits = True
            if not frame.is_key or len(frame.data) > _QUEUE:
                return
        self._waits = False
        self._frames.append(frame)
        self._bytes += len(frame.data)
        self._wake.set()

    def end(self) -> None:
        """There will be no more."""
        self._is_over = True
        self._wake.set()

    async def next(self) -> VideoFrame | None:
        """None: there will be no more."""
        while not self._frames:
            if self._is_over:
                return None
            self._wake.clear()
            await self._wake.wait()
        frame = self._frames.popleft()
        self._bytes -= len(frame.data)
        return frame

    def _drop(self) -> None:
        self._frames.clear()
        self._bytes = 0


class VideoFeed:
    """`open`: connects to the camera's video."""

    def __init__(self, name: str, open: Callable[[], Awaitable[RtspVideo]]) -> None:
        self._name = name
        self._open = open
        self._viewers: set[Viewer] = set()
        self._task: asyncio.Task[None] | None = None
        self._began: asyncio.Future[None] | None = None
        self.codec = ""
        self.clock = 90000
        self.parameters: H264Parameters | None = None  # of H.264

    @property
    def is_full(self) -> bool:
        """There is no room for another viewer."""
        return len(self._viewers) >= MAX_VIEWERS

    @property
    def is_running(self) -> bool:
        """It is fetched from the camera."""
        return self._task is not None and not self._task.done()

    async def join(self) -> Viewer:
        """One more viewer, who leaves by `leave`. Raises Unavailable when the camera sends nothing or there are too many, VideoNotShown for a
        video of another kind."""
        if self.is_full:
            raise Unavailable(f"{self._name}: {MAX_VIEWERS} are looking at it already")
        if self._task is None or self._task.done():
            self._began, self._viewers, self.parameters = asyncio.get_running_loop().create_future(), set(), None
            run = self._run(self._began, self._viewers)  # those of a run before may not have left yet, and end with it
            self._task = asyncio.create_task(run, name=f"video of {self._name}")
        began = self._began
        assert began is not None
        viewer = Viewer(is_still=self.parameters is None)  # what comes first says so, too, when it is not known yet
        self._viewers.add(viewer)
        try:
            async with asyncio.timeout(_BEGIN):
                await asyncio.shield(began)
        except TimeoutError as exc:
            await self.leave(viewer)
            raise Unavailable(f"{self._name}: the camera sends no frame") from exc
        except BaseException:
            await self.leave(viewer)
            raise
        return viewer

    async def leave(self, viewer: Viewer) -> None:
        """The last one ends the connection to the camera."""
        viewer.end()
        if viewer in self._viewers:
            self._viewers.discard(viewer)
            if not self._viewers:
                await self.aclose()

    async def aclose(self) -> None:
        """Ends it for all."""
        task, viewers, began = self._task, self._viewers, self._began
        self._task = None
        if task is not None:
            await cancel_and_wait(task)
        self._ended(began, viewers, "nobody looks at it any more")  # it may not have begun to run

    async def _run(self, began: asyncio.Future[None], viewers: set[Viewer]) -> None:
        try:
            video = await self._open()
            try:
                await self._carry(video, began, viewers)
            finally:
                await video.aclose()
        except (OSError, EOFError, KubeEdgeError) as exc:
            why = str(exc) or "the camera does not answer"
            log.info("video of %s ends: %s", self._name, why)
            self._ended(began, viewers, why, exc if isinstance(exc, VideoNotShown) else None)
        finally:
            self._ended(began, viewers, "the camera has ended it")

    def _ended(
        self, began: asyncio.Future[None] | None, viewers: set[Viewer], why: str, exc: VideoNotShown | None = None
    ) -> None:
        if began is not None and not began.done():
            began.set_exception(exc or Unavailable(f"{self._name}: {why}"))
            began.exception()  # whoever waits has it; nobody may wait any more
        for viewer in viewers:
            viewer.end()

    async def _carry(self, video: RtspVideo, began: asyncio.Future[None], viewers: set[Viewer]) -> None:
        self.clock, self.parameters = video.description.clock, None
        async with contextlib.aclosing(video.frames()) as frames:
            async for frame in frames:
                if isinstance(video.assembler, H264Assembler):
                    if self.parameters is None:
                        self.parameters = video.assembler.parameters
                    elif self.parameters != video.assembler.parameters:
                        raise PeerError("the camera sends other pictures from here on")  # who looks begins anew
                if not began.done():
                    self.codec = video.assembler.codec
                    for viewer in viewers:
                        viewer.is_still = self.parameters is None
                    began.set_result(None)
                for viewer in viewers:
                    viewer.put(frame)
