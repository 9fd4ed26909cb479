"""What asyncio's TLS costs in memory.

asyncio gives each TLS connection a receive buffer of 256 KiB, filled with zeros and so really taken: 256 MB for a thousand nodes that
say nothing. The buffer is in use only between one recv_into and the decryption that follows it in the same call of the event loop
(selector_events: _read_ready__get_buffer), so that one buffer serves all connections of a loop. The attribute is asyncio's own and
has no documented replacement; where it is not found, all stays as it was.
"""

from __future__ import annotations

import threading
from typing import Any

BUFFER = 64 * 1024  # bytes: four TLS records at once (RFC 8446 section 5.1)
_of_thread = threading.local()  # a loop belongs to its thread


class _Shared:
    """The attribute of all connections; what the constructor assigns is dropped."""

    def __init__(self, *, view: bool) -> None:
        self._view = view

    def __get__(self, connection: object, owner: type | None = None) -> Any:
        if not hasattr(_of_thread, "buffer"):
            _of_thread.buffer = bytearray(BUFFER)
            _of_thread.view = memoryview(_of_thread.buffer)
        return _of_thread.view if self._view else _of_thread.buffer

    def __set__(self, connection: object, value: object) -> None:
        pass


def small_buffers() -> None:
    """For TLS connections that this process opens from now on."""
    from asyncio import sslproto

    protocol: Any = sslproto.SSLProtocol
    if getattr(protocol, "max_size", 0) > BUFFER and "_ssl_buffer" in protocol.__init__.__code__.co_names:
        protocol.max_size = BUFFER
        protocol._ssl_buffer = _Shared(view=False)
        protocol._ssl_buffer_view = _Shared(view=True)
