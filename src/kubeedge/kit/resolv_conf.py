"""resolv.conf(5) of the machine, and those of pods (dnsPolicy and dnsConfig, as Kubernetes documents them)."""

from __future__ import annotations

import contextlib
import ipaddress
import time
from collections.abc import Callable, Mapping, Sequence

from kubeedge.kit.dataclasses import dataclass

_PATHS = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
_MOST_BYTES = 64 * 1024
_MOST_SERVERS, _MOST_SEARCHES, _MOST_CHARACTERS = 3, 32, 2048  # what Kubernetes lets a pod have
_LOOK = 5.0  # seconds after which the file is looked at again


def machine_resolver() -> str:
    """The machine's resolv.conf; not the one with a resolver that only the machine itself can reach."""
    text = ""
    for path in _PATHS:
        with contextlib.suppress(OSError), open(path, errors="replace") as file:
            text = file.read(_MOST_BYTES)
        if "nameserver 127." not in text:
            break
    return text


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """The three lists of a resolv.conf. Options are as in the file: "ndots:5"."""

    servers: Sequence[str] = ()
    searches: Sequence[str] = ()
    options: Sequence[str] = ()

    def text(self) -> str:
        """The text of a resolv.conf(5) file, with a line feed at the end."""
        lines = [f"nameserver {server}" for server in self.servers[:_MOST_SERVERS]]
        searches: list[str] = []
        for search in self.searches[:_MOST_SEARCHES]:
            if len(" ".join([*searches, search])) <= _MOST_CHARACTERS:
                searches.append(search)
        lines += [f"search {' '.join(searches)}"] if searches else []
        lines += [f"options {' '.join(self.options)}"] if self.options else []
        return "".join(f"{line}\n" for line in lines)


def parse(text: str) -> ResolvConf:
    """The last `search` or `domain` counts, as in the resolver."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        match words[:1]:
            case ["nameserver"] if len(words) > 1:
                servers.append(words[1])
            case ["search" | "domain"]:
                searches = words[1:]
            case ["options"]:
                options += words[1:]
    return ResolvConf(servers, searches, options)


def of_pod(policy: str, dns: Mapping[str, Sequence[str]], machine: str, cluster: ResolvConf | None) -> str:
    """resolv.conf of a pod. `policy`: after ClusterFirst of a pod on the node's network has become Default; `dns`: nameservers, searches and
    options of its dnsConfig; `cluster`: of the pod's namespace, None on a node without cluster DNS."""
    own = parse(machine)
    if policy == "None":
        base = ResolvConf()
    elif policy == "Default" or cluster is None:
        base = own
    else:
        base = ResolvConf(cluster.servers, [*cluster.searches, *own.searches], cluster.options)
    options = {option.partition(":")[0]: option for option in (*base.options, *(dns.get("options") or ()))}
    return ResolvConf(
        list(dict.fromkeys((*base.servers, *(dns.get("nameservers") or ())))),
        list(dict.fromkeys((*base.searches, *(dns.get("searches") or ())))),
        list(options.values()),
    ).text()


class Resolvers:
    """The machine's resolvers, looked up now and then: it may be carried to another network. Never `own`, which would be a loop."""

    def __init__(self, own: str, fixed: Sequence[str] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        self._own = own
        self._fixed = tuple(fixed)
        self._clock = clock
        self._until = 0.0
        self._found: tuple[str, ...] = ()

    def addresses(self) -> Sequence[str]:
        """The addresses that are configured, else those of the machine."""
        if self._fixed:
            return self._fixed
        now = self._clock()
        if now >= self._until:
            self._until = now + _LOOK
            self._found = tuple(s for s in parse(machine_resolver()).servers if s != self._own and _is_address(s))
        return self._found[:_MOST_SERVERS]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
