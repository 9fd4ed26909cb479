"""Which kubelet port is whose, and who may connect to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kubeedge.api.names import NodeNumber, TenantNumber

_LAST = 65535
MAX_CALLER = 256 * 1024  # bytes of a user with all groups, of which some directories give a thousand
_TEXT = 64  # bytes of one besides its characters
Key = TypeVar("Key")
Value = TypeVar("Value")


def port_of(first: int, nodes: int, tenant: TenantNumber, node: NodeNumber) -> int | None:
    """The same in every cloud process and after every restart, without being written down: `first` is that of node 1 of tenant 1, and each
    tenant has as many ports as it may have nodes. None: there are no ports left for this one."""
    port = first + (tenant - 1) * nodes + node - 1
    return port if port <= _LAST else None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as TokenReview and SubjectAccessReview write it; `extra` has each name with its values."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Caller | None:
        """The caller in the status.user of a TokenReview; None when it has no name, or would take too much memory: a thousand are remembered."""
        name = str(info.get("username") or "")
        extra = tuple((str(key), tuple(map(str, values or ()))) for key, values in (info.get("extra") or {}).items())
        found = cls(name, str(info.get("uid") or ""), tuple(map(str, info.get("groups") or ())), extra)
        return found if name and found.size <= MAX_CALLER else None

    @property
    def size(self) -> int:
        """What it takes, about: characters, and some for each text."""
        texts = [self.name, self.uid, *self.groups, *(text for key, values in self.extra for text in (key, *values))]
        return sum(len(text) + _TEXT for text in texts)

    def spec(self) -> dict[str, Any]:
        """The caller's part of the spec of a SubjectAccessReview."""
        found: dict[str, Any] = {"user": self.name, "groups": list(self.groups)}
        if self.uid:
            found["uid"] = self.uid
        if self.extra:
            found["extra"] = {key: list(values) for key, values in self.extra}
        return found


@dataclass(frozen=True, slots=True)
class ObjectRight:
    """A verb on objects of a namespace."""

    verb: str
    group: str
    version: str
    resource: str
    subresource: str
    namespace: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Right:
    """A verb on a subresource of nodes."""

    verb: str
    subresource: str


def user_of(certificate: Mapping[str, Any] | None) -> Caller | None:
    """Of a verified certificate, as getpeercert() has it: the common name, and each organization as a group."""
    pairs = [pair for part in (certificate or {}).get("subject", ()) for pair in part]
    names = [value for key, value in pairs if key == "commonName" and value]
    if len(names) != 1:  # which of them is it?
        return None
    groups = [value for key, value in pairs if key == "organizationName" and value]
    return Caller(names[0], groups=(*groups, "system:authenticated"))


def may_use(user: Caller | None, allowed: Collection[str]) -> bool:
    """The user of a certificate is one of those that may do everything."""
    return user is not None and user.name in allowed


#: first part of a path of the kubelet's API -> subresource of nodes; the others are "proxy"
_SUBRESOURCES = {"stats": "stats", "metrics": "metrics", "logs": "log"}
_SESSIONS = frozenset({"exec", "attach", "portForward", "run"})


def right_for(method: str, path: str) -> Right | None:
    """What a request needs, as the kubelet's webhook authorization has it; None: no method that the kubelet API has.

    More strictly than there, a session needs `create` also when it begins with a GET, as WebSockets do: who may read must not run programs.
    """
    verb = {"GET": "get", "HEAD": "get", "POST": "create"}.get(method)
    first = path.strip("/").partition("/")[0]
    if verb is None:
        return None
    return Right("create" if first in _SESSIONS else verb, _SUBRESOURCES.get(first, "proxy"))


def bearer(authorization: str | None) -> str:
    """The token of an Authorization header (RFC 6750); "": there is none."""
    scheme, _, token = (authorization or "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


@dataclass(frozen=True, slots=True)
class Answer(Generic[Value]):
    """An answer and the time until which it counts."""

    value: Value
    until: float


class Answers(Generic[Key, Value]):
    """Answers that are remembered for a while; of more than `most` the oldest is forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[Key, Answer[Value]] = {}

    def get(self, key: Key, now: float) -> Answer[Value] | None:
        """An answer that still counts; None when it has to be asked for."""
        found = self._known.get(key)
        return found if found is not None and now < found.until else None

    def put(self, key: Key, value: Value, until: float) -> Answer[Value]:
        """Returns it as `get` would."""
        self._known.pop(key, None)
        if len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
        self._known[key] = answer = Answer(value, until)
        return answer
