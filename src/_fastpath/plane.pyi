"""The data plane, L4 and the fast path of the web proxies, in C. Products use kubeedge.kubebus.l3.plane, whose docstrings say what each call means.

Ports, tenants, numbers of nodes and descriptors are integers; times are seconds; sizes are bytes. Nothing here blocks.
"""

from builtins import bytes as _bytes
from collections.abc import Callable, Sequence

from kubeedge._fastpath.l4_state import ConnectionState

from kubeedge.api.names import L4Port, NodeNumber, PortId, TenantNumber

_Key = tuple[NodeNumber, L4Port, L4Port]  # peer, local port, remote port
_Buffer = bytes | bytearray | memoryview

class TlsContext:
    """Credentials of links. Raises OSError when a file cannot be used."""

    server: bool
    def __init__(self, ca_file: str, cert_file: str, key_file: str, *, server: bool) -> None: ...

class Plane:
    """A data plane and its thread. Every call but close() raises ValueError after close(). Raises OSError when it cannot start."""

    def __init__(self, number: NodeNumber) -> None: ...
    def close(self) -> None: ...
    def fileno(self) -> int: ...
    def raw_events(self, limit: int = 256) -> list[tuple[int, PortId, int, TenantNumber, NodeNumber, bytes]]:
        """[(type, port, kind, tenant, source, payload), ...]"""

    def add_tun(self, fd: int, *, tenant: TenantNumber, vnet_hdr: bool, uso: bool = True) -> PortId: ...
    def add_link(self, fd: int, tls: TlsContext, *, server_name: str = "", congestion: str = "") -> PortId: ...
    def admit(self, port: PortId, *, tenant: TenantNumber, number: NodeNumber, prefixes: Sequence[str]) -> bool: ...
    def admit_peer(self, port: PortId) -> bool: ...
    def add_next_hop(self, tenant: TenantNumber, number: NodeNumber, port: PortId) -> bool: ...
    def remove_next_hops(self, tenant: TenantNumber, number: NodeNumber) -> None: ...
    def add_route(self, tenant: TenantNumber, prefix: str, number: NodeNumber, mtu: int = 0) -> None: ...
    def remove_route(self, tenant: TenantNumber, prefix: str) -> None: ...
    def lookup(self, tenant: TenantNumber, address: str) -> NodeNumber | None: ...
    def send(self, port: PortId, kind: int, payload: _Buffer) -> bool: ...
    def send_segment(self, tenant: TenantNumber, number: NodeNumber, payload: _Buffer) -> bool: ...
    def set_source(self, tenant: TenantNumber, address: str, tun: bool = False) -> None: ...
    def congestion(self, port: PortId) -> tuple[str, str] | None: ...
    def drop(self, port: PortId, reason: str) -> None: ...
    def raw_counters(self, port: PortId) -> dict[str, int] | None: ...

class L4:
    """The L4 connections of one tenant's node, in a plane's thread; without a plane pure, for tests: `random_sequence` gives 32 random bits.
    `pace`: connections in a second that are accepted of a node, and of all of the tenant (0: any number); others are reset.

    After a call on a connection: touch(). Calls raise Unavailable after close()."""

    connections: dict[_Key, L4Connection]
    accepted: list[_Key]  # established since the driver looked
    changed: set[_Key]  # something to read, to write or to end
    def __init__(
        self,
        random_sequence: Callable[[], int] | None = None,
        *,
        plane: Plane | None = None,
        tenant: TenantNumber = ...,
        number: NodeNumber = ...,
        budget: int = 67108864,
        beside: L4 | None = None,
        pace: tuple[int, int] = (0, 0),
    ) -> None: ...
    def close(self) -> None: ...
    def fileno(self) -> int:
        """Readable when collect() has news; -1 without a plane."""

    @property
    def count(self) -> int: ...
    def counters(self) -> dict[str, int]: ...
    def listen(self, port: L4Port) -> None:
        """Raises Misuse when something has registered for them already."""

    def unlisten(self, port: L4Port) -> None: ...
    def connect(self, peer: NodeNumber, port: L4Port, now: float) -> _Key:
        """Raises Unavailable when there are too many connections, or too many bytes wait in them."""

    def receive(self, peer: NodeNumber, data: bytes, now: float) -> None: ...
    def collect(self) -> None:
        """Fills `accepted` and `changed`."""

    def touch(self, key: _Key) -> None: ...
    def drop(self, key: _Key) -> None:
        """The driver is done with a connection; what is not over is reset."""

    def reset_peer(self, peer: NodeNumber, reason: str) -> None: ...
    def next_timer(self) -> float | None: ...
    def handle_timer(self, now: float) -> None: ...
    def segments_to_send(self) -> list[tuple[NodeNumber, bytes]]:
        """Without a plane: [(peer, segment), ...]"""

class L4Connection:
    """One connection. After L4.drop() it keeps its last state and error."""

    key: _Key
    @property
    def local_port(self) -> L4Port: ...
    @property
    def remote_port(self) -> L4Port: ...
    @property
    def state(self) -> ConnectionState: ...
    @property
    def error(self) -> str: ...
    @property
    def buffered(self) -> int:
        """Bytes that are not sent yet."""

    @property
    def waiting(self) -> int:
        """Bytes to read."""

    def send(self, data: _Buffer, now: float) -> int:
        """Bytes taken; fewer than all when memory is short, until may_write() says that there is room, or when it has ended."""

    def may_write(self) -> bool: ...
    def read(self, now: float, limit: int = 1048576) -> bytes: ...
    def at_eof(self) -> bool: ...
    def finish(self, now: float) -> None: ...
    def abort(self, reason: str) -> None: ...
    def keepalive(self, seconds: float) -> None:
        """Of silence, after which the peer is asked; 0: never."""

class Proxy:
    """A fast path in a plane's thread: in front of a listening TCP socket (`listener`, whose descriptor is the proxy's from here), or of who listens
    on a port of `l4`. Raises OSError when it cannot start."""

    closed: Callable[[], object] | None  # called once, when it is closed, with its plane for instance
    def __init__(
        self,
        plane: Plane,
        *,
        listener: int = -1,
        l4: L4 | None = None,
        port: L4Port = ...,
        connections: int,
        per_client: int,
        concurrent: int,
        pooled: int,
        interim: int,
        interim_most: int,
        memory: int,
        rate: float,
        burst: float,
        connect: float,
        answer: float,
        idle: float,
        head: float,
        stall: float,
        kept: float,
    ) -> None: ...
    def close(self) -> None: ...
    def fileno(self) -> int: ...
    def handed_over(self) -> list[tuple[int, bytes]]:
        """[(descriptor, what was read from it), ...]; the caller owns the descriptors."""

    def lookups(self) -> list[str]:
        """Upstreams that are wanted: "tenant/node" in front of web clients, else a service's name. Learn or deny each of them."""

    def deny(self, name: str) -> None: ...
    def learn_node(
        self, tenant: str, node: str, tenant_number: TenantNumber, number: NodeNumber, seconds: float
    ) -> bool: ...
    def learn_service(self, service: str, targets: Sequence[tuple[str, int]], seconds: float) -> bool: ...
    def forget(self) -> None: ...
    def set_hosts(self, names: Sequence[str]) -> None: ...
    def take(self, account: str) -> int:
        """The limits of the fast path, for the slow one. 0: taken, to be given back; else the status that says why not."""

    def give(self, account: str) -> None: ...
    def counters(self) -> dict[str, int]: ...
    def accounts(self) -> dict[str, dict[str, int | list[int]]]:
        """{tenant or service: counters}"""

# -- for tests ---------------------------------------------------------------------------------------------------------

class FairQueue:
    """The queue of a link (link/queue.h). Times are microseconds that wrap at 2**32."""

    dropped: list[_bytes]
    @property
    def bytes(self) -> int: ...
    @property
    def marked(self) -> int: ...
    def put(self, frame: _bytes, flow: int, now: int, limit: int) -> None: ...
    def put_control(self, frame: _bytes) -> None: ...
    def get(self, now: int) -> _bytes | None: ...

def segment_flow(payload: bytes) -> int: ...
def split(frame: bytes, count: int) -> list[bytes] | None: ...
def rewrite_request(data: bytes, client: str | None = None) -> tuple[int, bool, bytes]: ...
def rewrite_answer(
    data: bytes, prefix: bytes, host: bytes, framed: bool = False, close: bool = False, directory: bytes = b""
) -> tuple[int, int, int, bool, bytes]: ...
def read_chunks(parts: Sequence[bytes]) -> tuple[bytes, bytes] | None: ...
