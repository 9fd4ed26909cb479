"""HTTP to registries: connections that are used again, redirects, and authentication (distribution-spec; Bearer tokens, Basic).

Lives elsewhere: which registry (endpoints.py), whose credentials (credentials.py), what is asked for (registry.py, blobs.py).

Threads share a RegistryTransport. Credentials go to the registry that they are for, never to where it redirects.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Mapping, Sequence

from kubeedge.appengine.images import challenges, documents
from kubeedge.appengine.images.endpoints import RegistryEndpoint, RegistryMirrors
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field
from kubeedge.kit.shown_url import shown_url

TIMEOUT = 30.0  # seconds without a byte
_REDIRECTS = 5
_TOKENS = 5  # in a row for one request, while each is accepted for some request: other threads may use it up first
_MAX_TOKEN = 64 * 1024  # characters; a header of more than that no server takes
_SHORT = 16 * 1024  # bytes
_REDIRECT = (301, 302, 303, 307, 308)


class Unreachable(Invalid):
    """No answer, or half of one: another try may succeed."""


class Absent(Invalid):
    """This registry does not have it."""


class RegistryResponse:
    """An answer whose body is read once. Its connection is used again when the body was read to its end."""

    def __init__(
        self, transport: RegistryTransport, key: tuple[str, str], connection: http.client.HTTPConnection
    ) -> None:
        self._transport = transport
        self._key = key
        self._connection = connection
        self._socket = connection.sock
        self._response = connection.getresponse()
        self._over = False
        self.status = self._response.status
        self.reason = self._response.reason

    def header(self, name: str) -> str:
        """ "" when there is none."""
        return self._response.getheader(name) or ""

    def read(self, size: int) -> bytes:
        """What has come, at most so many bytes; b"" is the end. Raises Unreachable when the connection ends before the body."""
        if self._over:
            return b""
        try:
            data = self._response.read1(size)
        except (OSError, http.client.HTTPException) as exc:
            self._finish()
            raise Unreachable(f"the registry {self._key[1]} broke off: {str(exc) or type(exc).__name__}") from exc
        if not data and size:
            missing = self._response.length
            self._response.close()
            self._finish()
            if missing:
                raise Unreachable(f"the registry {self._key[1]} broke off: {missing} bytes are missing")
        return data

    def read_all(self, limit: int) -> bytes:
        """A document. Raises Invalid when it has more bytes than that, Unreachable."""
        data = b""
        while more := self.read(limit + 1 - len(data)):
            data += more
            if len(data) > limit:
                raise Invalid(f"the registry {self._key[1]} sends a document of more than {limit} bytes")
        return data

    def _finish(self) -> None:
        """Once: a connection that two hold mixes their answers up."""
        self._over = True
        if self._response.isclosed() and not self._response.will_close and not self._response.length:
            self._transport.keep(self._key, self._connection)
        else:
            self._connection.close()

    def close(self) -> None:
        """It is not read any further; a short rest is, since the connection is worth more."""
        if self._over:
            return
        with contextlib.suppress(Unreachable):
            if (left := self._response.length) is not None and left <= _SHORT:
                while self.read(_SHORT):
                    pass
        if not self._over:
            self._over = True
            self._connection.close()

    def abort(self) -> None:
        """End a read() that runs in another thread, at once."""
        with contextlib.suppress(OSError, AttributeError):
            self._socket.shutdown(socket.SHUT_RDWR)


@dataclass(slots=True)
class _Access:
    """What is known of the authentication at one endpoint, shared by the threads that use it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    bearer: str = ""
    generation: int = 0  # of bearer and basic
    worked: bool = False  # some request got through with them
    under_way: int = 0  # requests of other threads may have used a token up, and not have said yet that it worked
    basic: str = ""
    candidates: list[str] = field(default_factory=list)  # not tried yet


class RegistryTransport:
    """Requests to registries, for one pull. `credentials`: endpoint -> those to try, the best first."""

    def __init__(self, registries: RegistryMirrors) -> None:
        self._registries = registries
        self._idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = {}
        self._access: dict[RegistryEndpoint, _Access] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def introduce(self, endpoint: RegistryEndpoint, credentials: Sequence[str]) -> None:
        """Credentials (base64 of "user:password") for an endpoint, the best first."""
        first, *rest = [*credentials] or [""]
        self._access[endpoint] = _Access(basic=first, candidates=rest)

    def close(self) -> None:
        """Close the connections that are not in use."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    def keep(self, key: tuple[str, str], connection: http.client.HTTPConnection) -> None:
        """A connection that the next request may use."""
        with self._lock:
            self._idle.setdefault(key, []).append(connection)

    # -- a request -------------------------------------------------------------------------------------------------------------

    def get(self, endpoint: RegistryEndpoint, what: str, *, accept: str = "*/*", offset: int = 0) -> RegistryResponse:
        """The answer 200, or 206 from `offset` on. Raises Unreachable, or Invalid with what the registry said."""
        access = self._access.setdefault(endpoint, _Access())
        scheme = "http" if self._registries.is_plain(endpoint.host) else "https"
        url = f"{scheme}://{endpoint.host}/v2/{endpoint.repository}/{what}"
        headers = {"accept": accept, **({"range": f"bytes={offset}-"} if offset else {})}
        with access.lock:
            access.under_way += 1
        try:
            response, host = self._authorized(url, endpoint, headers, access)
        finally:
            with access.lock:
                access.under_way -= 1
        if host == endpoint.host and response.status not in (401, 403):
            access.worked = True
        if response.status in (200, 206):
            return response
        response.close()
        if response.status == 404:
            raise Absent(f"does not exist in the registry {endpoint.name}")
        if response.status in (401, 403):
            raise Invalid(f"the registry {endpoint.name} wants other credentials (imagePullSecrets)")
        said = f"the registry {endpoint.name} answered {response.status} {response.reason}"
        raise Unreachable(said) if response.status >= 500 or response.status in (408, 429) else Invalid(said)

    def _authorized(
        self, url: str, endpoint: RegistryEndpoint, headers: dict[str, str], access: _Access
    ) -> tuple[RegistryResponse, str]:
        """And who gave it. Also in the middle of a pull: a token is valid for a limited time or number of requests."""
        for _ in range(_TOKENS):
            used = access.generation
            response, host = self._follow(url, endpoint.host, headers, access)
            if response.status != 401 or host != endpoint.host:  # who is asked after a redirect gets no credentials
                break
            challenge = challenges.bearer(response.header("www-authenticate"))
            response.close()
            if not self._authenticate(access, used, challenge, endpoint):
                break
        return response, host

    def _follow(
        self, url: str, registry: str, headers: dict[str, str], access: _Access
    ) -> tuple[RegistryResponse, str]:
        """Follow redirects; returns the response and the host that it came from."""
        for _ in range(_REDIRECTS):
            parts = urllib.parse.urlsplit(url)
            own = {}
            if parts.netloc == registry:
                if access.bearer:
                    own["authorization"] = f"Bearer {access.bearer}"
                elif access.basic:
                    own["authorization"] = f"Basic {access.basic}"
            response = self._request(parts, {**headers, **own})
            if response.status not in _REDIRECT:
                return response, parts.netloc
            location = response.header("location")
            response.close()
            target = urllib.parse.urljoin(url, location)
            if parts.scheme == "https" and not target.startswith("https://"):
                raise Invalid(
                    f"the registry {shown_url(parts.netloc)} redirects from https to {target.split(':')[0]:.20}"
                )
            url = target
        raise Invalid(f"more than {_REDIRECTS} redirects")

    def _request(self, parts: urllib.parse.SplitResult, headers: dict[str, str]) -> RegistryResponse:
        key = (parts.scheme, parts.netloc)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        while True:
            with self._lock:
                idle = self._idle.get(key)
                connection = idle.pop() if idle else None
            reused = connection is not None
            connection = connection or self._connect(parts)
            try:
                connection.request("GET", path, headers={"user-agent": "kubeedge", **headers})
                return RegistryResponse(self, key, connection)
            except (OSError, http.client.HTTPException) as exc:
                connection.close()
                if reused:  # the other end had closed it meanwhile
                    continue
                raise Unreachable(
                    f"cannot reach the registry {shown_url(parts.netloc)}: {str(exc) or type(exc).__name__}"
                ) from exc
            except ValueError as exc:  # characters that no request line has
                connection.close()
                raise Invalid(f"the registry {shown_url(parts.netloc)} redirects to what is no address") from exc

    def _connect(self, parts: urllib.parse.SplitResult) -> http.client.HTTPConnection:
        try:
            if parts.scheme == "https":
                return http.client.HTTPSConnection(parts.netloc, timeout=TIMEOUT, context=self._context(parts.netloc))
            return http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT)
        except (http.client.InvalidURL, ValueError) as exc:
            raise Invalid(f"{shown_url(parts.netloc)!r:.80} is not the address of a registry") from exc

    def _context(self, host: str) -> ssl.SSLContext:
        path = self._registries.authority(host)
        key = path or ""
        with self._lock:
            if key not in self._contexts:
                try:
                    self._contexts[key] = ssl.create_default_context(cafile=path)
                except OSError as exc:
                    raise Invalid(f"the certificates of the registry {host} cannot be read: {path}: {exc}") from exc
            return self._contexts[key]

    # -- authentication --------------------------------------------------------------------------------------------------------

    def _authenticate(
        self, access: _Access, used: int, challenge: Mapping[str, str] | None, endpoint: RegistryEndpoint
    ) -> bool:
        """Whether it is worth another try. One thread asks for a token, the others use it."""
        with access.lock:
            if access.generation != used:
                return True  # another thread was first
            lost = access.bearer and not access.worked and access.under_way < 2
            if lost and not self._next(access):
                return False
            if challenge is None:
                return self._next(access) if access.basic else False
            while True:
                try:
                    access.bearer, access.worked = self._token(challenge, endpoint, access.basic), False
                    access.generation += 1
                    return True
                except _Denied as exc:
                    if not self._next(access):
                        raise Invalid(str(exc)) from exc

    def _next(self, access: _Access) -> bool:
        """The next credentials, when there are any."""
        if not access.candidates:
            return False
        access.basic, access.bearer = access.candidates.pop(0), ""
        access.generation += 1
        return True

    def _token(self, fields: Mapping[str, str], endpoint: RegistryEndpoint, basic: str) -> str:
        """Asks the token service that the registry names (distribution, spec/auth/token.md)."""
        query = {"scope": fields.get("scope") or f"repository:{endpoint.repository}:pull"}
        if "service" in fields:
            query["service"] = fields["service"]
        realm = urllib.parse.urlsplit(fields.get("realm", ""))
        if realm.scheme != "https" and not (realm.scheme == "http" and self._registries.is_plain(realm.netloc)):
            raise Invalid(f"the token service {shown_url(realm.netloc)!r:.80} is not reached over https")
        asked = "&".join(filter(None, (realm.query, urllib.parse.urlencode(query))))
        response, _ = self._follow(realm._replace(query=asked).geturl(), realm.netloc, {}, _Access(basic=basic))
        with contextlib.closing(response):
            if response.status in (401, 403):
                raise _Denied(
                    f"the token service {shown_url(realm.netloc):.80} answered {response.status}: "
                    f"the registry {endpoint.name} wants other credentials (imagePullSecrets)"
                )
            if response.status != 200:
                raise Unreachable(f"the token service {shown_url(realm.netloc):.80} answered {response.status}")
            body = response.read_all(documents.MAX_MANIFEST)
        answer = documents.object_of(body, "the token")
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or len(token) > _MAX_TOKEN or not token.isascii() or not token.isprintable():
            raise Invalid(f"the token service {shown_url(realm.netloc):.80} gives no token")
        return token


class _Denied(Exception):
    """The token service does not take these credentials."""
