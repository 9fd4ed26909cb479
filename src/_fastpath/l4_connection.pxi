# One L4 connection for Python, over what l4.pxi declares of l4/l4.h. Included by plane.pyx.

from kubeedge._fastpath.l4_state import ConnectionState

_STATES = tuple(ConnectionState)  # in the order of kb_conn_state


cdef class L4Connection:
    """One connection. After `drop` it keeps its last state."""

    cdef kb_handle *handle
    cdef L4 owner
    cdef readonly tuple key
    cdef object last_state
    cdef str last_error

    cdef void free(self):
        if self.handle is not NULL:
            self.last_state = _STATES[kb_conn_state_of(self.handle.conn)]
            self.last_error = kb_conn_error(self.handle.conn).decode()
            kb_handle_free(self.handle)
            self.handle = NULL

    @property
    def local_port(self):
        return self.key[1]

    @property
    def remote_port(self):
        return self.key[2]

    @property
    def state(self):
        if self.handle is NULL:
            return self.last_state
        self.owner.lock()
        state = kb_conn_state_of(self.handle.conn)
        self.owner.unlock()
        return _STATES[state]

    @property
    def error(self):
        if self.handle is NULL:
            return self.last_error
        self.owner.lock()
        error = kb_conn_error(self.handle.conn)
        self.owner.unlock()
        return error.decode()

    def send(self, data not None, double now):
        """Queue bytes: how many were taken. Fewer than all: memory is short, and the rest is welcome when may_write() says so; or it has ended."""
        cdef Py_buffer view
        if self.handle is NULL:
            return 0
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        self.owner.now = us(now)
        self.owner.lock()
        cdef size_t taken = kb_conn_write(self.handle.conn, <const uint8_t *> view.buf, view.len)
        self.owner.unlock()
        PyBuffer_Release(&view)
        return taken

    def may_write(self):
        if self.handle is NULL:
            return True
        self.owner.lock()
        cdef size_t room = kb_conn_room(self.handle.conn)
        self.owner.unlock()
        return room > 0

    @property
    def buffered(self):
        """Bytes that are not sent yet."""
        if self.handle is NULL:
            return 0
        self.owner.lock()
        cdef size_t unsent = kb_conn_unsent(self.handle.conn)
        self.owner.unlock()
        return unsent

    @property
    def waiting(self):
        """Bytes to read."""
        if self.handle is NULL:
            return 0
        self.owner.lock()
        cdef size_t waiting = kb_conn_waiting(self.handle.conn)
        self.owner.unlock()
        return waiting

    def finish(self, double now):
        if self.handle is not NULL:
            self.owner.now = us(now)
            self.owner.lock()
            kb_conn_finish(self.handle.conn)
            self.owner.unlock()

    def abort(self, reason):
        if self.handle is not NULL:
            self.owner.lock()
            kb_conn_abort(self.handle.conn, "aborted")
            self.owner.unlock()

    def keepalive(self, double seconds):
        if self.handle is not NULL:
            self.owner.lock()
            kb_conn_keepalive(self.handle.conn, us(seconds))
            self.owner.unlock()

    def read(self, double now, size_t limit=1 << 20):
        """Bytes in order; b"" when there are none now."""
        cdef const uint8_t *data
        cdef size_t length, total, taken = 0, count
        cdef char *into
        if self.handle is NULL:
            return b""
        self.owner.now = us(now)
        self.owner.lock()
        total = kb_conn_waiting(self.handle.conn)
        if total > limit:
            total = limit
        out = PyBytes_FromStringAndSize(NULL, total)
        into = <char *> out
        while taken < total:
            data = kb_conn_peek(self.handle.conn, &length)
            count = length if length < total - taken else total - taken
            memcpy(into + taken, data, count)
            kb_conn_consume(self.handle.conn, count)
            taken += count
        self.owner.unlock()
        return out

    def at_eof(self):
        if self.handle is NULL:
            return True
        self.owner.lock()
        cdef int eof = kb_conn_eof(self.handle.conn)
        self.owner.unlock()
        return bool(eof)
