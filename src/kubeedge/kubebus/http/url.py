"""The URL of a web service. Pure.

    /<TenantId>/<EdgeNodeName>/<WebServiceName>/<path>?<query>      towards a client proxy
    /<WebServiceName>/<path>?<query>                                over L4, towards the server proxy of the node

The first elements are RFC 1123 labels, written plainly; the rest is passed on as it came: percent-encoding is the service's own.
"""

from __future__ import annotations

import re
from typing import NewType

from kubeedge.api.names import L4Port, NodeName, TenantId, node_name, tenant_id
from kubeedge.errors import Invalid
from kubeedge.kit.dataclasses import dataclass, field

ServiceName = NewType("ServiceName", str)  # RFC 1123 label

L4_PORT = L4Port(80)  # where every node's server proxy listens

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


def service_name(text: str) -> ServiceName:
    """Raises Invalid when `text` is not an RFC 1123 label."""
    if not _LABEL.fullmatch(text):
        raise Invalid(f"web service {text!r:.80} is not an RFC 1123 label (lower case letters, digits and '-')")
    return ServiceName(text)


@dataclass(frozen=True, slots=True)
class ServiceUrl:
    """What a URL names: tenant, node, service, and the rest, which the service gets."""

    tenant: TenantId
    node: NodeName
    service: ServiceName
    rest: str = "/"  # path and query as the service sees them, percent-encoding untouched
    bare: bool = field(default=False, compare=False)  # no slash came behind the service's name

    @property
    def prefix(self) -> str:
        """What the service does not see of its own address."""
        return f"/{self.tenant}/{self.node}/{self.service}"

    @property
    def directory(self) -> str:
        """What a cookie without a Path is for (RFC 6265 section 5.1.4), but not less than the service, and without a ";",
        which would end the Path."""
        return self.prefix + re.split("[?;]", self.rest, maxsplit=1)[0].rpartition("/")[0]

    @property
    def target(self) -> str:
        """The request target towards a client proxy."""
        return self.prefix + self.rest

    @property
    def l4_target(self) -> str:
        """As a request target towards the server proxy, which redirects a bare one to its slash."""
        return f"/{self.service}{self.rest[1:] if self.bare else self.rest}"


@dataclass(frozen=True, slots=True)
class Target:
    """Host and port where a service listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(target: str) -> ServiceUrl:
    """Of a request target, in origin or absolute form (RFC 9112 section 3.2). Raises Invalid."""
    elements, rest = _split(target, 3)
    if len(elements) < 3:
        raise Invalid(f"{target!r:.200} is not /<tenant>/<node>/<service>/<path>")
    return ServiceUrl(
        tenant_id(elements[0]), node_name(elements[1]), service_name(elements[2]), rest, _is_bare(target, 3)
    )


def parse_l4(target: str) -> tuple[ServiceName, str]:
    """The service and the rest, of a request that came over L4. Raises Invalid."""
    elements, rest = _split(target, 1)
    if not elements:
        raise Invalid(f"{target!r:.200} is not /<service>/<path>")
    return service_name(elements[0]), rest


def is_bare_l4(target: str) -> bool:
    """No slash comes behind the service's name: relative links of its page would lead beside it."""
    return _is_bare(target, 1)


def _is_bare(target: str, count: int) -> bool:
    if absolute := _ABSOLUTE.match(target):
        target = target[absolute.end() :]
    return target.partition("?")[0].count("/") == count


def _split(target: str, count: int) -> tuple[list[str], str]:
    """The first `count` path elements and what follows them; the rest always begins with a slash."""
    if absolute := _ABSOLUTE.match(target):
        target = target[absolute.end() :]
    path, mark, query = target.partition("?")
    if not path.startswith("/"):
        return [], ""
    elements = path[1:].split("/", count)
    rest = "/" + (elements[count] if len(elements) > count else "")
    return [e for e in elements[:count] if e], rest + mark + query
