"""What the filters of a rule make of a request and of its answer. Pure."""

from __future__ import annotations

from kubeedge.gateway.model import HeaderChange, PathChange, RedirectAnswer, RouteMatch, RouteRequest, UrlChange
from kubeedge.kit.headers import HeaderList, Headers

_LONGEST_HOST = 253
_PORTS = {"http": 80, "https": 443}
#: say where a message ends, or what this one hop does: never a tenant's to change
_FRAMING = frozenset(
    ("connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)


def changed(headers: Headers, change: HeaderChange | None) -> HeaderList:
    """Set replaces, add adds to what is there, remove removes."""
    if change is None:
        return list(headers)
    gone = (change.remove | {name for name, _ in change.set}) - _FRAMING
    kept = [(name, value) for name, value in headers if name not in gone]
    kept += [(name, value) for name, value in change.set if name not in change.remove | _FRAMING]
    for name, value in change.add:
        if name in _FRAMING:
            continue
        found = next((n for n, (known, _) in enumerate(kept) if known == name), None)
        if found is None or name == "set-cookie":
            kept.append((name, value))
        else:
            kept[found] = (name, f"{kept[found][1]},{value}")
    return kept


def path_of(change: PathChange | None, match: RouteMatch, path: str) -> str:
    """The path with the change made: /foo/bar with the prefix /foo replaced by /x is /x/bar, by / it is /bar."""
    if change is None:
        return path
    if not change.prefix:
        return change.value or "/"
    rest = path[len(match.path) :].lstrip("/")
    base = change.value.rstrip("/")
    if rest or path[len(match.path) :].startswith("/"):
        return f"{base}/{rest}"
    return base or "/"


def rewritten(change: UrlChange | None, match: RouteMatch, request: RouteRequest) -> tuple[str, str]:
    """(request target, host or "") of a request for the backend."""
    path = path_of(change.path if change else None, match, request.path)
    target = f"{path}?{request.query}" if request.query else path
    return target, change.hostname if change else ""


def location(redirect: RedirectAnswer, match: RouteMatch, request: RouteRequest, authority: str) -> str:
    """Where a redirect leads. `authority` is the Host of the request: its port stays while neither scheme nor port are given."""
    scheme = redirect.scheme or request.scheme
    host, port = _split(authority)
    if redirect.port:
        port = redirect.port
    elif redirect.scheme:
        port = _PORTS[redirect.scheme]
    shown = f":{port}" if port and port != _PORTS.get(scheme) else ""
    path = path_of(redirect.path, match, request.path)
    query = f"?{request.query}" if request.query else ""
    return f"{scheme}://{redirect.hostname or host}{shown}{path}{query}"


def host_of(authority: str) -> str:
    """The host of a Host field, in lower case, without the dot of the root; "" for what is too long to be one."""
    host = _split(authority)[0].lower().removesuffix(".")
    return host if len(host) <= _LONGEST_HOST else ""


def _split(authority: str) -> tuple[str, int]:
    host, colon, port = authority.rpartition(":")
    if colon and port.isascii() and port.isdigit() and len(port) <= 5 and not host.endswith(":"):
        return host, int(port)
    return authority.removesuffix(":"), 0
