"""Which headers cross a proxy, and how they change on the way. Pure.

* Hop-by-hop headers stay on their hop (RFC 9110 section 7.6.1), with everything that Connection names. Upgrade crosses when
  the proxies can carry it.
* A service that lives below a prefix answers as if it lived at "/": absolute paths in Location, Content-Location, Refresh and in the
  Path of cookies get the prefix; Destination and If (RFC 4918) lose it on their way to the service.
* All services of all tenants share one origin, so nothing that a service says may reach beyond its prefix: a cookie has a Path below it and
  no Domain, a service worker its scope below it, and fields that browsers apply to the whole host or origin do not cross.
* X-Forwarded-For, -Host, -Proto and -Prefix tell the service who asked and under which address. What clients write there is removed,
  also with "_" for "-": CGI and its successors read both as one name.
"""

from __future__ import annotations

import re
import urllib.parse

from kubeedge.errors import Invalid
from kubeedge.kit.headers import HeaderList, Headers
from kubeedge.kubebus.http.url import parse

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
        "expect",  # hop by hop: forward.exchange asks for 100-continue itself
    )
)
_NOT_HOP_BY_HOP = frozenset(
    ("content-length", "host", "content-type", "cookie", "authorization")
)  # whatever Connection says
_FORWARDED = frozenset(
    ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix", "x-real-ip")
)
# of an answer; browsers apply them to the whole host or origin, for long
_OF_THE_ORIGIN = frozenset(
    (
        *("clear-site-data", "set-cookie2", "origin-agent-cluster", "origin-isolation", "origin-policy", "set-login"),
        *("strict-transport-security", "public-key-pins", "public-key-pins-report-only", "expect-ct", "alt-svc"),
        *("nel", "report-to", "accept-ch", "accept-ch-lifetime", "critical-ch", "use-as-dictionary"),
    )
)
# HTTP/2 over the connection would pass the service paths with their prefix
_NO_UPGRADE = frozenset(("h2c",))
_REFRESH = re.compile(r"([0-9.]+[ \t;,]+(?:url[ \t]*=[ \t]*)?['\"]?)(.*)", re.IGNORECASE | re.DOTALL)
_COOKIE_PATH = re.compile(r"([ \t]*path[ \t]*=[ \t]*)(/.*)", re.IGNORECASE | re.DOTALL)
_URL = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_IF_TAG = re.compile(r"<([^<>]*)>")


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


def end_to_end(headers: Headers) -> HeaderList:
    """Without what belongs to one hop; without an invalid content-length beside a transfer coding."""
    dropped = (_HOP_BY_HOP | set(tokens(headers, "connection"))) - _NOT_HOP_BY_HOP
    if any(name == "transfer-encoding" for name, _ in headers):
        dropped |= {"content-length"}
    return [(name, value) for name, value in headers if name not in dropped]


def request_headers(headers: Headers, *, has_body: bool) -> HeaderList:
    """The header fields of a request for the next hop."""
    kept = end_to_end(headers)
    upgrade = None if has_body else upgrade_of(headers)
    if upgrade:
        kept += [("connection", "upgrade"), ("upgrade", upgrade)]
    return kept


def forwarded(headers: Headers, *, client: str, proto: str, prefix: str, trusted: bool) -> HeaderList:
    """Say who asked and under which address. `trusted`: the client is a proxy of the operator, whose headers are kept."""
    host = next((value for name, value in headers if name == "host"), "")
    said = {name: value for name, value in headers if name in _FORWARDED} if trusted else {}
    kept = [(name, value) for name, value in headers if not _is_forwarded(name, trusted)]
    before = said.get("x-forwarded-for")
    kept.append(("x-forwarded-for", f"{before}, {client}" if before else client))
    if host := said.get("x-forwarded-host", host):
        kept.append(("x-forwarded-host", host))
    kept.append(("x-forwarded-proto", said.get("x-forwarded-proto", proto)))
    if path := said.get("x-forwarded-prefix", "") + prefix:
        kept.append(("x-forwarded-prefix", path))
    kept.append(("via", "1.1 kubeedge"))
    return kept


def response_headers(headers: Headers, *, prefix: str, host: str, proto: str = "", directory: str = "") -> HeaderList:
    """Of a service's answer, as the client below `prefix` must see them. `proto`: how the client reached `host`; a service that knows nothing
    of the proxy's TLS says http. `directory` of the request: the Path of a cookie that has none; "": left to the browser."""
    changed: HeaderList = []
    for name, value in headers:
        match name:
            case "location" | "content-location":
                value = below(prefix, value, host, proto)
            case "refresh":
                value = _refresh(prefix, value, host, proto)
            case "set-cookie":
                # only a cookie of the whole host may have this name (RFC 6265bis section 4.1.3.2)
                if value[:7].lower() == "__host-":
                    continue
                value = _cookie(prefix, value, directory)
            case "service-worker-allowed":
                value = prefix + "/"
            case _ if name in _OF_THE_ORIGIN:
                continue
        changed.append((name, value))
    return changed


def resources(headers: Headers, *, prefix: str, host: str) -> HeaderList:
    """Of a request: what Destination and If (RFC 4918 sections 10.3 and 10.4) name below `prefix`, as the service knows it. Raises Invalid
    for a Destination on this host that is not below it: the service would take it for a path of its own."""
    changed: HeaderList = []
    for name, value in headers:
        if name == "destination":
            inner = _above(prefix, value, host)
            if inner is None and _authority(value) in ("", host.lower()):
                raise Invalid(f"destination {value!r:.200} is not below {prefix}/")
            value = value if inner is None else inner
        elif name == "if":
            value = _IF_TAG.sub(lambda m: f"<{_above(prefix, m[1], host) or m[1]}>", value)
        changed.append((name, value))
    return changed


def _above(prefix: str, url: str, host: str) -> str | None:
    """An absolute path, or an absolute URL of `host`, without `prefix`; None when it is not below it."""
    origin, path = "", url
    if match := _URL.match(url):
        origin, path = match[0], url[match.end() :]
        if not host or _authority(url) != host.lower():
            return None
    return origin + path[len(prefix) :] if path.startswith(prefix + "/") else None


def _authority(url: str) -> str | None:
    """Of an absolute URL, in lower case; "": it is an absolute path; None: it is neither."""
    if match := _URL.match(url):
        return match[1].lower()
    return "" if url.startswith("/") and not url.startswith("//") else None


def _is_forwarded(name: str, trusted: bool) -> bool:
    """Written here, or not at all. A trusted proxy may say more (X-Forwarded-Port), in the names that are its own."""
    plain = name.replace("_", "-")
    if plain != name:
        return plain in _FORWARDED or plain.startswith("x-forwarded-")
    return name in _FORWARDED or (not trusted and name.startswith("x-forwarded-"))


def below(prefix: str, location: str, host: str, proto: str = "") -> str:
    """An absolute path, or an absolute URL of `host` itself, with the prefix; anything else as it is."""
    if location.startswith("/"):
        if location.startswith("//"):
            return location  # another host
        return location if _within(prefix, location) else prefix + location
    if not location.lower().startswith(("http://", "https://")):
        return location
    try:
        parts = urllib.parse.urlsplit(location)
    except ValueError:
        return location
    if not host or parts.netloc.lower() != host.lower():
        return location
    path = parts.path if _within(prefix, parts.path) else prefix + (parts.path or "/")
    # never from https to http: a proxy before ours may have taken TLS off, and the service may know it
    return parts._replace(path=path, scheme="https" if proto == "https" else parts.scheme).geturl()


def back_below(headers: Headers, target: str) -> tuple[str, str] | None:
    """(tenant's part of the path, where to) of a request for an absolute path by a page that lives below a prefix: its Referer says which.
    None when it does not, or when the path is below it already. The target is one of the host and of the service that the page is of."""
    host = next((value for name, value in headers if name == "host"), "")
    referers = [value for name, value in headers if name == "referer"]
    if len(referers) != 1 or not target.startswith("/") or target.startswith("//"):
        return None
    try:
        page = urllib.parse.urlsplit(referers[0])
        if not host or page.scheme not in ("http", "https") or page.netloc.lower() != host.lower():
            return None
        url = parse(page.path)
    except (ValueError, Invalid):
        return None
    return None if _within(url.prefix, target) else (url.tenant, url.prefix + target)


def _within(prefix: str, path: str) -> bool:
    """The service knows its prefix (from X-Forwarded-Prefix) and has used it."""
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/", "?", "#")


def _refresh(prefix: str, value: str, host: str, proto: str) -> str:
    """ "5; url=/x", with all that browsers take (WHATWG HTML, shared declarative refresh steps)."""
    match = _REFRESH.fullmatch(value)
    return match[1] + below(prefix, match[2], host, proto) if match else value


def _cookie(prefix: str, cookie: str, directory: str) -> str:
    """For its service alone: without a Domain, and with a Path below the prefix."""
    pair, *attributes = cookie.split(";")
    kept, found = [pair], False
    for attribute in attributes:
        name = attribute.partition("=")[0].strip(" \t").lower()
        if name == "path" and (match := _COOKIE_PATH.fullmatch(attribute)):
            kept.append(match[1] + _cookie_path(prefix, match[2].rstrip(" \t")))
            found = True
        elif name not in ("path", "domain"):
            kept.append(attribute)
    return ";".join(kept) + ("" if found or not directory else f"; Path={directory}")


def _cookie_path(prefix: str, path: str) -> str:
    # "/" becomes the prefix without a slash at its end, which covers the prefix itself and all below (RFC 6265 section 5.1.4)
    if _within(prefix, path):
        return path
    return prefix if path == "/" else prefix + path
