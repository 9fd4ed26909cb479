"""Which headers cross a proxy, and how they change on the way. Pure.

* Hop-by-hop headers stay on their hop (RFC 9110 section 7.6.1), with everything that Connection names. Upgrade crosses when
  the proxies can carry it.
* A service that lives below a prefix answers as if it lived at "/": absolute paths in Location, Content-Location and in the
  Path of cookies get the prefix. So a cookie of one service does not reach another under the same public name.
* X-Forwarded-For, -Host, -Proto and -Prefix tell the service who asked and under which address. What a stranger writes there is removed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias
from urllib.parse import urlsplit

from kubeedge.errors import Invalid
from kubeedge.kubebus.http.url import parse

Headers: TypeAlias = Sequence[tuple[str, str]]  # names in lower case
Pairs: TypeAlias = list[tuple[str, str]]

_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",  # trailers are not passed on
        "transfer-encoding",  # each hop frames for itself
        "upgrade",
        "proxy",  # never a real header; as CGI's HTTP_PROXY it redirects a service's own requests
        "expect",  # 100-continue is asked for anew (forward.exchange)
    )
)
_NOT_HOP_BY_HOP = frozenset(
    ("content-length", "host", "content-type", "cookie", "authorization")
)  # whatever Connection says
_FORWARDED = frozenset(
    ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix", "x-real-ip")
)
# HTTP/2 over the connection would show the service paths from which nobody has removed the prefix
_NO_UPGRADE = frozenset(("h2c",))
_COOKIE_PATH = re.compile(r"(;\s*path\s*=\s*)(/[^;]*)", re.IGNORECASE)


def tokens(headers: Headers, name: str) -> list[str]:
    """The comma-separated words of all headers of that name, in lower case."""
    return [
        token for key, value in headers if key == name for word in value.split(",") if (token := word.strip().lower())
    ]


def upgrade_of(headers: Headers) -> str | None:
    """The protocol that a request asks to change to, or a 101 has changed to, when we can carry it."""
    protocols = tokens(headers, "upgrade")
    if not protocols or "upgrade" not in tokens(headers, "connection") or _NO_UPGRADE.intersection(protocols):
        return None
    return ", ".join(value for key, value in headers if key == "upgrade")


def end_to_end(headers: Headers) -> Pairs:
    """Without what belongs to one hop; without an invalid content-length beside a transfer coding."""
    dropped = (_HOP_BY_HOP | set(tokens(headers, "connection"))) - _NOT_HOP_BY_HOP
    if any(name == "transfer-encoding" for name, _ in headers):
        dropped |= {"content-length"}
    return [(name, value) for name, value in headers if name not in dropped]


def request_headers(headers: Headers, *, has_body: bool) -> Pairs:
    """Of a request, for the next hop."""
    kept = end_to_end(headers)
    upgrade = None if has_body else upgrade_of(headers)
    if upgrade:
        kept += [("connection", "upgrade"), ("upgrade", upgrade)]
    return kept


def forwarded(headers: Headers, *, client: str, proto: str, prefix: str, trusted: bool) -> Pairs:
    """Say who asked and under which address. `trusted`: the client is a proxy of the operator, whose word is kept."""
    host = next((value for name, value in headers if name == "host"), "")
    said = {name: value for name, value in headers if name in _FORWARDED} if trusted else {}
    kept = [(name, value) for name, value in headers if name not in _FORWARDED]
    before = said.get("x-forwarded-for")
    kept.append(("x-forwarded-for", f"{before}, {client}" if before else client))
    if host := said.get("x-forwarded-host", host):
        kept.append(("x-forwarded-host", host))
    kept.append(("x-forwarded-proto", said.get("x-forwarded-proto", proto)))
    kept.append(("x-forwarded-prefix", said.get("x-forwarded-prefix", "") + prefix))
    kept.append(("via", "1.1 kubeedge"))
    return kept


def response_headers(headers: Headers, *, prefix: str, host: str, proto: str = "") -> Pairs:
    """Of a service's answer, as the client below `prefix` must see them. `proto`: how the client reached `host`; a service that knows nothing
    of the proxy's TLS says http."""
    changed: Pairs = []
    for name, value in headers:
        if name in ("location", "content-location"):
            value = below(prefix, value, host, proto)
        elif name == "set-cookie":
            value = _COOKIE_PATH.sub(lambda m: m[1] + _cookie_path(prefix, m[2]), value)
        changed.append((name, value))
    return changed


def below(prefix: str, location: str, host: str, proto: str = "") -> str:
    """An absolute path, or an absolute URL of `host` itself, with the prefix; anything else as it is."""
    if location.startswith("/"):
        if location.startswith("//"):
            return location  # another host
        return location if _within(prefix, location) else prefix + location
    if not location.lower().startswith(("http://", "https://")):
        return location
    try:
        parts = urlsplit(location)
    except ValueError:
        return location
    if not host or parts.netloc.lower() != host.lower():
        return location
    path = parts.path if _within(prefix, parts.path) else prefix + (parts.path or "/")
    return parts._replace(path=path, scheme=proto or parts.scheme).geturl()


def back_below(headers: Headers, target: str) -> tuple[str, str] | None:
    """(tenant's part of the path, where to) of a request for an absolute path by a page that lives below a prefix: its Referer says which.
    None when it does not, or when the path is below it already. The place is one of the host and of the service that the page is of."""
    host = next((value for name, value in headers if name == "host"), "")
    referers = [value for name, value in headers if name == "referer"]
    if len(referers) != 1 or not target.startswith("/") or target.startswith("//"):
        return None
    try:
        page = urlsplit(referers[0])
        if not host or page.scheme not in ("http", "https") or page.netloc.lower() != host.lower():
            return None
        url = parse(page.path)
    except (ValueError, Invalid):
        return None
    return None if _within(url.prefix, target) else (url.tenant, url.prefix + target)


def _within(prefix: str, path: str) -> bool:
    """The service knows its prefix (from X-Forwarded-Prefix) and has used it."""
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/", "?", "#")


def _cookie_path(prefix: str, path: str) -> str:
    # "/" becomes the prefix without a slash at its end, which covers the prefix itself and all below (RFC 6265 section 5.1.4)
    if _within(prefix, path):
        return path
    return prefix if path.strip() == "/" else prefix + path
