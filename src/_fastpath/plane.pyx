# cython: language_level=3, boundscheck=False, wraparound=False
"""The data plane for Python: a thin face of dataplane.c. Import it through kubeedge.kubebus.l3.plane."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

import ipaddress
import os


cdef extern from "plane.h" nogil:
    ctypedef struct kb_plane:
        pass
    ctypedef struct kb_tls:
        pass
    ctypedef struct kb_counters:
        uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes, rx_segments, tx_segments
        uint64_t no_route, no_link, bad_source, bad_header, ttl_exceeded, queue_full, tun_full, events_full
        uint64_t queued
    ctypedef struct kb_event:
        int type, port, kind
        uint32_t tenant, source, length
        uint8_t *data
    ctypedef struct kb_prefix:
        uint8_t address[16]
        uint8_t bits, v6
    kb_tls *kb_tls_new(const char *ca, const char *cert, const char *key, int server, char *error)
    void kb_tls_free(kb_tls *tls)
    kb_plane *kb_plane_new(uint32_t number, char *error)
    void kb_plane_free(kb_plane *plane)
    int kb_plane_fileno(kb_plane *plane)
    int kb_add_tun(kb_plane *plane, int fd, uint32_t tenant, int vnet_hdr, char *error)
    int kb_add_link(kb_plane *plane, int fd, kb_tls *tls, const char *server_name, char *error)
    int kb_admit(kb_plane *plane, int port, uint32_t tenant, uint32_t number, const kb_prefix *prefixes, int count)
    int kb_admit_peer(kb_plane *plane, int port)
    int kb_via(kb_plane *plane, uint32_t tenant, uint32_t number, int port)
    void kb_unvia(kb_plane *plane, uint32_t tenant, uint32_t number)
    int kb_add_route(kb_plane *plane, uint32_t tenant, const kb_prefix *prefix, uint32_t number, uint16_t mtu)
    int kb_remove_route(kb_plane *plane, uint32_t tenant, const kb_prefix *prefix)
    int kb_lookup(kb_plane *plane, uint32_t tenant, const kb_prefix *address)
    int kb_send(kb_plane *plane, int port, int kind, const uint8_t *data, size_t length)
    int kb_send_segment(kb_plane *plane, uint32_t tenant, uint32_t number, const uint8_t *data, size_t length)
    int kb_drop(kb_plane *plane, int port, const char *reason)
    int kb_next_event(kb_plane *plane, kb_event *event)
    int kb_get_counters(kb_plane *plane, int port, kb_counters *counters)
    uint32_t kb_segment_flow(const uint8_t *payload, size_t length)
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


cdef class Plane:
    cdef kb_plane *plane

    def __cinit__(self, uint32_t number):
        cdef char error[256]
        error[0] = 0
        self.plane = kb_plane_new(number, error)
        if self.plane is NULL:
            raise OSError(error.decode("utf-8", "replace"))

    def __dealloc__(self):
        self.close()

    cpdef close(self):
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

    def add_tun(self, int fd, *, uint32_t tenant, bint vnet_hdr):
        cdef char error[256]
        cdef int port
        self.alive()
        error[0] = 0
        with nogil:
            port = kb_add_tun(self.plane, fd, tenant, vnet_hdr, error)
        if port < 0:
            raise OSError(error.decode("utf-8", "replace"))
        return port

    def add_link(self, int fd, TlsContext tls not None, *, server_name=""):
        cdef char error[256]
        cdef int port
        cdef bytes name = server_name.encode()
        cdef const char *c_name = name
        self.alive()
        if not tls.server and not name:
            raise ValueError("a link that connects needs the name to check in the server's certificate")
        error[0] = 0
        with nogil:
            port = kb_add_link(self.plane, fd, tls.tls, c_name, error)
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

    def via(self, uint32_t tenant, uint32_t number, int port):
        cdef int result
        self.alive()
        with nogil:
            result = kb_via(self.plane, tenant, number, port)
        return result == 0

    def unvia(self, uint32_t tenant, uint32_t number):
        self.alive()
        with nogil:
            kb_unvia(self.plane, tenant, number)

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
