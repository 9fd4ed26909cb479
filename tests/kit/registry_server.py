"""A registry as far as a pull needs it, that is slow, closed or broken as a test wants it."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from typing import Any

from tests.kit.layers import Image


class Registry:
    """The distribution API as far as a pull needs it; `password` switches on Bearer tokens."""

    def __init__(self) -> None:
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.password = ""
        self.basic = False
        self.redirect_blobs = ""
        self.cut_blobs = False  # nothing of a blob comes
        self.cut_after = 0  # bytes of a blob in one answer; 0: all
        self.ranges, self.range_error = True, 0
        self.ranges_asked: list[str] = []
        self.hold: threading.Event | None = None  # what is waited for before the last byte of a blob
        self.sent = threading.Event()
        self.count = threading.Lock()
        self.at_once = self.most_at_once = 0
        self.token_is_good_for = 0  # requests; 0: for ever
        self.tokens = self.left = 0
        self.challenge = 'Bearer realm="{realm}",service="reg",scope="repository:app:pull"'
        self.redirect_tokens = ""  # where the token service sends its clients

    def put(self, name: str, image: Image) -> None:
        self.manifests[name] = json.dumps(image.manifest).encode()
        self.manifests[image.digest] = self.manifests[name]
        self.blobs |= image.blobs

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        path = handler.path
        self.asked.append(path)
        authorization = handler.headers.get("authorization", "")
        expected = "Basic " + base64.b64encode(f"me:{self.password}".encode()).decode()
        if path.startswith("/token?") and self.redirect_tokens:
            return self._send(handler, 308, b"", {"location": self.redirect_tokens})
        if path.startswith("/token"):
            ok = authorization == expected
            self.tokens += 1
            self.left = self.token_is_good_for
            return self._send(handler, 200 if ok else 401, json.dumps({"token": "t0k"}).encode() if ok else b"")
        wanted = expected if self.basic else "Bearer t0k"
        if authorization == wanted:
            self.left -= 1
        if self.password and (authorization != wanted or (self.token_is_good_for and self.left < 0)):
            bearer = self.challenge.format(realm=f"http://{handler.headers['host']}/token")
            challenge = 'Basic realm="reg"' if self.basic else bearer
            return self._send(handler, 401, b"", {"www-authenticate": challenge})
        kind, reference = path.rsplit("/", 2)[1:]
        if kind == "blobs" and self.redirect_blobs:
            return self._send(handler, 307, b"", {"location": self.redirect_blobs + reference})
        data = (self.manifests if kind == "manifests" else self.blobs).get(reference)
        if data is None:
            return self._send(handler, 404, b"")
        if kind == "blobs":
            return self._blob(handler, data)
        return self._send(handler, 200, data)

    def _blob(self, handler: http.server.BaseHTTPRequestHandler, data: bytes) -> None:
        wanted = handler.headers.get("range", "")
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        self.ranges_asked.append(wanted)
        with self.count:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            handler.send_response(206 if begin else 200)
            if begin:
                handler.send_header("content-range", f"bytes {begin + self.range_error}-{len(data) - 1}/{len(data)}")
            handler.send_header("content-length", str(len(data) - begin))
            handler.end_headers()
            end = begin + self.cut_after if self.cut_after and len(data) > self.cut_after else len(data)
            handler.close_connection = self.cut_blobs or end < len(data)
            body = data[begin:end] if not self.cut_blobs else b""
            handler.wfile.write(body[:-1])
            handler.wfile.flush()
            self.sent.set()
            if self.hold is not None and len(data) > 10_000:  # no configuration
                self.hold.wait()
        finally:  # before its end is sent: a client that has that may ask for the next one at once
            with self.count:
                self.at_once -= 1
        handler.wfile.write(body[-1:])

    def _send(
        self,
        handler: http.server.BaseHTTPRequestHandler,
        status: int,
        data: bytes,
        headers: dict[str, str] | None = None,
    ) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)


@contextlib.contextmanager
def serving(registry: Registry, context: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> Iterator[str]:
    """HOST:PORT of it, over TLS with a `context`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            registry.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer((address, 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"{address}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
