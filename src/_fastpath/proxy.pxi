# The fast path of the proxies for Python: kubeedge.kubebus.http.fast gives it its upstreams and takes what it hands over. Included by plane.pyx.

cdef extern from "<sys/socket.h>" nogil:
    cdef struct sockaddr_storage:
        pass


cdef extern from "<netinet/in.h>" nogil:
    int AF_INET
    int AF_INET6
    cdef struct in_addr:
        uint32_t s_addr
    cdef struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    cdef struct in6_addr:
        uint8_t s6_addr[16]
    cdef struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        in6_addr sin6_addr
    uint16_t htons(uint16_t)


cdef extern from "http/proxy.h" nogil:
    ctypedef struct kb_proxy:
        pass
    ctypedef struct kb_proxy_limits:
        uint32_t connections, per_client, concurrent, pooled, interim, interim_most
        uint64_t memory
        double rate, burst
        uint64_t connect, answer, idle, head, stall, kept
    ctypedef struct kb_account_counters:
        char name[64]
        uint64_t in_progress, bytes
        uint64_t status[6]
        uint64_t refused, held
    ctypedef struct kb_proxy_counters:
        uint64_t connections, requests, handed_over, repeated, reused, held
    kb_proxy *kb_client_proxy_new(kb_plane *plane, int listener, const kb_proxy_limits *limits)
    kb_proxy *kb_server_proxy_new(kb_plane *plane, uint32_t tenant, uint16_t port, const kb_proxy_limits *limits)
    int kb_proxy_fileno(kb_proxy *proxy)
    int kb_proxy_next(kb_proxy *proxy, uint8_t **data, size_t *length)
    int kb_proxy_learn_node(kb_proxy *proxy, const char *tenant, const char *node, uint32_t tenant_number, uint32_t number, double seconds)
    int kb_proxy_learn_service(kb_proxy *proxy, const char *service, const sockaddr_storage *targets, int count, double seconds)
    int kb_proxy_next_lookup(kb_proxy *proxy, char *name)
    void kb_proxy_lookup_failed(kb_proxy *proxy, const char *name)
    int KB_PROXY_NAME
    void kb_proxy_forget(kb_proxy *proxy)
    int kb_proxy_set_hosts(kb_proxy *proxy, const char *names, size_t length)
    void kb_proxy_close(kb_proxy *proxy)
    void kb_proxy_get_counters(const kb_proxy *proxy, kb_proxy_counters *counters)
    int kb_proxy_take(kb_proxy *proxy, const char *account)
    void kb_proxy_give(kb_proxy *proxy, const char *account)
    int kb_proxy_account(const kb_proxy *proxy, int index, kb_account_counters *counters)
    int KB_PROXY_TARGETS


cdef class Proxy:
    """A fast path in a plane's thread, in front of web clients (`listener`: a listening TCP socket's descriptor) or of those who come over
    L4 to a port of `l4`, which must have a listener already. Times are seconds."""

    cdef Plane plane
    cdef kb_proxy *proxy
    cdef public object closed  # called once, when it is closed, with its plane for instance

    def __cinit__(
        self, Plane plane not None, *, int listener=-1, L4 l4=None, uint16_t port=80, uint32_t connections, uint32_t per_client,
        uint32_t concurrent,
        uint32_t pooled, uint32_t interim, uint32_t interim_most, uint64_t memory, double rate, double burst, double connect, double answer, double idle, double head, double stall, double kept,
    ):
        cdef kb_proxy_limits limits
        plane.alive()
        self.plane = plane
        limits.connections, limits.per_client, limits.concurrent, limits.pooled = connections, per_client, concurrent, pooled
        limits.rate, limits.burst = rate, burst
        limits.interim, limits.interim_most, limits.memory = interim, interim_most, memory
        limits.connect, limits.answer, limits.idle = us(connect), us(answer), us(idle)
        limits.head, limits.stall, limits.kept = us(head), us(stall), us(kept)
        cdef uint32_t tenant = l4.tenant if l4 is not None else 0
        with nogil:
            kb_lock(plane.plane)
            if listener >= 0:
                self.proxy = kb_client_proxy_new(plane.plane, listener, &limits)
            else:
                self.proxy = kb_server_proxy_new(plane.plane, tenant, port, &limits)
            kb_unlock(plane.plane)
        if self.proxy is NULL:
            raise OSError(f"no fast path for web services: no memory, no descriptors, or nobody listens on port {port}")
        plane.proxies.append(self)
        if l4 is not None:
            l4.proxies.append(self)

    cpdef close(self):
        """Its connections are reset."""
        cdef kb_proxy *proxy = self.proxy
        self.proxy = NULL
        if proxy is not NULL and self.plane.plane is not NULL:
            with nogil:
                kb_lock(self.plane.plane)
                kb_proxy_close(proxy)
                kb_unlock(self.plane.plane)
        if proxy is not NULL and self.closed is not None:
            self.closed()

    cdef int alive(self) except -1:
        if self.proxy is NULL:
            raise ValueError("the proxy is closed")
        return 0

    def fileno(self):
        """Readable while lookups() or handed_over() has something."""
        self.alive()
        return kb_proxy_fileno(self.proxy)

    def handed_over(self):
        """[(descriptor, what was read from it), ...]; the caller owns the descriptors."""
        cdef uint8_t *data = NULL
        cdef size_t length = 0
        cdef int fd
        if self.proxy is NULL:
            return []
        out = []
        while True:
            with nogil:
                kb_lock(self.plane.plane)
                fd = kb_proxy_next(self.proxy, &data, &length)
                kb_unlock_l4(self.plane.plane)
            if fd < 0:
                return out
            out.append((fd, PyBytes_FromStringAndSize(<char *> data, length)))
            free(data)

    def lookups(self):
        """[name of an upstream that is wanted, ...]: "tenant/node" in front of web clients, else a service's. Learn or deny each of them."""
        cdef char name[160]
        cdef int result
        out = []
        while self.proxy is not NULL:
            with nogil:
                kb_lock(self.plane.plane)
                result = kb_proxy_next_lookup(self.proxy, name)
                kb_unlock_l4(self.plane.plane)
            if result < 0:
                break
            out.append((<bytes> name).decode())
        return out

    def deny(self, name):
        """Hands over the requests that wait for this upstream."""
        if self.proxy is NULL:
            return
        cdef bytes text = name.encode()
        cdef const char *c_name = text
        with nogil:
            kb_lock(self.plane.plane)
            kb_proxy_lookup_failed(self.proxy, c_name)
            kb_unlock(self.plane.plane)

    def learn_node(self, tenant, node, uint32_t tenant_number, uint32_t number, double seconds):
        if self.proxy is NULL:
            return False
        cdef bytes t = tenant.encode(), n = node.encode()
        cdef const char *c_tenant = t
        cdef const char *c_node = n
        cdef int result
        with nogil:
            kb_lock(self.plane.plane)
            result = kb_proxy_learn_node(self.proxy, c_tenant, c_node, tenant_number, number, seconds)
            kb_unlock(self.plane.plane)
        return result == 0

    def learn_service(self, service, targets, double seconds):
        """`targets`: (numeric host, port) pairs. False: there are too many, or one is no address."""
        cdef sockaddr_storage list_[16]
        cdef sockaddr_in *four
        cdef sockaddr_in6 *six
        cdef int count = 0, result
        if self.proxy is NULL or not 0 < len(targets) <= KB_PROXY_TARGETS:
            return False
        cdef bytes s = service.encode()
        cdef const char *c_service = s
        memset(list_, 0, sizeof(list_))
        for host, port in targets:
            try:
                packed = ipaddress.ip_address(host).packed
            except ValueError:
                return False
            if len(packed) == 4:
                four = <sockaddr_in *> &list_[count]
                four.sin_family, four.sin_port = <uint16_t> AF_INET, htons(port)
                memcpy(&four.sin_addr, <const char *> packed, 4)
            else:
                six = <sockaddr_in6 *> &list_[count]
                six.sin6_family, six.sin6_port = <uint16_t> AF_INET6, htons(port)
                memcpy(&six.sin6_addr, <const char *> packed, 16)
            count += 1
        with nogil:
            kb_lock(self.plane.plane)
            result = kb_proxy_learn_service(self.proxy, c_service, list_, count, seconds)
            kb_unlock(self.plane.plane)
        return result == 0

    def forget(self):
        if self.proxy is not NULL:
            with nogil:
                kb_lock(self.plane.plane)
                kb_proxy_forget(self.proxy)
                kb_unlock_l4(self.plane.plane)

    def set_hosts(self, names):
        """Requests for these hosts ("*.x": for all below x; in lower case) are handed over from now on."""
        cdef bytes text = b"".join(name.encode() + b"\n" for name in names)
        cdef const char *c_text = text
        cdef size_t length = len(text)
        cdef int result
        if self.proxy is NULL:
            return
        with nogil:
            kb_lock(self.plane.plane)
            result = kb_proxy_set_hosts(self.proxy, c_text, length)
            kb_unlock_l4(self.plane.plane)
        if result < 0:
            raise MemoryError

    def take(self, account):
        """The limits of the fast path, for the slow one. 0: taken, to be given back; else the status that says why not."""
        if self.proxy is NULL:
            return 0
        cdef bytes name = account.encode()
        cdef const char *c_name = name
        cdef int result
        with nogil:
            kb_lock(self.plane.plane)
            result = kb_proxy_take(self.proxy, c_name)
            kb_unlock_l4(self.plane.plane)
        if result < 0:
            raise MemoryError
        return result

    def give(self, account):
        if self.proxy is NULL:
            return
        cdef bytes name = account.encode()
        cdef const char *c_name = name
        with nogil:
            kb_lock(self.plane.plane)
            kb_proxy_give(self.proxy, c_name)
            kb_unlock_l4(self.plane.plane)

    def counters(self):
        cdef kb_proxy_counters c
        self.alive()
        with nogil:
            kb_lock(self.plane.plane)
            kb_proxy_get_counters(self.proxy, &c)
            kb_unlock_l4(self.plane.plane)
        return c

    def accounts(self):
        """{tenant or service: counters}"""
        cdef kb_account_counters c
        cdef int index = 0, result
        self.alive()
        out = {}
        while True:
            with nogil:
                kb_lock(self.plane.plane)
                result = kb_proxy_account(self.proxy, index, &c)
                kb_unlock_l4(self.plane.plane)
            if result < 0:
                return out
            out[(<bytes> c.name).decode()] = {"in_progress": c.in_progress, "bytes": c.bytes, "refused": c.refused, "held": c.held, "status": list(c.status)}
            index += 1


cdef extern from "http/head.h" nogil:
    ctypedef struct kb_slice:
        const uint8_t *at
        uint32_t length
    ctypedef struct kb_http_head:
        int status
        int64_t body
        uint8_t chunked, close, keep, odd
        kb_slice method, target, directory
    int kb_parse_request(const uint8_t *data, size_t length, kb_http_head *head)
    int kb_parse_response(const uint8_t *data, size_t length, kb_http_head *head)
    int kb_plain_request(const kb_http_head *head)
    int kb_split_target(kb_slice target, int count, kb_slice *labels, kb_slice *rest)


cdef extern from "http/rewrite.h" nogil:
    ctypedef struct kb_text:
        uint8_t *data
        size_t length
    void kb_client_request(kb_text *out, const kb_http_head *head, const char *client, const char *proto)
    void kb_service_request(kb_text *out, const kb_http_head *head)
    void kb_answer(kb_text *out, const kb_http_head *head, kb_slice prefix, kb_slice host, int framed, int close)


cdef extern from "http/chunks.h" nogil:
    ctypedef struct kb_chunks:
        pass
    int kb_chunks_next(kb_chunks *c, const uint8_t *data, size_t length, size_t *skip, size_t *body)


cdef bytes text_of(kb_text *text):
    out = PyBytes_FromStringAndSize(<char *> text.data, text.length)
    free(text.data)
    return out


def rewrite_request(bytes data not None, client=None):
    """For tests: (bytes of the head, is it plain, the head as the next hop gets it); with `client` as the client proxy does it, else as the back."""
    cdef kb_http_head head
    cdef kb_slice labels[3]
    cdef kb_slice rest
    cdef kb_text out
    memset(&out, 0, sizeof(out))
    cdef int size = kb_parse_request(<const uint8_t *> <const char *> data, len(data), &head)
    if size <= 0 or not kb_plain_request(&head) or kb_split_target(head.target, 3 if client is not None else 1, labels, &rest) < 0:
        return size, False, b""
    if client is None:
        kb_service_request(&out, &head)
    else:
        address = client.encode()
        kb_client_request(&out, &head, address, b"http")
    return size, True, text_of(&out)


def rewrite_answer(bytes data not None, bytes prefix not None, bytes host not None, bint framed=False, bint close=False, bytes directory=b""):
    """For tests: (bytes of the head, status, content length or -1, is it chunked, the head as the client gets it)"""
    cdef kb_http_head head
    cdef kb_text out
    cdef kb_slice p, h
    memset(&out, 0, sizeof(out))
    cdef int size = kb_parse_response(<const uint8_t *> <const char *> data, len(data), &head)
    if size <= 0:
        return size, 0, -1, False, b""
    p.at, p.length = <const uint8_t *> <const char *> prefix, len(prefix)
    h.at, h.length = <const uint8_t *> <const char *> host, len(host)
    head.directory.at, head.directory.length = <const uint8_t *> <const char *> directory, len(directory)
    kb_answer(&out, &head, p, h, framed, close)
    return size, head.status, head.body, bool(head.chunked), text_of(&out)


def read_chunks(parts):
    """For tests: (the body, what came behind it) of a chunked body that arrives in these parts; None while it is not over. ValueError: broken."""
    cdef kb_chunks c
    cdef size_t skip, body, at
    cdef int over
    memset(&c, 0, sizeof(c))
    out = []
    for index, part in enumerate(parts):
        at = 0
        while at < <size_t> len(part):
            over = kb_chunks_next(&c, <const uint8_t *> <const char *> part + at, len(part) - at, &skip, &body)
            if over < 0:
                raise ValueError("broken chunks")
            out.append(part[at + skip : at + skip + body])
            at += skip + body
            if over:
                return b"".join(out), part[at:] + b"".join(parts[index + 1 :])
    return None
