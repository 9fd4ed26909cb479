"""One scan: all finders at the same time, until they or the seconds end."""

from __future__ import annotations

import asyncio

from kubeedge.errors import Invalid, KubeEdgeError
from kubeedge.mapper.scan.core import ScanRequest, ScanResult
from kubeedge.mapper.scan.finder import FINDERS, Finder, PacketsSpent, ScanScope, finder


async def scan(request: ScanRequest) -> ScanResult:
    """What is there. Raises Invalid for a finder that there is none of, and when nothing is asked for that a finder could look at."""
    for name in request.finders:
        if name not in FINDERS:
            raise Invalid(f"{name!r} is none of {', '.join(FINDERS)}")
    chosen = [(name, finder(name)) for name in request.finders or FINDERS]
    wanted = [(name, one) for name, one in chosen if one.wants(request)]
    if not wanted:
        raise Invalid("nothing to look at: say a network (192.168.1.0/24) or a Bluetooth adapter (--radio hci0)")
    result = ScanResult()
    scope = ScanScope(request, result)
    try:
        async with asyncio.timeout(request.seconds):
            async with asyncio.TaskGroup() as group:
                for name, one in wanted:
                    group.create_task(_find(name, one, scope), name=f"scan: {name}")
    except TimeoutError:
        pass
    return result


async def _find(name: str, one: Finder, scope: ScanScope) -> None:
    try:
        await one.find(scope)
    except* (OSError, KubeEdgeError) as group:  # a finder has tasks of its own, whose errors come together
        exc: BaseException = group
        while isinstance(exc, BaseExceptionGroup):
            exc = exc.exceptions[0]
        scope.result.errors[name] = str(exc) or type(exc).__name__
    except* PacketsSpent:
        scope.result.errors[name] = f"ended after {scope.packets} packets"
