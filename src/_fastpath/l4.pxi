# L4 for Python: one tenant's connections over l4/l4.h. Included by plane.pyx, whose data plane it may live in.

from kubeedge.errors import Misuse, Unavailable


cdef extern from "l4/l4.h" nogil:
    ctypedef struct kb_l4:
        pass
    ctypedef struct kb_conn:
        pass
    ctypedef struct kb_l4_below:
        void *context
        int (*send)(void *context, uint32_t tenant, uint32_t peer, const uint8_t *segment, size_t length) noexcept nogil
        uint32_t (*random)(void *context) noexcept nogil
    ctypedef struct kb_l4_counters:
        uint64_t connections, opened, refused, segments_in, segments_out, retransmitted, timeouts, marked, bytes
    kb_l4 *kb_l4_new(uint32_t self, const kb_l4_below *below, size_t budget)
    void kb_l4_free(kb_l4 *l4)
    int kb_l4_listen(kb_l4 *l4, uint32_t tenant, uint16_t port, void (*accept)(void *, kb_conn *) noexcept, void *context)
    void kb_l4_unlisten(kb_l4 *l4, uint32_t tenant, uint16_t port)
    void kb_l4_unlisten_all(kb_l4 *l4, const void *context)
    void kb_l4_receive(kb_l4 *l4, uint32_t tenant, uint32_t peer, const uint8_t *data, size_t length, uint64_t now)
    uint64_t kb_l4_work(kb_l4 *l4, uint64_t now)
    uint64_t kb_l4_next(const kb_l4 *l4)
    void kb_l4_reset_peer(kb_l4 *l4, uint32_t tenant, uint32_t peer)
    void kb_l4_get_counters(const kb_l4 *l4, kb_l4_counters *counters)
    void kb_conn_name(const kb_conn *conn, uint32_t *tenant, uint32_t *peer, uint16_t *local, uint16_t *remote)
    int kb_conn_state_of(const kb_conn *conn)
    const char *kb_conn_error(const kb_conn *conn)
    size_t kb_conn_write(kb_conn *conn, const uint8_t *data, size_t length)
    size_t kb_conn_room(kb_conn *conn)
    size_t kb_conn_unsent(const kb_conn *conn)
    const uint8_t *kb_conn_peek(const kb_conn *conn, size_t *length)
    void kb_conn_consume(kb_conn *conn, size_t count)
    size_t kb_conn_waiting(const kb_conn *conn)
    int kb_conn_eof(const kb_conn *conn)
    void kb_conn_finish(kb_conn *conn)
    void kb_conn_abort(kb_conn *conn, const char *reason)
    void kb_conn_keepalive(kb_conn *conn, uint64_t idle)


cdef extern from "l4/in_plane.h" nogil:
    void kb_lock(kb_plane *plane)
    void kb_unlock(kb_plane *plane)
    void kb_unlock_l4(kb_plane *plane)
    uint64_t kb_plane_now(const kb_plane *plane)
    kb_l4 *kb_plane_l4(kb_plane *plane)


cdef extern from "l4/ready_queue.h" nogil:
    ctypedef struct kb_handle:
        kb_conn *conn
        uint8_t fresh
    ctypedef struct kb_ready_queue:
        uint32_t pace_of_node, pace_of_tenant
        int notify
    void kb_ready_queue_accept(void *ready_queue, kb_conn *conn)
    kb_handle *kb_ready_queue_connect(kb_ready_queue *ready_queue, kb_l4 *l4, uint32_t tenant, uint32_t peer, uint16_t port, uint64_t now)
    kb_handle *kb_ready_queue_next(kb_ready_queue *ready_queue)
    void kb_handle_free(kb_handle *handle)
    void kb_ready_queue_clear(kb_ready_queue *ready_queue)
    int KB_L4_SEND_BUFFER
    uint64_t KB_L4_NEVER


cdef int keep_segment(void *context, uint32_t tenant, uint32_t peer, const uint8_t *data, size_t length) noexcept with gil:
    (<L4> context).out.append((peer, PyBytes_FromStringAndSize(<char *> data, length)))
    return 0


cdef uint32_t ask_random(void *context) noexcept with gil:
    return <uint32_t> ((<L4> context).random_sequence() & 0xFFFFFFFF)


cdef uint64_t us(double now):
    return <uint64_t> (now * 1e6 + 0.5)


@cython.no_gc_clear
cdef class L4:
    """All L4 connections of one tenant's node. With a plane the connections live in its thread: `send` of bytes is all, segments and timers
    are nobody's business, and fileno() is readable when `collect` has news. Without one it is as pure as the reference implementation, for tests."""

    cdef kb_l4 *l4
    cdef kb_ready_queue ready_queue
    cdef Plane plane
    cdef uint32_t tenant
    cdef uint64_t now
    cdef object random_sequence
    cdef list out
    cdef dict handles
    cdef readonly dict connections
    cdef readonly list accepted
    cdef readonly set changed
    cdef set ports
    cdef list proxies  # that stand in front of its ports
    cdef L4 beside  # without a plane: whose connections are in the same endpoint

    def __cinit__(self, random_sequence=None, *, Plane plane=None, uint32_t tenant=0, uint32_t number=0, size_t budget=64 << 20, L4 beside=None, tuple pace=(0, 0)):
        cdef kb_l4_below below
        self.ready_queue.pace_of_node, self.ready_queue.pace_of_tenant = pace
        self.ready_queue.notify = -1
        self.tenant = tenant
        self.plane = plane
        self.random_sequence = random_sequence
        self.out, self.handles, self.connections = [], {}, {}
        self.accepted, self.changed, self.ports, self.proxies = [], set(), set(), []
        self.beside = beside
        if beside is not None:
            beside.alive()
            self.l4 = beside.l4
        elif plane is None:
            below.context, below.send, below.random = <void *> self, keep_segment, ask_random
            self.l4 = kb_l4_new(number, &below, budget)
        else:
            plane.alive()
            self.ready_queue.notify = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self.lock()
            self.l4 = kb_plane_l4(plane.plane)
            self.unlock()
            plane.tenants.append(self)
        if self.l4 is NULL:
            raise MemoryError

    def __dealloc__(self):
        self.close()

    cdef void lock(self):
        if self.plane is not None:
            with nogil:
                kb_lock(self.plane.plane)
            self.now = kb_plane_now(self.plane.plane)

    cdef void unlock(self):
        if self.plane is not None:
            with nogil:
                kb_unlock_l4(self.plane.plane)

    cpdef close(self):
        """Connections that are not over are reset. Before the plane is closed, or by its close()."""
        cdef L4Connection connection
        if self.l4 is NULL:
            return
        for proxy in self.proxies:
            proxy.close()
        self.proxies.clear()
        self.lock()
        kb_l4_unlisten_all(self.l4, <void *> &self.ready_queue)
        for connection in self.handles.values():
            connection.free()
        kb_ready_queue_clear(&self.ready_queue)  # the garbage collector may have emptied our table before
        if self.plane is None and self.beside is None:
            kb_l4_free(self.l4)
        self.l4 = NULL
        self.unlock()
        self.handles.clear()
        self.connections.clear()
        if self.ready_queue.notify >= 0:
            os.close(self.ready_queue.notify)
            self.ready_queue.notify = -1

    cdef int alive(self) except -1:
        if self.l4 is NULL:
            raise Unavailable("L4 is closed")
        return 0

    def fileno(self):
        """Readable when collect() has news; -1 without a plane."""
        return self.ready_queue.notify

    @property
    def count(self):
        """Of all connections of the process, half-open ones too."""
        return self.counters()["connections"]

    def counters(self):
        cdef kb_l4_counters c
        self.alive()
        self.lock()
        kb_l4_get_counters(self.l4, &c)
        self.unlock()
        return c

    def listen(self, uint16_t port):
        self.alive()
        self.lock()
        cdef int result = kb_l4_listen(self.l4, self.tenant, port, kb_ready_queue_accept, <void *> &self.ready_queue)
        self.unlock()
        if result == -2:
            raise MemoryError
        if result < 0:
            raise Misuse(f"port {port} is listened on already")
        self.ports.add(port)

    def unlisten(self, uint16_t port):
        self.alive()
        if port in self.ports:
            self.lock()
            kb_l4_unlisten(self.l4, self.tenant, port)
            self.unlock()
            self.ports.discard(port)

    def connect(self, uint32_t peer, uint16_t port, double now):
        """The key of the new connection. Raises Unavailable when there are too many."""
        self.alive()
        self.now = us(now)
        self.lock()
        cdef kb_handle *handle = kb_ready_queue_connect(&self.ready_queue, self.l4, self.tenant, peer, port, self.now)
        key = self.keep(handle) if handle is not NULL else None
        self.unlock()
        if key is None:
            raise Unavailable(f"too many connections, or too many bytes wait in them, for another to node {peer}", retry_after=1.0)
        self.touch(key)
        return key

    cdef object keep(self, kb_handle *handle):
        cdef L4Connection connection = L4Connection.__new__(L4Connection)
        cdef uint32_t tenant, peer
        cdef uint16_t local, remote
        kb_conn_name(handle.conn, &tenant, &peer, &local, &remote)
        connection.handle = handle
        connection.owner = self
        connection.key = (peer, local, remote)
        self.handles[<uint64_t> handle] = connection
        self.connections[connection.key] = connection
        return connection.key

    def receive(self, uint32_t peer, bytes data not None, double now):
        """A segment from a peer; garbage is dropped. With a plane only those that came as events, before there was L4."""
        self.alive()
        self.now = us(now)
        self.lock()
        kb_l4_receive(self.l4, self.tenant, peer, <const uint8_t *> <const char *> data, len(data), self.now)
        self.unlock()
        self.work()

    cdef void work(self):
        if self.plane is None and self.l4 is not NULL:
            kb_l4_work(self.l4, self.now)
            self.collect()

    def collect(self):
        """Fills `accepted` and `changed`."""
        cdef kb_handle *handle
        cdef L4Connection connection
        if self.l4 is NULL:
            return
        self.lock()
        while True:
            handle = kb_ready_queue_next(&self.ready_queue)
            if handle is NULL:
                break
            if handle.fresh:
                handle.fresh = 0
                self.accepted.append(self.keep(handle))
            connection = self.handles[<uint64_t> handle]
            self.changed.add(connection.key)
        self.unlock()

    def touch(self, key):
        """After any call on a connection: it may have something to send or to say."""
        if key in self.connections:
            self.changed.add(key)
        self.work()

    def drop(self, key):
        """The driver is done with a connection."""
        cdef L4Connection connection = self.connections.pop(key, None)
        if connection is not None and connection.handle is not NULL:
            self.handles.pop(<uint64_t> connection.handle, None)
            self.lock()
            connection.free()
            self.unlock()
        self.changed.discard(key)

    def reset_peer(self, uint32_t peer, reason):
        self.alive()
        self.lock()
        kb_l4_reset_peer(self.l4, self.tenant, peer)
        self.unlock()
        self.work()

    def next_timer(self):
        """Without a plane: seconds, or None."""
        cdef uint64_t at
        if self.plane is not None or self.l4 is NULL:
            return None
        at = kb_l4_next(self.l4)
        return None if at == KB_L4_NEVER else at / 1e6

    def handle_timer(self, double now):
        self.now = us(now)
        self.work()

    def segments_to_send(self):
        """Of all that are beside each other."""
        if self.beside is not None:
            return self.beside.segments_to_send()
        out, self.out = self.out, []
        return out
