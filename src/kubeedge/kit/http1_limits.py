"""The limits of one HTTP/1.1 connection (kubeedge.kit.http1). Pure."""

from __future__ import annotations

from kubeedge.kit.dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a connection may cost: bytes, counts, and seconds without progress. Beyond `header_bytes` or `headers` the answer is 431."""

    header_bytes: int = 32 * 1024  # request line and headers
    headers: int = 128  # of one request
    first: float = 20.0  # seconds until a connection's first request begins
    idle: float = 75.0  # seconds between two requests on a connection; nginx has the same
    head: float = 20.0  # seconds for a request's line and headers, once they began
    stall: float = 300.0  # seconds in which a client neither sends more of its body nor takes more of the answer
    interim: int = 16  # interim answers (RFC 9110 section 15.2) to one request that are passed on; the rest is dropped
    interim_most: int = 1024  # after which the request has failed
    body_chunk: int = 64 * 1024  # bytes read at once
