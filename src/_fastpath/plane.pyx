# cython: language_level=3, boundscheck=False, wraparound=False
"""The data plane for Python: a thin face of plane/plane.h. Import it through kubeedge.kubebus.l3.plane."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

import ipaddress
import os


cdef extern from "link/tls.h" nogil:
    ctypedef struct kb_tls:
        pass
    kb_tls *kb_tls_new(const char *ca, const char *cert, const char *key, int server, char *error)
    void kb_tls_free(kb_tls *tls)


cdef extern from "packet/packet.h" nogil:
    ctypedef struct kb_prefix:
        uint8_t address[16]
        uint8_t bits, v6
    int kb_segment_gso(const uint8_t *frame, size_t length, unsigned count, void (*out)(void *, uint8_t *, size_t) noexcept, void *context)


cdef extern from "link/frame.h" nogil:
    uint32_t kb_segment_flow(const uint8_t *payload, size_t length)
    uint32_t kb_frame_start(int kind)
    int KB_HEADER, KB_TENANT_SEGMENT


cdef extern from "plane/plane.h" nogil:
    ctypedef struct kb_plane:
        pass
    ctypedef struct kb_counters:
        uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes, rx_segments, tx_segments
        uint64_t no_route, no_link, bad_source, bad_header, ttl_exceeded, too_big, queue_full, delay_dropped, marked, tun_full
        uint64_t events_full, icmp_sent, queued, rtt, min_rtt, rate, lowat
    ctypedef struct kb_event:
        int type, port, kind
        uint32_t tenant, source, length
        uint8_t *data
    kb_plane *kb_plane_new(uint32_t number, char *error)
    void kb_plane_free(kb_plane *plane)
    int kb_plane_fileno(kb_plane *plane)
    int kb_add_tun(kb_plane *plane, int fd, uint32_t tenant, int vnet_hdr, int uso, char *error)
    int kb_add_link(kb_plane *plane, int fd, kb_tls *tls, const char *server_name, const char *congestion, char *error)
    int kb_congestion(kb_plane *plane, int port, char *congestion, char *problem)
    int kb_set_source(kb_plane *plane, uint32_t tenant, const kb_prefix *address, int tun)
    int kb_admit(kb_plane *plane, int port, uint32_t tenant, uint32_t number, const kb_prefix *prefixes, int count)
    int kb_admit_peer(kb_plane *plane, int port)
    int kb_add_next_hop(kb_plane *plane, uint32_t tenant, uint32_t number, int port)
    void kb_remove_next_hops(kb_plane *plane, uint32_t tenant, uint32_t number)
    int kb_add_route(kb_plane *plane, uint32_t tenant, const kb_prefix *prefix, uint32_t number, uint16_t mtu)
    int kb_remove_route(kb_plane *plane, uint32_t tenant, const kb_prefix *prefix)
    int kb_lookup(kb_plane *plane, uint32_t tenant, const kb_prefix *address)
    int kb_send(kb_plane *plane, int port, int kind, const uint8_t *data, size_t length)
    int kb_send_segment(kb_plane *plane, uint32_t tenant, uint32_t number, const uint8_t *data, size_t length)
    int kb_drop(kb_plane *plane, int port, const char *reason)
    int kb_next_event(kb_plane *plane, kb_event *event)
    int kb_get_counters(kb_plane *plane, int port, kb_counters *counters)
    int KB_MAX_PREFIXES


cdef int fill_prefix(object text, kb_prefix *prefix) except -1:
    network = ipaddress.ip_network(text)
    packed = network.network_address.packed
    memset(prefix, 0, sizeof(kb_prefix))
    memcpy(prefix.address, <const char *> packed, len(packed))
    prefix.bits = network.prefixlen
    prefix.v6 = network.version == 6
    return 0


def segment_flow(bytes payload not None):
    """For tests: what pins a SEGMENT frame's payload to a link."""
    return kb_segment_flow(<const uint8_t *> <const char *> payload, len(payload))


cdef void keep_piece(void *context, uint8_t *frame, size_t length) noexcept with gil:
    (<list> context).append(PyBytes_FromStringAndSize(<char *> frame, length))


def split(bytes frame not None, unsigned count):
    """For tests: a checked super-packet in pieces of `count` packets, as a slow path gets them. None: it cannot be cut."""
    pieces = []
    cut = kb_segment_gso(<const uint8_t *> <const char *> frame, len(frame), count, keep_piece, <void *> pieces)
    return pieces if cut == 0 else None


cdef extern from "link/queue.h" nogil:
    ctypedef struct kb_buffer:
        kb_buffer *next
        uint32_t start, length
        uint8_t *data
    ctypedef struct kb_pool:
        pass
    ctypedef struct kb_queue:
        size_t bytes
        uint32_t flows, marked
    kb_buffer *kb_buffer_new(kb_pool *pool, size_t payload)
    void kb_buffer_free(kb_pool *pool, kb_buffer *b)
    void kb_pool_clear(kb_pool *pool)
    void kb_queue_put(kb_queue *q, kb_buffer *b, uint32_t flow, uint32_t now, size_t limit, kb_buffer **dropped)
    void kb_queue_put_control(kb_queue *q, kb_buffer *b)
    kb_buffer *kb_queue_get(kb_queue *q, uint32_t now, kb_buffer **dropped)
    void kb_queue_clear(kb_queue *q, kb_pool *pool)


cdef class FairQueue:
    """For tests: the queue of a link. The reference implementation is tests/reference/queue.py."""

    cdef kb_queue q
    cdef kb_pool pool
    cdef readonly object dropped

    def __cinit__(self):
        memset(&self.q, 0, sizeof(kb_queue))
        memset(&self.pool, 0, sizeof(kb_pool))
        self.dropped = []

    def __dealloc__(self):
        kb_queue_clear(&self.q, &self.pool)
        kb_pool_clear(&self.pool)

    cdef bytes content(self, kb_buffer *b):
        payload = PyBytes_FromStringAndSize(<char *> b.data + b.start, b.length)
        kb_buffer_free(&self.pool, b)
        return payload

    cdef kb_buffer *buffer(self, bytes frame) except NULL:
        cdef kb_buffer *b = kb_buffer_new(&self.pool, len(frame))
        if b is NULL:
            raise MemoryError
        b.length = len(frame)
        if len(frame) >= KB_HEADER:
            b.start = kb_frame_start(frame[0])  # packets are where the plane has them
        memcpy(b.data + b.start, <const char *> frame, len(frame))
        return b

    cdef int note(self, kb_buffer *dropped) except -1:
        cdef kb_buffer *next
        while dropped is not NULL:
            next = dropped.next
            self.dropped.append(self.content(dropped))
            dropped = next
        return 0

    def put(self, bytes frame not None, uint32_t flow, uint32_t now, size_t limit):
        cdef kb_buffer *dropped = NULL
        kb_queue_put(&self.q, self.buffer(frame), flow, now, limit, &dropped)
        self.note(dropped)

    def put_control(self, bytes frame not None):
        kb_queue_put_control(&self.q, self.buffer(frame))

    def get(self, uint32_t now):
        cdef kb_buffer *dropped = NULL
        cdef kb_buffer *b = kb_queue_get(&self.q, now, &dropped)
        self.note(dropped)
        return None if b is NULL else self.content(b)

    @property
    def bytes(self):
        return self.q.bytes

    @property
    def marked(self):
        return self.q.marked


cdef class TlsContext:
    cdef kb_tls *tls
    cdef readonly bint server

    def __cinit__(self, ca_file, cert_file, key_file, *, bint server):
        cdef char error[256]
        ca, cert, key = os.fsencode(ca_file), os.fsencode(cert_file), os.fsencode(key_file)
        error[0] = 0
        self.server = server
        self.tls = kb_tls_new(ca, cert, key, server, error)
        if self.tls is NULL:
            raise OSError(error.decode("utf-8", "replace"))

    def __dealloc__(self):
        kb_tls_free(self.tls)


@cython.no_gc_clear
cdef class Plane:
    cdef kb_plane *plane
    cdef list tenants, proxies  # L4 of each tenant, fast paths of web proxies

    def __cinit__(self, uint32_t number):
        cdef char error[256]
        error[0] = 0
        self.tenants, self.proxies = [], []
        self.plane = kb_plane_new(number, error)
        if self.plane is NULL:
            raise OSError(error.decode("utf-8", "replace"))

    def __dealloc__(self):
        self.close()

    cpdef close(self):
        for proxy in self.proxies:
            proxy.close()
        for tenant in self.tenants:
            tenant.close()
        self.proxies.clear()
        self.tenants.clear()
        cdef kb_plane *plane = self.plane
        self.plane = NULL
        if plane is not NULL:
            with nogil:
                kb_plane_free(plane)

    cdef int alive(self) except -1:
        if self.plane is NULL:
            raise ValueError("the data plane is closed")
        return 0

    def fileno(self):
        self.alive()
        return kb_plane_fileno(self.plane)

    def raw_events(self, int limit=256):
        """[(type, port, kind, tenant, source, payload), ...]"""
        cdef kb_event event
        cdef int taken
        self.alive()
        out = []
        while len(out) < limit:
            with nogil:
                taken = kb_next_event(self.plane, &event)
            if not taken:
                break
            payload = PyBytes_FromStringAndSize(<char *> event.data, event.length)
            free(event.data)
            out.append((event.type, event.port, event.kind, event.tenant, event.source, payload))
        return out

    def add_tun(self, int fd, *, uint32_t tenant, bint vnet_hdr, bint uso=True):
        cdef char error[256]
        cdef int port
        self.alive()
        error[0] = 0
        with nogil:
            port = kb_add_tun(self.plane, fd, tenant, vnet_hdr, uso, error)
        if port < 0:
            raise OSError(error.decode("utf-8", "replace"))
        return port

    def add_link(self, int fd, TlsContext tls not None, *, server_name="", congestion=""):
        cdef char error[256]
        cdef int port
        cdef bytes name = server_name.encode()
        cdef const char *c_name = name
        cdef bytes wanted = congestion.encode()
        cdef const char *c_congestion = wanted
        self.alive()
        if not tls.server and not name:
            raise ValueError("a link that connects needs the name to check in the server's certificate")
        error[0] = 0
        with nogil:
            port = kb_add_link(self.plane, fd, tls.tls, c_name, c_congestion, error)
        if port < 0:
            raise OSError(error.decode("utf-8", "replace"))
        return port

    def admit(self, int port, *, uint32_t tenant, uint32_t number, prefixes):
        cdef kb_prefix list_[64]
        cdef int count = 0, result
        self.alive()
        if len(prefixes) > KB_MAX_PREFIXES:
            raise ValueError(f"{len(prefixes)} prefixes; a link may have {KB_MAX_PREFIXES}")
        for text in prefixes:
            fill_prefix(text, &list_[count])
            count += 1
        with nogil:
            result = kb_admit(self.plane, port, tenant, number, list_, count)
        return result == 0

    def admit_peer(self, int port):
        cdef int result
        self.alive()
        with nogil:
            result = kb_admit_peer(self.plane, port)
        return result == 0

    def add_next_hop(self, uint32_t tenant, uint32_t number, int port):
        cdef int result
        self.alive()
        with nogil:
            result = kb_add_next_hop(self.plane, tenant, number, port)
        return result == 0

    def remove_next_hops(self, uint32_t tenant, uint32_t number):
        self.alive()
        with nogil:
            kb_remove_next_hops(self.plane, tenant, number)

    def add_route(self, uint32_t tenant, prefix, uint32_t number, uint16_t mtu=0):
        cdef kb_prefix p
        cdef int result
        self.alive()
        fill_prefix(prefix, &p)
        with nogil:
            result = kb_add_route(self.plane, tenant, &p, number, mtu)
        if result != 0:
            raise ValueError(f"route {prefix} of tenant {tenant} to node {number}: no such number, or no memory")

    def remove_route(self, uint32_t tenant, prefix):
        cdef kb_prefix p
        self.alive()
        fill_prefix(prefix, &p)
        with nogil:
            kb_remove_route(self.plane, tenant, &p)

    def lookup(self, uint32_t tenant, address):
        """The number of the node that an address is routed to, or None."""
        cdef kb_prefix p
        cdef int number
        self.alive()
        fill_prefix(address, &p)
        with nogil:
            number = kb_lookup(self.plane, tenant, &p)
        return None if number < 0 else number

    def send(self, int port, int kind, payload not None):
        cdef Py_buffer view
        cdef int result
        self.alive()
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            with nogil:
                result = kb_send(self.plane, port, kind, <const uint8_t *> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        return result == 0

    def send_segment(self, uint32_t tenant, uint32_t number, payload not None):
        cdef Py_buffer view
        cdef int result
        self.alive()
        PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
        try:
            with nogil:
                result = kb_send_segment(self.plane, tenant, number, <const uint8_t *> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        return result == 0

    def set_source(self, uint32_t tenant, address, bint tun=False):
        cdef kb_prefix p
        self.alive()
        fill_prefix(address, &p)
        with nogil:
            kb_set_source(self.plane, tenant, &p, tun)

    def congestion(self, int port):
        """(what the kernel uses, why it is not what was wanted), or None when there is no such port any more"""
        cdef char used[16]
        cdef char problem[48]
        cdef int result
        self.alive()
        with nogil:
            result = kb_congestion(self.plane, port, used, problem)
        return (used.decode(), problem.decode()) if result == 0 else None

    def drop(self, int port, reason):
        cdef bytes text = reason.encode()[:200]
        cdef const char *c_text = text
        self.alive()
        with nogil:
            kb_drop(self.plane, port, c_text)

    def raw_counters(self, int port):
        """dict, or None when there is no such port any more"""
        cdef kb_counters c
        cdef int result
        self.alive()
        with nogil:
            result = kb_get_counters(self.plane, port, &c)
        return c if result == 0 else None


include "l4.pxi"
include "l4_connection.pxi"
include "proxy.pxi"
