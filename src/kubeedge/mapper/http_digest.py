"""What proves to a device, by HTTP or RTSP, that we know the password: Digest (RFC 7616, and RFC 2617 for old cameras), Basic when it is allowed.
Pure: the random number of the client comes in.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable

from kubeedge.errors import Refused
from kubeedge.kit.dataclasses import dataclass

_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')
_HASHES: dict[str, Callable[..., hashlib._Hash]] = {"SHA-256": hashlib.sha256, "MD5": hashlib.md5}
_MAX = 2048  # characters of a challenge that are looked at
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, repr=False)
class DeviceUser:
    """A user of a device, whose password is in no log. `basic`: it may be sent as it is, where the device knows nothing better."""

    user: str
    password: str
    basic: bool = False


@dataclass(slots=True)
class DigestChallenge:
    """What a device has asked for; `authorization` answers it for each request. An `algorithm` of "": Basic."""

    realm: str = ""
    nonce: str = ""
    opaque: str = ""
    algorithm: str = "MD5"
    qop: str = ""  # "auth", or "" as RFC 2069 has it
    is_session: bool = False  # the algorithm ends in -sess
    count: int = 0

    def authorization(self, user: DeviceUser, method: str, uri: str, cnonce: str) -> str:
        """The value of the header Authorization."""
        if not self.algorithm:
            return "Basic " + base64.b64encode(f"{user.user}:{user.password}".encode()).decode()
        self.count += 1
        number = f"{self.count:08x}"
        secret = self._hash(f"{user.user}:{self.realm}:{user.password}")
        if self.is_session:
            secret = self._hash(f"{secret}:{self.nonce}:{cnonce}")
        request = self._hash(f"{method}:{uri}")
        middle = f"{self.nonce}:{number}:{cnonce}:{self.qop}" if self.qop else self.nonce
        fields = {"username": user.user, "realm": self.realm, "nonce": self.nonce, "uri": uri}
        fields["response"] = self._hash(f"{secret}:{middle}:{request}")
        if self.opaque:
            fields["opaque"] = self.opaque
        text = ", ".join(f'{key}="{_quoted(value)}"' for key, value in fields.items())
        text += f", algorithm={self.algorithm}{'-sess' if self.is_session else ''}"
        if self.qop or self.is_session:
            text += f', cnonce="{cnonce}"'
        return f"Digest {text}" + (f", qop={self.qop}, nc={number}" if self.qop else "")

    def _hash(self, text: str) -> str:
        return _HASHES[self.algorithm](text.encode()).hexdigest()


def challenge_of(headers: Iterable[str], user: DeviceUser | None) -> DigestChallenge:
    """The best challenge among the values of WWW-Authenticate. Raises Refused, with what the device wants, when it cannot be met."""
    found: list[DigestChallenge] = []
    is_basic = False
    for value in headers:
        scheme, _, rest = value[:_MAX].partition(" ")
        if scheme.lower() == "basic":
            is_basic = True
        elif scheme.lower() == "digest" and (made := _digest(rest)) is not None:
            found.append(made)
    if user is None:
        raise Refused("the device wants a user: userName and password are missing")
    if found:
        return min(found, key=lambda one: list(_HASHES).index(one.algorithm))
    if is_basic and user.basic:
        return DigestChallenge(algorithm="")
    if is_basic:
        raise Refused("the device wants the password unencrypted; allowBasic: true lets it be sent")
    raise Refused("the device refuses this user, or wants to be convinced in a way that is not known here")


def _digest(text: str) -> DigestChallenge | None:
    fields = {key.lower(): quoted.replace('\\"', '"') or plain for key, quoted, plain in _PARAMETER.findall(text)}
    algorithm, _, session = fields.get("algorithm", "MD5").upper().partition("-SESS")
    is_session = fields.get("algorithm", "").upper().endswith("-SESS")
    qops = [one.strip().lower() for one in fields.get("qop", "").split(",") if one.strip()]
    if algorithm not in _HASHES or session or (qops and "auth" not in qops) or "nonce" not in fields:
        return None
    if any(_CONTROL.search(value) for value in fields.values()):
        return None
    qop = "auth" if qops else ""
    return DigestChallenge(
        fields.get("realm", ""), fields["nonce"], fields.get("opaque", ""), algorithm, qop, is_session
    )


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
