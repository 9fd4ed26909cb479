"""What a camera says of its video (SDP, RFC 8866). Pure."""

from __future__ import annotations

import base64
import binascii
import re

from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass

_RTPMAP = re.compile(r"rtpmap:(\d{1,3})\s+([^/\s]{1,32})/(\d{1,7})")
_JPEG = 26  # RFC 3551: a payload type that needs no rtpmap
_MAX_SETS = 16


@dataclass(frozen=True, slots=True)
class VideoDescription:
    """The first video of a description. `encoding` in capitals; `control` as it is to be set up; `parameter_sets`: NAL units of H.264."""

    payload_type: int
    encoding: str
    clock: int
    control: str
    parameter_sets: tuple[bytes, ...] = ()


def video_of(text: str, base: str) -> VideoDescription:
    """`base`: the URL of the whole, to which the video's own may be relative. Raises Invalid when there is no video."""
    lines = [line.strip() for line in text.splitlines()]
    starts = [n for n, line in enumerate(lines) if line.startswith("m=")]
    for n, start in enumerate(starts):
        if lines[start].startswith("m=video "):
            end = starts[n + 1] if n + 1 < len(starts) else len(lines)
            return _media(lines[start], lines[start + 1 : end], _control(lines[: starts[0]], base, base))
    raise Invalid("the camera describes no video")


def _media(first: str, lines: list[str], base: str) -> VideoDescription:
    formats = first.split()[3:]
    if not formats or not formats[0].isascii() or not formats[0].isdigit():
        raise Invalid(f"the camera's video has no format: {first[:64]!r}")
    payload_type = int(formats[0])
    encoding, clock = ("JPEG", 90000) if payload_type == _JPEG else ("", 90000)
    sets: tuple[bytes, ...] = ()
    for line in lines:
        if (found := _RTPMAP.match(line.removeprefix("a="))) and int(found[1]) == payload_type:
            encoding, clock = found[2].upper(), int(found[3])
        if line.startswith(f"a=fmtp:{payload_type} "):
            sets = _parameter_sets(line)
    if not clock:
        raise Invalid("the camera's video has a clock that stands still")
    return VideoDescription(payload_type, encoding, clock, _control(lines, base, ""), sets)


def _parameter_sets(line: str) -> tuple[bytes, ...]:
    for part in line.partition(" ")[2].split(";"):
        key, _, value = part.strip().partition("=")
        if key == "sprop-parameter-sets":
            try:
                return tuple(base64.b64decode(one, validate=True) for one in value.split(",")[:_MAX_SETS] if one)
            except (binascii.Error, ValueError):
                return ()  # they come within the video, too
    return ()


def _control(lines: list[str], base: str, default: str) -> str:
    """The URL that a=control says. It stays at the camera: only the path of an absolute one is taken."""
    said = next((line.removeprefix("a=control:").strip() for line in lines if line.startswith("a=control:")), "")
    if said in ("", "*"):
        return default or base
    if any(not "!" <= c <= "~" for c in said) or len(said) > 1024:
        raise Invalid("the camera's video has a control URL with characters that no URL has")
    root = re.match(r"rtsps?://[^/?]+", base)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", said):
        path = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?]*", "", said)
        return (root[0] if root else "") + (path or "/")
    if said.startswith("/"):
        return (root[0] if root else "") + said
    return base + ("" if base.endswith("/") else "/") + said
