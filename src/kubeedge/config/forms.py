"""What a setting that is text must look like. Each check takes the text and raises ValueError with what would be right."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import TypeAlias

from kubeedge.api.mappers import MAPPERS

Form: TypeAlias = Callable[[str], object]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([-A-Za-z0-9_]{0,62})(\.[A-Za-z0-9_][-A-Za-z0-9_]{0,62})*")
_INTERFACE = re.compile(r"[A-Za-z0-9_.-]{1,15}")  # IFNAMSIZ less the final zero
_CONGESTION = re.compile(r"[a-z0-9_-]{0,15}")  # TCP_CA_NAME_MAX less the final zero
_CREDENTIAL = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9_.@-]{1,128}")
_CGROUP = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def label(text: str) -> None:
    """A DNS label (RFC 1123): names of tenants, nodes and services."""
    if not _LABEL.fullmatch(text):
        raise ValueError("is not an RFC 1123 label: lower case letters, digits and '-'")


def label_or_none(text: str) -> None:
    """A DNS label, or ""."""
    if text:
        label(text)


def optional_service(text: str) -> None:
    """NAMESPACE/NAME of a Service, or ""."""
    if text and not (text.count("/") == 1 and all(map(_LABEL.fullmatch, text.split("/")))):
        raise ValueError("is not NAMESPACE/NAME of a Service")


def interface(text: str) -> None:
    """The name of a network interface."""
    if not _INTERFACE.fullmatch(text) or text in (".", ".."):
        raise ValueError("is not the name of a network interface: at most 15 letters, digits, '_', '-' and '.'")


def cgroup(text: str) -> None:
    """One component of the path of a cgroup. Raises ValueError."""
    if not _CGROUP.fullmatch(text) or text in (".", ".."):
        raise ValueError("is not the name of a cgroup: at most 64 letters, digits, '_', '-' and '.'")


def congestion(text: str) -> None:
    """A congestion control of the kernel, or ""."""
    if not _CONGESTION.fullmatch(text):
        raise ValueError("is not the name of a congestion control of the kernel, like bbr, cubic or reno")


def optional_credential(text: str) -> None:
    """The name of a systemd credential, or ""."""
    if text and not _CREDENTIAL.fullmatch(text):
        raise ValueError("is not the name of a credential: letters, digits, '_', '.', '@' and '-'")


def address(text: str) -> None:
    """The form of an IPv4 or IPv6 address. Raises ValueError."""
    try:
        ipaddress.ip_address(text)
    except ValueError as exc:
        raise ValueError("is not an IP address, like 0.0.0.0") from exc


def own_address(text: str) -> None:
    """An address that one machine has. Raises ValueError."""
    address(text)
    found = ipaddress.ip_address(text)
    if found.is_unspecified or found.is_multicast:
        raise ValueError("is not the address of one machine, like 192.168.1.5")


def own_address_or_none(text: str) -> None:
    """The same, or "" for none. Raises ValueError."""
    if text:
        own_address(text)


def interface_address(text: str) -> None:
    """An address with its prefix length. Raises ValueError."""
    try:
        ipaddress.ip_interface(text)
        if "/" not in text:
            raise ValueError
    except ValueError as exc:
        raise ValueError("is not an address with its prefix length, like 100.64.0.1/16") from exc


def private_interface(text: str) -> None:
    """An address of a private network, with its prefix length. Raises ValueError."""
    interface_address(text)
    found = ipaddress.ip_interface(text)
    if not found.network.is_private or found.ip.is_loopback or found.ip.is_unspecified:
        raise ValueError("is not in a private network, like 192.168.1.5/24")


def interface_address_or_none(text: str) -> None:
    """An address with its prefix length, or "". Raises ValueError."""
    if text:
        interface_address(text)


def network(text: str) -> None:
    """A network without bits behind its prefix. Raises ValueError."""
    try:
        ipaddress.ip_network(text)
    except ValueError as exc:
        raise ValueError("is not a network, like 10.244.0.0/16 (no bits behind the prefix)") from exc


def ipv6_network(text: str) -> None:
    """As network(), of IPv6 alone. Raises ValueError."""
    try:
        ipaddress.IPv6Network(text)
    except ValueError as exc:
        raise ValueError("is not an IPv6 network, like fd00:10:244::/48 (no bits behind the prefix)") from exc


def ipv6_network_or_none(text: str) -> None:
    """A network of IPv6, or "" for none. Raises ValueError."""
    if text:
        ipv6_network(text)


def tenant_network(text: str) -> None:
    """TENANT=NETWORK, as shop=10.112.0.0/16. Raises ValueError."""
    tenant, equals, listed = text.partition("=")
    if not equals or not tenant:
        raise ValueError("is not TENANT=NETWORK, like shop=10.112.0.0/16")
    network(listed)


def host(text: str) -> None:
    """An IP address or a DNS name. Raises ValueError."""
    try:
        ipaddress.ip_address(text)
    except ValueError as exc:
        if not _HOST.fullmatch(text) or text.replace(".", "").isdigit():
            raise ValueError("is not an IP address or a DNS name") from exc


def gateway_port(text: str) -> tuple[int, str]:
    """ "5432/TCP" as (port, TCP). Raises ValueError."""
    number, _, family = text.partition("/")
    if not (number.isascii() and number.isdigit() and 0 < int(number) < 65536) or family not in ("HTTP", "TLS", "TCP"):
        raise ValueError("is not PORT/HTTP, PORT/TLS or PORT/TCP")
    return int(number), family


def host_or_none(text: str) -> None:
    """An IP address, a DNS name or "". Raises ValueError."""
    if text:
        host(text)


def optional_endpoint(text: str) -> None:
    """The form HOST:PORT, or "". Raises ValueError."""
    if text:
        endpoint(text)


def endpoint(text: str) -> tuple[str, int]:
    """ "cloud.example:10000" or "[2001:db8::1]:10000" as a pair."""
    name, _, port = text.rpartition(":")
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        host(bare)
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536) or (":" in bare and bare == name):
            raise ValueError
    except ValueError as exc:
        raise ValueError("is not HOST:PORT with a port from 1 to 65535, like 127.0.0.1:10080 or [::1]:10080") from exc
    return bare, int(port)


_REGISTRY = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?")


def text(text: str) -> None:
    """Anything but nothing, in one line."""
    if not text.strip() or not text.isprintable():
        raise ValueError("is no name")


def registry(text: str) -> None:
    """HOST or HOST:PORT of an image registry."""
    if not _REGISTRY.fullmatch(text):
        raise ValueError("is not HOST or HOST:PORT of a registry, like registry.example:5000")


def mirror(text: str) -> None:
    """HOST[:PORT][/PREFIX] of an image registry."""
    host, _, prefix = text.partition("/")
    if not _REGISTRY.fullmatch(host) or not re.fullmatch(r"[a-z0-9._/-]*", prefix):
        raise ValueError("is not HOST[:PORT][/PREFIX] of a mirror, like mirror.example:5000/docker.io")


def cloud_service(text: str) -> tuple[str, str, tuple[str, int]]:
    """ "acme/api=127.0.0.1:9000" as (tenant or "", name, endpoint)."""
    name, equals, target = text.partition("=")
    tenant, slash, last = name.rpartition("/")
    if not equals or (slash and not tenant):
        raise ValueError("is not NAME=HOST:PORT or TENANT/NAME=HOST:PORT")
    label(last)
    if tenant:
        label(tenant)
    return tenant, last, endpoint(target)


def tenant(text: str) -> tuple[str, str]:
    """ "acme" or "acme=/etc/kubeedge/acme.kubeconfig" or "acme=in-cluster" as (name, cluster or "")."""
    name, equals, source = text.partition("=")
    label(name)
    if equals and source != "in-cluster" and not source.startswith("/"):
        raise ValueError("is not NAME, NAME=/PATH/OF/A/KUBECONFIG or NAME=in-cluster")
    return name, source


def ip_endpoint(text: str) -> tuple[str, int]:
    """An address to listen on, and a port; names are not allowed (see endpoint). Raises ValueError."""
    host_, port = endpoint(text)
    address(host_)
    return host_, port


def optional_ip_endpoint(text: str) -> None:
    """ "", or an IP address and a port."""
    if text:
        ip_endpoint(text)


def loopback_endpoint(text: str) -> tuple[str, int]:
    """An address and a port of this machine alone (see ip_endpoint). Raises ValueError."""
    host_, port = ip_endpoint(text)
    if not ipaddress.ip_address(host_).is_loopback:
        raise ValueError("must be a loopback address: 127.0.0.1:PORT")
    return host_, port


def method_server(text: str) -> tuple[str, tuple[str, int]]:
    """(protocol, its mapper's address and port on this machine) of PROTOCOL=ADDRESS:PORT. Raises ValueError."""
    protocol, equals, where = text.rpartition("=")
    if not equals or not protocol:
        raise ValueError("is not PROTOCOL=127.0.0.1:7777")
    return protocol, loopback_endpoint(where)


def port_range(text: str) -> tuple[int, int]:
    """(first, last) of PORT or FIRST-LAST. Raises ValueError."""
    first, dash, last = text.partition("-")
    found = [int(one) if one.isascii() and one.isdigit() and len(one) < 6 else 0 for one in (first, last or first)]
    if not 0 < found[0] <= found[1] < 65536 or (dash and not last):
        raise ValueError("is not PORT or FIRST-LAST, of 1 to 65535")
    return found[0], found[1]


def mapper(text: str) -> None:
    """The protocol of a mapper that comes with the agent. Raises ValueError."""
    if text not in MAPPERS:
        raise ValueError(f"is none of {', '.join(MAPPERS)}")


def optional_loopback(text: str) -> None:
    """As loopback_endpoint, or ""."""
    if text:
        loopback_endpoint(text)


def optional_broker(text: str) -> None:
    """As broker, or "": there is none."""
    if text:
        broker(text)


def broker(text: str) -> tuple[str, int, bool]:
    """(host, port, whether by TLS) of an MQTT broker: mqtt://HOST[:1883] or mqtts://HOST[:8883]. Raises ValueError."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("mqtt", "mqtts"):
        raise ValueError("is no MQTT broker: mqtt://HOST[:PORT], or mqtts://HOST[:PORT] by TLS")
    default = 8883 if scheme == "mqtts" else 1883
    has_port = ":" in rest.rpartition("]")[2]
    return (*endpoint(rest if has_port else f"{rest}:{default}"), scheme == "mqtts")


def optional_unix_socket(text: str) -> None:
    """As unix_socket, or "": there is none."""
    if text:
        unix_socket(text)


def unix_socket(text: str) -> None:
    """The address of a Unix socket, as CRI's tools write it."""
    path = text.removeprefix("unix://")
    if path == text or not path.startswith("/") or len(path) > 107 or "\0" in path:
        raise ValueError("is not the address of a Unix socket: unix:// and an absolute path of at most 107 bytes")
