"""The data plane in Python: the reference implementation of _fastpath/plane and link.

The same face, the same rules, the same counters; the tests run on both. It is slow (it holds the GIL) and meant to be read:

    TUN ──read──> check ──route──> queue of a link ──TLS──> socket
    socket ──TLS──> frame ──check source──> route ──> TUN, or the queue of another link, or an event

One lock guards a plane; its thread lets go of it while it waits.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import os
import selectors
import socket
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence

from kubeedge.errors import PeerError
from kubeedge.wire_format import frame as wire
from tests.reference import icmp, packets
from tests.reference.packets import mix
from tests.reference.queue import FairQueue
from tests.reference.routes import Routes

_UP, _FRAME, _SEGMENT, _DOWN = 1, 2, 3, 4
_QUEUE = 512 * 1024  # bytes that wait for a link
_EVENTS = 4 * 1024 * 1024  # bytes that wait for Python, of all links
_EVENTS_LINK = 512 * 1024  # of one link
_EVENTS_CONTROL = 128 * 1024  # beyond _EVENTS_LINK, for control frames alone
_EVENT = 64  # bytes that an event costs by itself
_EARLY_CONTROL = 16  # control frames from a link that has not been admitted
_HANDSHAKE_SECONDS = 10.0
_HANDSHAKE_GRACE = 2.0  # seconds that nobody is pushed out
_MAX_HANDSHAKES = 256
_BATCH_BYTES, _BATCH_PACKETS = 256 * 1024, 64
_RECORD = 16 * 1024
_MAX_PREFIXES = 64
_MAX_BUNDLE, _MAX_NEXT_HOPS = 8, 4
_FLOW_BYTES = 4  # of a segment (its ports) that say which connection it belongs to
_COUNTERS = (
    "rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "rx_segments", "tx_segments", "no_route", "no_link", "bad_source",
    "bad_header", "ttl_exceeded", "too_big", "queue_full", "delay_dropped", "marked",
    "tun_full", "events_full", "icmp_sent", "rtt", "min_rtt", "rate", "lowat",
)  # fmt: skip
_ICMP_BURST, _ICMP_PER_SECOND = 32, 100
_NOBODY = {
    4: bytes([192, 0, 0, 8]),
    6: bytes.fromhex("fe80" + "00" * 13 + "01"),
}  # RFC 7600: of routers without an address
_WAN_RTT = 3_000  # us: from here a path counts as a long one
_TCP_INFO_RTT = 68  # where struct tcp_info has tcpi_rtt, u32


class TlsContext:
    def __init__(self, ca_file: str, cert_file: str, key_file: str, *, server: bool) -> None:
        self.server = server
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        if server:
            context.num_tickets = 0
        for what, load in (
            (f"the CA certificate {ca_file}", lambda: context.load_verify_locations(ca_file)),
            (f"the certificate {cert_file} and its key", lambda: context.load_cert_chain(cert_file, key_file)),
        ):
            try:
                load()  # type: ignore[no-untyped-call]
            except OSError as exc:  # ssl.SSLError is one
                raise OSError(f"cannot load {what}: {exc}") from exc
        self.context = context


class _Port:
    def __init__(self, id: int, fd: int, tenant: int) -> None:
        self.id, self.fd, self.tenant = id, fd, tenant
        self.number = 0
        self.up = self.admitted = self.peer = False
        self.counters = dict.fromkeys(_COUNTERS, 0)
        self.event_bytes = 0
        self.icmp_tokens, self.icmp_at = float(_ICMP_BURST), time.monotonic()


class _Tun(_Port):
    def __init__(self, id: int, fd: int, tenant: int, *, vnet_hdr: bool, uso: bool) -> None:
        super().__init__(id, fd, tenant)
        self.vnet_hdr, self.uso = vnet_hdr, uso
        self.up = self.admitted = True


class _Link(_Port):
    def __init__(self, id: int, link: ssl.SSLSocket) -> None:
        super().__init__(id, link.fileno(), 0)
        self.socket = link
        self.deadline = time.monotonic() + _HANDSHAKE_SECONDS
        self.decoder = wire.Decoder()
        self.early = 0
        self.queue = FairQueue()
        self.current = memoryview(b"")  # partly sent
        self.congestion = self.problem = ""
        self.prefixes: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self.more = False  # TLS may hold bytes that the selector does not see


class _Node:
    def __init__(self) -> None:
        self.links: list[int] = []  # to us
        self.next_hops: list[int] = []  # to relays that have one


class _Tenant:
    def __init__(self) -> None:
        self.routes = Routes()
        self.nodes: dict[int, _Node] = {}
        self.tun: int | None = None
        self.sources: dict[tuple[int, bool], bytes] = {}  # (version, into the TUN) -> address of ICMP errors


class Plane:
    def __init__(self, number: int) -> None:
        self._number = number
        self._lock = threading.RLock()
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._notify = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._ports: dict[int, _Port] = {}
        self._next_id = 1
        self._tenants: dict[int, _Tenant] = {}
        self._events: deque[tuple[int, int, int, int, int, bytes]] = deque()
        self._event_bytes: dict[int, int] = {}  # of each tenant
        self._stop = self._closed = False
        self._thread = threading.Thread(target=self._run, name="kubeedge-plane", daemon=True)
        self._thread.start()

    # -- calls ---------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with self._lock:
            self._stop = True
        self._nudge()
        self._thread.join()
        for port in list(self._ports.values()):
            self._free(port)
        self._selector.close()
        os.close(self._wake)
        os.close(self._notify)

    def __del__(self) -> None:
        if hasattr(self, "_thread"):
            self.close()

    def fileno(self) -> int:
        self._alive()
        return self._notify

    def raw_events(self, limit: int = 256) -> list[tuple[int, int, int, int, int, bytes]]:
        self._alive()
        with self._lock:
            taken = [self._events.popleft() for _ in range(min(limit, len(self._events)))]
            for _type, id, _kind, tenant, _source, payload in taken:
                self._event_bytes[tenant] -= len(payload) + _EVENT
                if port := self._ports.get(id):
                    port.event_bytes -= len(payload) + _EVENT
            if not self._events:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._notify)
        return taken

    def add_tun(self, fd: int, *, tenant: int, vnet_hdr: bool, uso: bool = True) -> int:
        self._alive()
        with self._lock:
            if self._tenant(tenant).tun is not None:
                raise OSError(f"tenant number {tenant} has a TUN already")
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)
            self._selector.register(fd, selectors.EVENT_READ)
            port = _Tun(self._new_id(), fd, tenant, vnet_hdr=vnet_hdr, uso=uso)
            self._ports[port.id] = port
            self._tenant(tenant).tun = port.id
        self._nudge()
        return port.id

    def add_link(self, fd: int, tls: TlsContext, *, server_name: str = "", congestion: str = "") -> int:
        self._alive()
        if not tls.server and not server_name:
            raise ValueError("a link that connects needs the name to check in the server's certificate")
        raw = socket.socket(fileno=fd)
        try:
            for option, value in (
                (socket.TCP_NODELAY, 1),
                (socket.TCP_NOTSENT_LOWAT, 128 * 1024),
                (socket.TCP_USER_TIMEOUT, 20_000),
            ):
                with contextlib.suppress(OSError):
                    raw.setsockopt(socket.IPPROTO_TCP, option, value)
            raw.setblocking(False)
            link = tls.context.wrap_socket(
                raw,
                server_side=tls.server,
                server_hostname=None if tls.server else server_name,
                do_handshake_on_connect=False,
            )
        except BaseException:
            raw.detach()  # the caller keeps the descriptor
            raise
        with self._lock:
            port = _Link(self._new_id(), link)
            self._look_at_path(port, congestion)
            self._ports[port.id] = port
            self._selector.register(port.fd, selectors.EVENT_READ | selectors.EVENT_WRITE)
            waiting = [p for p in self._ports.values() if isinstance(p, _Link) and not p.up]
            if len(waiting) > _MAX_HANDSHAKES:  # in a crowd of honest links the first ones get through
                oldest = min(waiting, key=lambda p: p.deadline)
                had_time = time.monotonic() >= oldest.deadline - _HANDSHAKE_SECONDS + _HANDSHAKE_GRACE
                self._down(oldest if had_time else port, "too many handshakes at once")
        self._nudge()
        return port.id

    def admit(self, port: int, *, tenant: int, number: int, prefixes: Sequence[str]) -> bool:
        self._alive()
        if len(prefixes) > _MAX_PREFIXES:
            raise ValueError(f"{len(prefixes)} prefixes; a link may have {_MAX_PREFIXES}")
        networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
        with self._lock:
            link = self._ports.get(port)
            if not isinstance(link, _Link) or not 0 <= number < 65_536 or number == self._number:
                return False
            self._forget_number(link)
            link.tenant, link.number, link.prefixes, link.admitted = tenant, number, networks, True
            link.peer = False
            links = self._node(tenant, number).links
            links.append(port)
            del links[:-_MAX_BUNDLE]  # the oldest gives way; it stays open until it is dropped
        return True

    def admit_peer(self, port: int) -> bool:
        self._alive()
        with self._lock:
            link = self._ports.get(port)
            if not isinstance(link, _Link):
                return False
            self._forget_number(link)
            link.tenant, link.number, link.prefixes = 0, 0, []
            link.admitted = link.peer = True
        return True

    def add_next_hop(self, tenant: int, number: int, port: int) -> bool:
        self._alive()
        with self._lock:
            link = self._ports.get(port)
            if link is None or not link.peer or number == self._number or not 0 <= number < 65_536:
                return False
            next_hops = self._node(tenant, number).next_hops
            next_hops[:] = [via for via in next_hops if via != port]
            if len(next_hops) == _MAX_NEXT_HOPS:
                return False
            next_hops.append(port)
        return True

    def remove_next_hops(self, tenant: int, number: int) -> None:
        self._alive()
        with self._lock:
            self._node(tenant, number).next_hops.clear()

    def add_route(self, tenant: int, prefix: str, number: int, mtu: int = 0) -> None:
        self._alive()
        if not 0 <= number < 65_536:
            raise ValueError(f"route {prefix} of tenant {tenant} to node {number}: no such number, or no memory")
        with self._lock:
            self._tenant(tenant).routes.add(prefix, number, mtu)

    def remove_route(self, tenant: int, prefix: str) -> None:
        self._alive()
        with self._lock:
            self._tenant(tenant).routes.remove(prefix)

    def lookup(self, tenant: int, address: str) -> int | None:
        self._alive()
        with self._lock:
            return self._tenant(tenant).routes.lookup(address)

    def send(self, port: int, kind: int, payload: bytes) -> bool:
        self._alive()
        if kind not in (wire.CONTROL, wire.SEGMENT) or not wire.LIMITS[kind][0] <= len(payload) <= wire.LIMITS[kind][1]:
            return False
        with self._lock:
            return self._send(self._ports.get(port), kind, bytes(payload))

    def send_segment(self, tenant: int, number: int, payload: bytes) -> bool:
        self._alive()
        if len(payload) > wire.MAX_SEGMENT_BYTES - wire.ADDRESS:
            return False
        with self._lock:
            segment = wire.encode_segment(number, self._number, bytes(payload))
            if number == self._number or (to := self._port_for(tenant, number, segment_flow(segment), None)) is None:
                return False
            kind, data = _towards(to, wire.SEGMENT, tenant, segment)
            return self._send(to, kind, data)

    def drop(self, port: int, reason: str) -> None:
        self._alive()
        with self._lock:
            if found := self._ports.get(port):
                if isinstance(found, _Link):
                    self._flush(found)  # what says why, if the socket takes it at once
                if port in self._ports:
                    self._down(found, reason)

    def raw_counters(self, port: int) -> dict[str, int] | None:
        self._alive()
        with self._lock:
            found = self._ports.get(port)
            return None if found is None else {**found.counters, "queued": _queued(found)}

    def set_source(self, tenant: int, address: str, tun: bool = False) -> None:
        self._alive()
        ip = ipaddress.ip_address(address)
        with self._lock:
            self._tenant(tenant).sources[ip.version, tun] = ip.packed

    def congestion(self, port: int) -> tuple[str, str] | None:
        self._alive()
        with self._lock:
            found = self._ports.get(port)
            return (
                (found.congestion, found.problem) if isinstance(found, _Link) else None if found is None else ("", "")
            )

    # -- the thread ------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._stop:
                    return
                links = [p for p in self._ports.values() if isinstance(p, _Link)]
                timeout = 0.0 if any(p.more for p in links) else 1.0 if any(not p.up for p in links) else None
            ready = self._selector.select(timeout)
            with self._lock:
                for key, mask in ready:
                    if key.fd == self._wake:
                        with contextlib.suppress(BlockingIOError):
                            os.eventfd_read(self._wake)
                        continue
                    port = next((p for p in self._ports.values() if p.fd == key.fd), None)
                    if port is not None:
                        self._serve(port, mask)
                for port in list(self._ports.values()):
                    if not isinstance(port, _Link) or port.id not in self._ports:
                        continue
                    if not port.up and time.monotonic() >= port.deadline:
                        self._down(port, "no TLS handshake in time")
                        continue
                    if port.more:
                        self._read_link(port)
                    if port.id in self._ports:
                        self._flush(port)

    def _serve(self, port: _Port, mask: int) -> None:
        if isinstance(port, _Tun):
            self._read_tun(port)
        elif isinstance(port, _Link):
            if not port.up:
                self._handshake(port)
            elif mask & selectors.EVENT_READ:
                self._read_link(port)

    def _handshake(self, port: _Link) -> None:
        try:
            port.socket.do_handshake()
        except ssl.SSLWantReadError:
            self._poll(port, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._poll(port, selectors.EVENT_READ | selectors.EVENT_WRITE)
        except ssl.SSLCertVerificationError as exc:
            self._down(port, f"certificate refused: {exc.verify_message}")
        except (OSError, ValueError) as exc:
            self._down(port, f"TLS handshake failed: {exc}")
        else:
            names = (port.socket.getpeercert() or {}).get("subjectAltName", ())
            uris = [str(name[1]) for name in names if name[0] == "URI"]
            if len(uris) != 1 or not 0 < len(uris[0].encode()) < 256:
                self._down(port, "the peer's certificate does not have exactly one URI name")
                return
            port.up = True
            self._emit(_UP, port, 0, 0, uris[0].encode())
            self._poll(port, selectors.EVENT_READ)
            self._read_link(port)  # the first frame may have come with the handshake

    def _read_link(self, port: _Link) -> None:
        total, port.more = 0, False
        while total < _BATCH_BYTES:
            try:
                data = port.socket.recv(_RECORD)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except ssl.SSLEOFError:
                data = b""
            except OSError as exc:
                self._down(port, exc.strerror or str(exc))
                return
            if not data:
                self._down(port, "closed by the peer")
                return
            total += len(data)
            port.counters["rx_bytes"] += len(data)
            port.decoder.receive_data(data)
            try:
                while port.id in self._ports and (frame := port.decoder.maybe_next_frame()):
                    self._on_frame(port, frame.kind, frame.payload)
            except PeerError as exc:
                self._down(port, str(exc))
            if port.id not in self._ports:
                return
        port.more = True

    def _on_frame(self, port: _Link, kind: int, payload: bytes) -> None:
        if kind == wire.CONTROL:
            port.early += not port.admitted
            if port.early > _EARLY_CONTROL and not port.admitted:
                self._down(port, "too many control frames before admission")
            elif not self._emit(_FRAME, port, kind, 0, payload):
                self._down(port, "control frames come faster than they are read")
            return
        if not port.admitted:
            return
        tenant = port.tenant
        if kind in (wire.TENANT_PACKET, wire.TENANT_SEGMENT):
            if not port.peer:
                self._down(port, "a frame between relays from a link that leads to none")
                return
            tenant = int.from_bytes(payload[: wire.TENANT], "big")
            kind, payload = kind - (wire.TENANT_PACKET - wire.PACKET), payload[wire.TENANT :]
        elif port.peer:
            self._down(port, "a frame without its tenant from a relay")
            return
        if kind == wire.SEGMENT:
            self._on_segment(port, tenant, payload)
        else:
            port.counters["rx_packets"] += 1
            checked = packets.check(payload)
            if checked is None:
                port.counters["bad_header"] += 1
            elif not self._source_allowed(port, checked.ip.source):
                port.counters["bad_source"] += 1
            else:
                self._forward(port, tenant, payload, checked)

    def _on_segment(self, port: _Link, tenant: int, payload: bytes) -> None:
        destination, source, segment = wire.decode_segment(payload)
        port.counters["rx_segments"] += 1
        if port.prefixes and source != port.number:
            port.counters["bad_source"] += 1
        elif destination == self._number:
            self._emit(_SEGMENT, port, wire.SEGMENT, source, segment, tenant)
        else:
            to = self._port_for(tenant, destination, segment_flow(payload), port)
            if not isinstance(to, _Link) or _same_node(to, port):
                port.counters["no_route"] += 1
            else:
                self._enqueue(to, wire.encode(*_towards(to, wire.SEGMENT, tenant, payload)), segment_flow(payload))
                to.counters["tx_segments"] += 1

    @staticmethod
    def _source_allowed(port: _Link, source: bytes) -> bool:
        return not port.prefixes or any(ipaddress.ip_address(source) in prefix for prefix in port.prefixes)

    def _read_tun(self, port: _Tun) -> None:
        total = 0
        for _ in range(_BATCH_PACKETS):
            if total >= _BATCH_BYTES:
                return
            try:
                data = os.read(port.fd, wire.MAX_PACKET_BYTES)
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EINTR, errno.EIO):
                    self._down(port, f"the TUN device is gone: {exc.strerror}")
                return
            if not data:
                self._down(port, "the TUN device is gone: end of file")
                return
            total += len(data)
            port.counters["rx_packets"] += 1
            port.counters["rx_bytes"] += len(data)
            frame = data if port.vnet_hdr else packets.NO_HEADER + data
            checked = packets.check(frame)
            if checked is None:
                port.counters["bad_header"] += 1
            else:
                self._forward(port, port.tenant, frame, checked)

    def _forward(self, port: _Port, tenant: int, frame: bytes, checked: packets.Checked) -> None:
        route = self._tenant(tenant).routes.route(checked.ip.destination)
        to = None if route is None else self._port_for(tenant, route[0], checked.flow, port)
        if route is None or (to is not None and _same_node(to, port)):
            port.counters["no_route"] += 1
            self._send_error(port, tenant, frame, checked, icmp.Error.NO_ROUTE)
            return
        if to is None:
            port.counters["no_link"] += 1
            self._send_error(port, tenant, frame, checked, icmp.Error.NO_LINK)
            return
        if isinstance(port, _Link) and isinstance(to, _Link):
            packet = bytearray(frame[wire.VNET_HEADER :])
            if not packets.decrement_ttl(packet):
                port.counters["ttl_exceeded"] += 1
                self._send_error(port, tenant, frame, checked, icmp.Error.TTL_EXCEEDED)
                return
            frame = frame[: wire.VNET_HEADER] + packet
        mtu = route[1]
        if checked.syn:
            frame = self._clamp(tenant, frame, checked, mtu)
        if mtu and checked.unit > mtu and checked.whole:
            port.counters["too_big"] += 1
            self._send_error(port, tenant, frame, checked, icmp.Error.TOO_BIG, mtu=mtu)
        elif isinstance(to, _Tun):
            self._write_tun(to, frame)
        elif isinstance(to, _Link):
            self._enqueue(to, wire.encode(*_towards(to, wire.PACKET, tenant, frame)), checked.flow)
            to.counters["tx_packets"] += 1

    def _clamp(self, tenant: int, frame: bytes, checked: packets.Checked, mtu: int) -> bytes:
        """Networks behind either end may have a smaller MTU: a connection is told when it begins."""
        back = self._tenant(tenant).routes.route(checked.ip.source)
        known = [size for size in (mtu, back[1] if back else 0) if size]
        if not known:
            return frame
        changed = bytearray(frame)
        packets.clamp_mss(changed, min(known))
        return bytes(changed)

    def _send_error(
        self, port: _Port, tenant: int, frame: bytes, checked: packets.Checked, what: icmp.Error, *, mtu: int = 0
    ) -> None:
        """Tells the sender, on the way that its packet came, what happened to it."""
        packet, ip = bytes(frame[wire.VNET_HEADER :]), checked.ip
        if not icmp.may_answer(packet, ip):
            return
        now = time.monotonic()
        port.icmp_tokens = min(_ICMP_BURST, port.icmp_tokens + (now - port.icmp_at) * _ICMP_PER_SECOND)
        port.icmp_at = now
        if port.icmp_tokens < 1:
            return
        port.icmp_tokens -= 1
        inward = isinstance(port, _Tun)
        source = self._tenant(tenant).sources.get((ip.version, inward), _NOBODY[ip.version])
        answer = packets.NO_HEADER + icmp.error(packet, ip, what, source, mtu=mtu)
        port.counters["icmp_sent"] += 1
        if isinstance(port, _Tun):
            self._write_tun(port, answer)
        elif isinstance(port, _Link):
            flow = mix(int.from_bytes(ip.source[:4], "big"), list(icmp.Error).index(what))
            self._enqueue(port, wire.encode(*_towards(port, wire.PACKET, tenant, answer)), flow)
            port.counters["tx_packets"] += 1

    @staticmethod
    def _write_tun(port: _Tun, frame: bytes) -> None:
        if port.vnet_hdr and (port.uso or not packets.is_uso(frame)):
            out = [frame]
        else:
            out = [(packets.NO_HEADER if port.vnet_hdr else b"") + packet for packet in packets.complete(frame)]
        if not out:
            port.counters["bad_header"] += 1
        for data in out:
            try:
                written = os.write(port.fd, data)
            except OSError:
                port.counters["tun_full"] += 1
            else:
                port.counters["tx_packets"] += 1
                port.counters["tx_bytes"] += written

    # -- sending ---------------------------------------------------------------------------------------------------------------

    def _send(self, port: _Port | None, kind: int, payload: bytes) -> bool:
        if not isinstance(port, _Link):
            return False
        frame = wire.encode(kind, payload)
        if kind == wire.CONTROL:  # may pass a full queue, but not without end
            if port.queue.control_bytes > _QUEUE:
                port.counters["queue_full"] += 1
                return False
            port.queue.put_control(frame)
        else:
            if port.queue.bytes > _QUEUE:  # what comes from here is refused, instead of dropping what is older
                port.counters["queue_full"] += 1
                return False
            at = wire.TENANT if kind == wire.TENANT_SEGMENT else 0
            self._enqueue(port, frame, segment_flow(payload[at:]), limit=1 << 62)
            port.counters["tx_segments"] += 1
        self._nudge()
        return True

    @staticmethod
    def _enqueue(port: _Link, frame: bytes, flow: int, *, limit: int = _QUEUE) -> None:
        port.queue.put(frame, flow, _microseconds(), limit)
        port.counters["queue_full"] += len(port.queue.dropped)
        port.queue.dropped.clear()

    def _flush(self, port: _Link) -> None:
        if not port.up:
            return
        while True:
            if not port.current:
                frame = port.queue.get(_microseconds())
                port.counters["delay_dropped"] += len(port.queue.dropped)
                port.queue.dropped.clear()
                port.counters["marked"] = port.queue.marked
                if frame is None:
                    self._poll(port, selectors.EVENT_READ)
                    return
                port.current = memoryview(frame)
            try:
                sent = port.socket.send(port.current[:_RECORD])
            except ssl.SSLWantWriteError:
                self._poll(port, selectors.EVENT_READ | selectors.EVENT_WRITE)
                return
            except ssl.SSLWantReadError:
                return
            except OSError as exc:
                self._down(port, exc.strerror or str(exc))
                return
            port.current = port.current[sent:]
            port.counters["tx_bytes"] += sent

    @staticmethod
    def _look_at_path(port: _Link, wanted: str) -> None:
        """The congestion control: as wanted, else by the round trip that TCP's handshake took."""
        try:
            info = port.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        except OSError:
            return  # no TCP: a socket pair of a test
        rtt = int.from_bytes(info[_TCP_INFO_RTT : _TCP_INFO_RTT + 4], sys.byteorder)
        port.counters |= {"rtt": rtt, "min_rtt": rtt, "lowat": 128 * 1024}
        name = wanted or ("bbr" if rtt >= _WAN_RTT else "cubic")
        try:
            port.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
        except OSError as exc:
            reasons = {errno.EPERM: "not allowed", errno.ENOENT: "not in this kernel"}
            port.problem = f"{name}: {reasons.get(exc.errno or 0, exc.strerror)}"
        port.congestion = port.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()

    # -- small things ------------------------------------------------------------------------------------------------------------

    def _emit(self, type: int, port: _Port, kind: int, source: int, payload: bytes, tenant: int | None = None) -> bool:
        cost = len(payload) + _EVENT
        whose = port.tenant if tenant is None else tenant
        if type in (_FRAME, _SEGMENT):
            own, all_ = (_EVENTS_LINK, _EVENTS) if type == _SEGMENT else (_EVENTS_LINK + _EVENTS_CONTROL, 2 * _EVENTS)
            share = max(all_ - sum(self._event_bytes.values()), _EVENTS_LINK + _EVENTS_CONTROL)
            if port.event_bytes + cost > own or self._event_bytes.get(whose, 0) + cost > share:
                port.counters["events_full"] += 1
                return False
        self._events.append((type, port.id, kind, whose, source, payload))
        self._event_bytes[whose] = self._event_bytes.get(whose, 0) + cost
        port.event_bytes += cost
        os.eventfd_write(self._notify, 1)
        return True

    def _down(self, port: _Port, reason: str) -> None:
        self._forget_number(port)
        self._emit(_DOWN, port, 0, 0, reason.encode()[:200])
        self._free(port)

    def _forget_number(self, port: _Port) -> None:
        """No flow goes to this port any more."""
        if isinstance(port, _Tun):
            self._tenant(port.tenant).tun = None
        elif port.peer:
            for tenant in self._tenants.values():
                for node in tenant.nodes.values():
                    node.next_hops = [via for via in node.next_hops if via != port.id]
        elif port.admitted:
            node = self._node(port.tenant, port.number)
            node.links = [link for link in node.links if link != port.id]

    def _port_for(self, tenant: int, number: int, flow: int, origin: _Port | None) -> _Port | None:
        """The port for a flow to a node: our own TUN, one of its links, or a relay that has one. An edge reaches everybody
        through number 0."""
        if number == self._number:
            return self._ports.get(self._tenant(tenant).tun or -1)
        node = self._tenant(tenant).nodes.get(number)
        if self._number and (node is None or not (node.links or node.next_hops)):
            node = self._tenant(tenant).nodes.get(0)
        if node is None:
            return None
        if not node.links and origin is not None and origin.peer:
            return None  # from relay to relay only once
        # rendezvous: only the flows of a port that goes move
        best = max(node.links or node.next_hops, key=lambda id: mix(flow, id), default=-1)
        return self._ports.get(best)

    def _free(self, port: _Port) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(port.fd)
        del self._ports[port.id]
        if isinstance(port, _Link):
            with contextlib.suppress(OSError, ValueError):
                port.socket.setblocking(False)
                if port.up:
                    port.socket.unwrap()  # says goodbye; does not wait for the answer
            port.socket.close()
        else:
            os.close(port.fd)

    def _poll(self, port: _Link, events: int) -> None:
        if self._selector.get_key(port.fd).events != events:
            self._selector.modify(port.fd, events)

    def _node(self, tenant: int, number: int) -> _Node:
        return self._tenant(tenant).nodes.setdefault(number, _Node())

    def _tenant(self, number: int) -> _Tenant:
        return self._tenants.setdefault(number, _Tenant())

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _nudge(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self._wake, 1)

    def _alive(self) -> None:
        if self._closed:
            raise ValueError("the data plane is closed")


def _microseconds() -> int:
    return time.monotonic_ns() // 1000 % (1 << 32)


def _queued(port: _Port) -> int:
    return port.queue.bytes + port.queue.control_bytes + len(port.current) if isinstance(port, _Link) else 0


def _same_node(a: _Port, b: _Port) -> bool:
    """Would it go back to where it comes from?"""
    if a is b:
        return True
    links = isinstance(a, _Link) and isinstance(b, _Link) and not a.peer and not b.peer
    return links and (a.tenant, a.number) == (b.tenant, b.number)


def _towards(to: _Port, kind: int, tenant: int, payload: bytes) -> tuple[int, bytes]:
    """Kind and payload of a frame: with the tenant in front when the link leads to a relay."""
    if not to.peer:
        return kind, payload
    return kind + (wire.TENANT_PACKET - wire.PACKET), tenant.to_bytes(wire.TENANT, "big") + payload


def segment_flow(payload: bytes) -> int:
    """The same for all segments of a connection in one direction: addresses and ports."""
    value = 0
    for byte in payload[: wire.ADDRESS + _FLOW_BYTES]:
        value = (value * 31 + byte) & 0xFFFFFFFF
    return mix(value, wire.SEGMENT)
