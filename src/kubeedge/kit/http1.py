"""HTTP/1.1 over any pair of asyncio streams: TCP, TLS, unix sockets, KubeBus connections. Parsing is h11's.

Server: `serve_connection(reader, writer, handler)`; a handler takes a Request and returns a Response, or an Upgrade.
Client: `Connection(reader, writer).request(...)`, one request after the other.

Bodies stream in both directions with back pressure; nothing is buffered beyond one chunk unless `read(limit)` asks for it. A streaming
response ends when the client goes away: the handler's iterator is closed. A body that breaks off in the middle breaks the
connection, so that no client takes it for a whole one.
"""

from __future__ import annotations

from kubeedge.kit.headers import Headers
from kubeedge.kit.http1_client import ClientResponse, Connection
from kubeedge.kit.http1_limits import Limits
from kubeedge.kit.http1_messages import (
    BodyTooLarge,
    BrokenBody,
    ClientGone,
    Inform,
    Request,
    RequestHandler,
    Response,
    Upgrade,
    json_response,
    text_response,
)
from kubeedge.kit.http1_server import serve_connection, start_unix_server
from kubeedge.kit.streams import abort_writer, close_writer

__all__ = [
    "BodyTooLarge",
    "BrokenBody",
    "ClientGone",
    "ClientResponse",
    "Connection",
    "RequestHandler",
    "Headers",
    "Inform",
    "Limits",
    "Request",
    "Response",
    "Upgrade",
    "abort_writer",
    "close_writer",
    "json_response",
    "serve_connection",
    "start_unix_server",
    "text_response",
]
