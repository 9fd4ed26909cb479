"""A URL as messages, conditions and logs may show it: users put secrets into queries (signatures of presigned URLs) and before hosts (passwords)."""

from __future__ import annotations

_LONGEST = 200  # characters


def shown_url(url: str) -> str:
    """Without user, query and fragment, for which "?..." stands; at most 200 characters. Any text may come: what is no URL is shown as far as it
    can have no secret in it."""
    kept = url.partition("#")[0]
    kept, _, query = kept.partition("?")
    scheme, separator, rest = kept.partition("://") if "://" in kept else ("", "", kept)
    authority, slash, path = rest.partition("/")
    authority = authority.rpartition("@")[2]
    port = authority.rpartition("]")[2].partition(":")[2]
    if port and not port.isdecimal():  # a password with a character in it that ends a host
        authority, slash, path = "...", "", ""
    whole = f"{scheme}{separator}{authority}{slash}{path}"
    end = "?..." if query else ""
    return whole[: _LONGEST - len(end)] + end
