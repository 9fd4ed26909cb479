# cython: language_level=3
"""Kept answers of the DNS server, and the thread that sends them: a thin face of dns/answers.h and dns/responder.h."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

import os


cdef extern from "dns/query.h" nogil:
    int KB_DNS_MAX_UDP
    ctypedef struct kb_dns_query:
        uint16_t limit
    int kb_dns_query_read(const uint8_t *data, size_t length, kb_dns_query *query)


cdef extern from "dns/answers.h" nogil:
    ctypedef struct kb_dns_answers:
        pass
    ctypedef struct kb_dns_stock:
        size_t count, bytes
        uint64_t hits
    kb_dns_answers *kb_dns_answers_new(size_t most_entries, size_t most_bytes, const uint64_t *seed)
    void kb_dns_answers_free(kb_dns_answers *answers)
    int kb_dns_answers_put(kb_dns_answers *answers, const kb_dns_query *query, const uint8_t *answer, size_t length,
                           const uint16_t *lifetimes, size_t count, uint64_t now, uint64_t until)
    size_t kb_dns_answers_find(kb_dns_answers *answers, const kb_dns_query *query, const uint8_t *data, uint64_t now,
                               uint8_t *out, size_t limit)
    void kb_dns_answers_clear(kb_dns_answers *answers)
    kb_dns_stock kb_dns_answers_stock(kb_dns_answers *answers)


cdef extern from "dns/responder.h" nogil:
    ctypedef struct kb_dns_responder:
        pass
    ctypedef struct kb_dns_network:
        uint8_t address[16]
        uint8_t bits, v6
    ctypedef struct kb_dns_counts:
        uint64_t queries, answered, refused, dropped
    ctypedef struct kb_dns_waiting:
        kb_dns_waiting *next
        uint16_t length
        uint8_t *data
    kb_dns_responder *kb_dns_responder_new(int fd, kb_dns_answers **tables, const kb_dns_network *networks, size_t count, uint32_t rate, uint64_t seed)
    void kb_dns_responder_free(kb_dns_responder *responder)
    int kb_dns_responder_fileno(const kb_dns_responder *responder)
    kb_dns_waiting *kb_dns_responder_take(kb_dns_responder *responder, size_t most)
    kb_dns_counts kb_dns_responder_counts(kb_dns_responder *responder)


cdef extern from * nogil:
    """
    #include <arpa/inet.h>
    #include <netinet/in.h>
    #include "dns/responder.h"
    static int kb_peer(const kb_dns_waiting *w, char text[INET6_ADDRSTRLEN], int *port, unsigned *flow, unsigned *scope) {
        if (w->peer.ss_family == AF_INET6) {
            const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&w->peer;
            inet_ntop(AF_INET6, &six->sin6_addr, text, INET6_ADDRSTRLEN);
            *port = ntohs(six->sin6_port), *flow = ntohl(six->sin6_flowinfo), *scope = six->sin6_scope_id;
            return 6;
        }
        const struct sockaddr_in *four = (const struct sockaddr_in *)&w->peer;
        inet_ntop(AF_INET, &four->sin_addr, text, INET6_ADDRSTRLEN);
        *port = ntohs(four->sin_port);
        return 4;
    }
    """
    int kb_peer(const kb_dns_waiting *w, char *text, int *port, unsigned *flow, unsigned *scope)


cdef enum:
    LONGEST = 65535


cdef uint64_t milliseconds(double seconds):
    return <uint64_t> (max(seconds, 0.0) * 1000.0)


cdef class Answers:
    cdef kb_dns_answers *answers

    def __cinit__(self, size_t entries, size_t most):
        cdef bytes noise = os.urandom(16)
        cdef uint64_t seed[2]
        memcpy(seed, PyBytes_AS_STRING(noise), 16)
        self.answers = kb_dns_answers_new(entries, most, seed)
        if self.answers is NULL:
            raise MemoryError

    def __dealloc__(self):
        kb_dns_answers_free(self.answers)

    def put(self, bytes query not None, bytes answer not None, lifetimes not None, double now, double until):
        cdef kb_dns_query read
        cdef size_t count = len(lifetimes), i
        cdef int kept
        if kb_dns_query_read(<const uint8_t *> PyBytes_AS_STRING(query), PyBytes_GET_SIZE(query), &read) != 0:
            return False
        cdef uint16_t *places = <uint16_t *> malloc(2 * count + 1)
        if places is NULL:
            raise MemoryError
        try:
            for i in range(count):
                places[i] = lifetimes[i]
            kept = kb_dns_answers_put(self.answers, &read, <const uint8_t *> PyBytes_AS_STRING(answer), PyBytes_GET_SIZE(answer),
                                      places, count, milliseconds(now), milliseconds(until))
        finally:
            free(places)
        if kept < 0:
            raise MemoryError
        return kept == 1

    def find(self, bytes query not None, double now, *, bint whole):
        cdef kb_dns_query read
        cdef const uint8_t *data = <const uint8_t *> PyBytes_AS_STRING(query)
        cdef uint8_t room[1232]
        cdef uint8_t *out = room
        cdef size_t length
        if kb_dns_query_read(data, PyBytes_GET_SIZE(query), &read) != 0:
            return None
        if whole:
            out = <uint8_t *> malloc(LONGEST)
            if out is NULL:
                raise MemoryError
        length = kb_dns_answers_find(self.answers, &read, data, milliseconds(now), out, LONGEST if whole else read.limit)
        try:
            return PyBytes_FromStringAndSize(<char *> out, length) if length else None
        finally:
            if whole:
                free(out)

    def clear(self):
        kb_dns_answers_clear(self.answers)

    def __len__(self):
        return kb_dns_answers_stock(self.answers).count

    @property
    def size(self):
        return kb_dns_answers_stock(self.answers).bytes

    @property
    def hits(self):
        return kb_dns_answers_stock(self.answers).hits


cdef class Responder:
    cdef kb_dns_responder *responder
    cdef Answers first, second
    cdef kb_dns_counts last

    def __cinit__(self, int fd, Answers first not None, Answers second not None, networks not None, uint32_t rate=0):
        cdef size_t count = len(networks), i
        cdef kb_dns_answers *tables[2]
        cdef bytes packed, noise = os.urandom(8)
        cdef uint64_t seed
        cdef kb_dns_network *made = <kb_dns_network *> malloc(count * sizeof(kb_dns_network) + 1)
        if made is NULL:
            raise MemoryError
        self.first = first  # they live as long as the thread
        self.second = second
        tables[0] = first.answers
        tables[1] = second.answers
        memcpy(&seed, PyBytes_AS_STRING(noise), 8)
        try:
            for i, network in enumerate(networks):
                packed = network.network_address.packed
                memcpy(made[i].address, PyBytes_AS_STRING(packed), PyBytes_GET_SIZE(packed))
                made[i].bits = network.prefixlen
                made[i].v6 = network.version == 6
            self.responder = kb_dns_responder_new(fd, tables, made, count, rate, seed)
        finally:
            free(made)
        if self.responder is NULL:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        with nogil:
            kb_dns_responder_free(self.responder)

    def close(self):
        cdef kb_dns_responder *ours = self.responder
        if ours is not NULL:
            self.last = kb_dns_responder_counts(ours)
            self.responder = NULL
            with nogil:
                kb_dns_responder_free(ours)

    def fileno(self):
        if self.responder is NULL:
            raise ValueError("it is closed")
        return kb_dns_responder_fileno(self.responder)

    def take(self, size_t most):
        cdef list found = []
        cdef char text[46]
        cdef int port = 0
        cdef unsigned flow = 0, scope = 0
        cdef kb_dns_waiting *following
        cdef kb_dns_waiting *waiting = NULL
        if self.responder is not NULL:
            waiting = kb_dns_responder_take(self.responder, most)
        try:
            while waiting is not NULL:
                data = PyBytes_FromStringAndSize(<char *> waiting.data, waiting.length)
                if kb_peer(waiting, text, &port, &flow, &scope) == 6:
                    found.append((data, ((<bytes> text).decode("ascii"), port, flow, scope)))
                else:
                    found.append((data, ((<bytes> text).decode("ascii"), port)))
                following = waiting.next
                free(waiting)
                waiting = following
        finally:
            while waiting is not NULL:
                following = waiting.next
                free(waiting)
                waiting = following
        return found

    @property
    def counts(self):
        if self.responder is not NULL:
            self.last = kb_dns_responder_counts(self.responder)
        return self.last.queries, self.last.answered, self.last.refused, self.last.dropped
