/* The data plane's thread: epoll over TUN devices and links; see plane.h for the rules, packet.c for the bytes.
 *
 *   TUN ──read──> check ──route──> queue of a link ──TLS──> socket
 *   socket ──TLS──> frame ──check source──> route ──> TUN, or the queue of another link, or an event for Python
 *
 * A link's queue has two lanes: what is urgent (control frames, pings, bare acknowledgements) goes first. What finds the
 * queue full is dropped and counted; nothing ever waits for a slow link.
 */
#include "plane.h"
#include "routes.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TUN, LINK };
enum { BATCH_BYTES = 256 * 1024, BATCH_PACKETS = 64, COALESCE = 16 * 1024, TLS_RECORD = 16 * 1024 };

typedef struct buffer {
    struct buffer *next;
    uint32_t length, sent;
    uint8_t data[];
} buffer;

typedef struct {
    buffer *head, *tail;
} lane;

typedef struct {
    int id, fd, kind;
    uint32_t tenant, number, events;
    int up, admitted, peer, vnet_hdr, early;
    SSL *ssl;
    time_t deadline; /* of the handshake */
    uint64_t serial; /* which of two ports is older */
    size_t event_bytes; /* that wait for Python */
    uint32_t records; /* since the last key */
    int blocked; /* the last SSL_write has to be repeated as it was */
    uint8_t *rx;
    size_t rx_length, rx_capacity, rx_skip;
    lane urgent, bulk;
    buffer *current; /* partly sent */
    size_t queued;
    int pending; /* there may be more to read that epoll does not see */
    kb_prefix *prefixes;
    int prefix_count;
    kb_counters counters;
} port;

/* A node of a tenant: its links to us, and the relays through which it is reached when it has none. */
typedef struct {
    int links[KB_MAX_BUNDLE], vias[KB_MAX_VIAS];
    uint8_t link_count, via_count;
} node;

typedef struct {
    kb_trie *v4, *v6;
    node *nodes; /* by number */
    uint32_t numbers;
    int tun; /* port, -1: none */
} tenant;

typedef struct event_node {
    struct event_node *next;
    kb_event event;
} event_node;

struct kb_tls {
    SSL_CTX *context;
    int server;
};

struct kb_plane {
    pthread_mutex_t gate, lock; /* see enter() */
    pthread_t thread;
    int epoll, wake, notify, stop, handshakes, pending;
    uint32_t number;
    uint64_t serial;
    port **ports;
    uint16_t *generations;
    int port_capacity;
    tenant **tenants;
    uint32_t tenant_capacity;
    event_node *events_head, *events_tail;
    size_t event_bytes;
    buffer *scratch; /* the next packet from a TUN */
};

static void port_down(kb_plane *plane, port *p, const char *reason);
static void flush_port(kb_plane *plane, port *p);

static void explain(char *error, const char *what, const char *which)
{
    if (!error)
        return;
    unsigned long code = ERR_peek_error();
    const char *reason = !code ? strerror(errno) : ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    snprintf(error, 256, "%s%s%.150s: %s", what, *which ? " " : "", which, reason ? reason : "TLS error");
    ERR_clear_error();
}

/* The thread takes the lock again and again, and a mutex is not fair: a caller from Python could wait for many batches. So everybody
 * waits for the lock behind the gate, and the thread finds the gate closed while a caller stands there. */
static void enter(kb_plane *plane)
{
    pthread_mutex_lock(&plane->gate);
    pthread_mutex_lock(&plane->lock);
    pthread_mutex_unlock(&plane->gate);
}

static void leave(kb_plane *plane) { pthread_mutex_unlock(&plane->lock); }

static time_t seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static port *port_of(kb_plane *plane, int id);

/* -- TLS contexts ------------------------------------------------------------------------------------------------------- */

kb_tls *kb_tls_new(const char *ca, const char *cert, const char *key, int server, char *error)
{
    ERR_clear_error();
    kb_tls *tls = calloc(1, sizeof *tls);
    SSL_CTX *c = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (!tls || !c) {
        explain(error, "no memory for TLS", "");
        goto failed;
    }
    SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384");
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(c, 1);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(c, 0);
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_verify_depth(c, 4);
    SSL_CTX_set_max_cert_list(c, 16 * 1024);
    if (SSL_CTX_load_verify_locations(c, ca, NULL) != 1) {
        explain(error, "cannot load the CA certificate", ca);
        goto failed;
    }
    if (SSL_CTX_use_certificate_chain_file(c, cert) != 1) {
        explain(error, "cannot load the certificate", cert);
        goto failed;
    }
    if (SSL_CTX_use_PrivateKey_file(c, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(c) != 1) {
        explain(error, "cannot load the key", key);
        goto failed;
    }
    tls->context = c;
    tls->server = server;
    return tls;
failed:
    SSL_CTX_free(c);
    free(tls);
    return NULL;
}

void kb_tls_free(kb_tls *tls)
{
    if (tls) {
        SSL_CTX_free(tls->context);
        free(tls);
    }
}

/* -- events for Python ---------------------------------------------------------------------------------------------------- */

/* -1: there is no room (only for what may be lost) */
static int emit(kb_plane *plane, int type, port *p, int kind, uint32_t tenant, uint32_t source, const void *data, size_t length)
{
    size_t cost = length + sizeof(event_node);
    if (type == KB_EVENT_FRAME || type == KB_EVENT_SEGMENT) {
        int control = type == KB_EVENT_FRAME;
        size_t own = KB_EVENTS_LINK + (control ? KB_EVENTS_CONTROL : 0), all = control ? 2 * KB_EVENTS : KB_EVENTS;
        if (p->event_bytes + cost > own || plane->event_bytes + cost > all) {
            p->counters.events_full++;
            return -1;
        }
    }
    event_node *added = calloc(1, sizeof *added);
    if (!added)
        return -1;
    if (length) {
        if (!(added->event.data = malloc(length))) {
            free(added);
            return -1;
        }
        memcpy(added->event.data, data, length);
    }
    added->event.type = type;
    added->event.port = p->id;
    added->event.kind = kind;
    added->event.tenant = tenant;
    added->event.source = source;
    added->event.length = (uint32_t)length;
    plane->event_bytes += cost;
    p->event_bytes += cost;
    if (plane->events_tail)
        plane->events_tail->next = added;
    else
        plane->events_head = added;
    plane->events_tail = added;
    uint64_t one = 1;
    if (write(plane->notify, &one, sizeof one) < 0) {
        /* the counter is at its limit: it is readable all the same */
    }
    return 0;
}

int kb_next_event(kb_plane *plane, kb_event *event)
{
    enter(plane);
    event_node *node = plane->events_head;
    if (node) {
        plane->events_head = node->next;
        if (!plane->events_head)
            plane->events_tail = NULL;
        size_t cost = node->event.length + sizeof *node;
        port *p = port_of(plane, node->event.port);
        plane->event_bytes -= cost;
        if (p)
            p->event_bytes -= cost;
        *event = node->event;
    } else {
        uint64_t count;
        if (read(plane->notify, &count, sizeof count) < 0) {
            /* it was not set */
        }
    }
    leave(plane);
    free(node);
    return node != NULL;
}

/* -- ports ------------------------------------------------------------------------------------------------------------------ */

static port *port_of(kb_plane *plane, int id)
{
    int slot = id & 0xffff;
    if (id < 0 || slot >= plane->port_capacity || !plane->ports[slot] || plane->ports[slot]->id != id)
        return NULL;
    return plane->ports[slot];
}

static port *port_new(kb_plane *plane, int fd, int kind, char *error)
{
    int slot = 0;
    while (slot < plane->port_capacity && plane->ports[slot])
        slot++;
    if (slot == plane->port_capacity) {
        int capacity = slot ? slot * 2 : 16;
        if (capacity > 65536) {
            snprintf(error, 256, "more than 65536 ports");
            return NULL;
        }
        port **ports = realloc(plane->ports, (size_t)capacity * sizeof *ports);
        if (ports)
            plane->ports = ports;
        uint16_t *generations = realloc(plane->generations, (size_t)capacity * sizeof *generations);
        if (generations)
            plane->generations = generations;
        if (!ports || !generations) {
            snprintf(error, 256, "no memory for a port");
            return NULL;
        }
        memset(ports + slot, 0, (size_t)(capacity - slot) * sizeof *ports);
        memset(generations + slot, 0, (size_t)(capacity - slot) * sizeof *generations);
        plane->port_capacity = capacity;
    }
    port *p = calloc(1, sizeof *p);
    if (!p) {
        snprintf(error, 256, "no memory for a port");
        return NULL;
    }
    /* ids are not reused soon: a stale one must not name another link */
    plane->generations[slot] = (uint16_t)((plane->generations[slot] + 1) & 0x7fff);
    p->id = plane->generations[slot] << 16 | slot;
    p->fd = fd;
    p->kind = kind;
    p->serial = ++plane->serial;
    plane->ports[slot] = p;
    return p;
}

static int port_poll(kb_plane *plane, port *p, uint32_t events)
{
    struct epoll_event e = {.events = events, .data = {.u64 = (uint64_t)(uint32_t)p->id}};
    int op = p->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (p->events == events)
        return 0;
    p->events = events;
    return epoll_ctl(plane->epoll, op, p->fd, &e);
}

static void lane_free(lane *l)
{
    while (l->head) {
        buffer *b = l->head;
        l->head = b->next;
        free(b);
    }
    l->tail = NULL;
}

static void port_free(kb_plane *plane, port *p)
{
    plane->ports[p->id & 0xffff] = NULL;
    if (p->kind == LINK && !p->up)
        plane->handshakes--;
    if (p->ssl) {
        if (p->up)
            SSL_shutdown(p->ssl);
        SSL_free(p->ssl);
    }
    ERR_clear_error();
    close(p->fd);
    lane_free(&p->urgent);
    lane_free(&p->bulk);
    free(p->current);
    free(p->rx);
    free(p->prefixes);
    free(p);
}

static uint8_t without(int *ids, uint8_t count, int id)
{
    uint8_t kept = 0;
    for (uint8_t i = 0; i < count; i++)
        if (ids[i] != id)
            ids[kept++] = ids[i];
    return kept;
}

/* No flow goes to this port any more. A peer may stand at many nodes; it goes seldom enough to look at them all. */
static void forget_number(kb_plane *plane, port *p)
{
    if (!p->admitted)
        return;
    if (p->peer) {
        for (uint32_t i = 0; i < plane->tenant_capacity; i++)
            for (uint32_t n = 0; plane->tenants[i] && n < plane->tenants[i]->numbers; n++) {
                node *at = &plane->tenants[i]->nodes[n];
                at->via_count = without(at->vias, at->via_count, p->id);
            }
        return;
    }
    tenant *t = p->tenant < plane->tenant_capacity ? plane->tenants[p->tenant] : NULL;
    if (!t)
        return;
    if (p->kind == TUN && t->tun == p->id)
        t->tun = -1;
    if (p->kind == LINK && p->number < t->numbers)
        t->nodes[p->number].link_count = without(t->nodes[p->number].links, t->nodes[p->number].link_count, p->id);
}

static void port_down(kb_plane *plane, port *p, const char *reason)
{
    forget_number(plane, p);
    emit(plane, KB_EVENT_DOWN, p, 0, p->tenant, 0, reason, strlen(reason));
    port_free(plane, p);
}

static tenant *tenant_of(kb_plane *plane, uint32_t number, int create)
{
    if (number >= KB_MAX_TENANTS)
        return NULL;
    if (number >= plane->tenant_capacity) {
        if (!create)
            return NULL;
        uint32_t capacity = plane->tenant_capacity ? plane->tenant_capacity : 4;
        while (capacity <= number)
            capacity *= 2;
        tenant **tenants = realloc(plane->tenants, capacity * sizeof *tenants);
        if (!tenants)
            return NULL;
        memset(tenants + plane->tenant_capacity, 0, (capacity - plane->tenant_capacity) * sizeof *tenants);
        plane->tenants = tenants;
        plane->tenant_capacity = capacity;
    }
    if (!plane->tenants[number] && create) {
        tenant *t = calloc(1, sizeof *t);
        if (t) {
            t->tun = -1;
            t->v4 = kb_trie_new();
            t->v6 = kb_trie_new();
        }
        if (!t || !t->v4 || !t->v6) {
            if (t) {
                kb_trie_free(t->v4);
                kb_trie_free(t->v6);
            }
            free(t);
            return NULL;
        }
        plane->tenants[number] = t;
    }
    return plane->tenants[number];
}

static node *node_of(tenant *t, uint32_t number, int create)
{
    if (number >= KB_MAX_NUMBER)
        return NULL;
    if (number >= t->numbers) {
        if (!create)
            return NULL;
        uint32_t numbers = t->numbers ? t->numbers : 16;
        while (numbers <= number)
            numbers *= 2;
        node *nodes = realloc(t->nodes, numbers * sizeof *nodes);
        if (!nodes)
            return NULL;
        memset(nodes + t->numbers, 0, (numbers - t->numbers) * sizeof *nodes);
        t->nodes = nodes;
        t->numbers = numbers;
    }
    return &t->nodes[number];
}

/* One of several ports for a flow: the highest of their hashes (rendezvous), so that only the flows of a port that goes move. */
static port *pinned(kb_plane *plane, const int *ids, uint8_t count, uint32_t flow)
{
    int best = -1;
    uint32_t highest = 0;
    for (uint8_t i = 0; i < count; i++) {
        uint32_t weight = kb_mix(flow, (uint32_t)ids[i]);
        if (best < 0 || weight > highest) {
            best = ids[i];
            highest = weight;
        }
    }
    return best < 0 ? NULL : port_of(plane, best);
}

/* The port for a flow to a node: our own TUN, one of its links, or a relay that has one. An edge reaches everybody through number 0. */
static port *port_for(kb_plane *plane, tenant *t, uint32_t number, uint32_t flow, const port *from)
{
    if (number == plane->number)
        return t->tun < 0 ? NULL : port_of(plane, t->tun);
    node *n = node_of(t, number, 0);
    if (plane->number && (!n || !n->link_count))
        n = node_of(t, 0, 0);
    if (!n)
        return NULL;
    if (n->link_count)
        return pinned(plane, n->links, n->link_count, flow);
    return from && from->peer ? NULL : pinned(plane, n->vias, n->via_count, flow); /* from relay to relay only once */
}

/* Would it go back to where it comes from? */
static int same_node(const port *a, const port *b)
{
    return a == b || (a->kind == LINK && b->kind == LINK && !a->peer && !b->peer && a->tenant == b->tenant && a->number == b->number);
}

/* -- sending ---------------------------------------------------------------------------------------------------------------- */

static buffer *buffer_new(size_t length)
{
    buffer *b = malloc(sizeof *b + length);
    if (b) {
        b->next = NULL;
        b->length = (uint32_t)length;
        b->sent = 0;
    }
    return b;
}

static uint32_t get32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

static void put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static void put_header(uint8_t *to, int kind, size_t length)
{
    to[0] = (uint8_t)kind;
    to[1] = (uint8_t)(length >> 16);
    to[2] = (uint8_t)(length >> 8);
    to[3] = (uint8_t)length;
}

/* Takes the buffer, which holds a whole frame. -1: the queue is full. */
static int enqueue(port *p, buffer *b, int urgent, int always)
{
    if (!always && p->queued > KB_QUEUE) {
        p->counters.queue_full++;
        free(b);
        return -1;
    }
    lane *l = urgent ? &p->urgent : &p->bulk;
    if (l->tail)
        l->tail->next = b;
    else
        l->head = b;
    l->tail = b;
    p->queued += b->length;
    return 0;
}

static buffer *dequeue(lane *l)
{
    buffer *b = l->head;
    if (b) {
        l->head = b->next;
        if (!l->head)
            l->tail = NULL;
        b->next = NULL;
    }
    return b;
}

/* The next bytes for TLS: one large frame as it is, or small ones together, so that they share a record. */
static buffer *next_buffer(port *p)
{
    lane *l = p->urgent.head ? &p->urgent : &p->bulk;
    buffer *first = dequeue(l);
    if (!first || first->length >= COALESCE / 2)
        return first;
    l = p->urgent.head ? &p->urgent : &p->bulk;
    if (!l->head || first->length + l->head->length > COALESCE)
        return first;
    buffer *together = buffer_new(COALESCE);
    if (!together)
        return first;
    uint32_t length = 0;
    buffer *b = first;
    for (;;) {
        memcpy(together->data + length, b->data, b->length);
        length += b->length;
        free(b);
        l = p->urgent.head ? &p->urgent : &p->bulk;
        if (!l->head || length + l->head->length > COALESCE)
            break;
        b = dequeue(l);
    }
    together->length = length;
    return together;
}

static void flush_port(kb_plane *plane, port *p)
{
    if (!p->up)
        return;
    for (;;) {
        if (!p->current && !(p->current = next_buffer(p))) {
            port_poll(plane, p, EPOLLIN);
            return;
        }
        buffer *b = p->current;
        ERR_clear_error();
        if (!p->blocked && ++p->records > KB_REKEY_RECORDS) {
            p->records = 0;
            SSL_key_update(p->ssl, SSL_KEY_UPDATE_NOT_REQUESTED); /* goes out with the next record */
        }
        int left = (int)(b->length - b->sent);
        int n = SSL_write(p->ssl, b->data + b->sent, left < TLS_RECORD ? left : TLS_RECORD);
        if (n <= 0) {
            int why = SSL_get_error(p->ssl, n);
            p->blocked = 1;
            if (why == SSL_ERROR_WANT_WRITE) {
                if (port_poll(plane, p, EPOLLIN | EPOLLOUT) < 0)
                    port_down(plane, p, "epoll failed");
                return;
            }
            if (why == SSL_ERROR_WANT_READ) {
                port_poll(plane, p, EPOLLIN);
                return;
            }
            port_down(plane, p, why == SSL_ERROR_SYSCALL && errno ? strerror(errno) : "the connection broke while sending");
            return;
        }
        p->blocked = 0;
        b->sent += (uint32_t)n;
        p->queued -= (size_t)n;
        p->counters.tx_bytes += (uint64_t)n;
        if (b->sent == b->length) {
            free(b);
            p->current = NULL;
        }
    }
}

/* -- forwarding --------------------------------------------------------------------------------------------------------------- */

static void write_tun(port *p, uint8_t *frame, size_t length)
{
    ssize_t n = p->vnet_hdr ? write(p->fd, frame, length) : write(p->fd, frame + KB_VNET, length - KB_VNET);
    if (n < 0) {
        p->counters.tun_full++;
        return;
    }
    p->counters.tx_packets++;
    p->counters.tx_bytes += (uint64_t)n;
}

static void write_segment(void *context, uint8_t *frame, size_t length) { write_tun(context, frame, length); }

static void deliver_tun(port *p, uint8_t *frame, size_t length)
{
    if (!p->vnet_hdr) {
        if (frame[1]) {
            if (kb_segment_gso(frame, length, write_segment, p) < 0)
                p->counters.bad_header++;
            return;
        }
        kb_complete_checksum(frame, length);
    }
    write_tun(p, frame, length);
}

/* Puts bytes into the queue of a link, with the tenant in front when the link leads to a relay. */
static int queue_frame(kb_plane *plane, port *to, int kind, uint32_t tenant_number, const uint8_t *data, size_t length, buffer *owned, int urgent)
{
    size_t head = to->peer ? 4 : 0;
    if (head)
        owned = NULL;
    buffer *b = owned ? owned : buffer_new(KB_HEADER + head + length);
    if (!b)
        return -1;
    put_header(b->data, to->peer ? kind + (KB_TENANT_PACKET - KB_PACKET) : kind, head + length);
    if (head) {
        uint8_t *at = b->data + KB_HEADER;
        at[0] = (uint8_t)(tenant_number >> 24);
        at[1] = (uint8_t)(tenant_number >> 16);
        at[2] = (uint8_t)(tenant_number >> 8);
        at[3] = (uint8_t)tenant_number;
    }
    if (!owned)
        memcpy(b->data + KB_HEADER + head, data, length);
    b->length = (uint32_t)(KB_HEADER + head + length);
    int idle = to->queued == 0;
    if (enqueue(to, b, urgent, 0) < 0)
        return owned ? 1 : -1;
    if (idle || to->queued > BATCH_BYTES)
        to->pending |= 2; /* flush at the end of the batch */
    plane->pending = 1;
    return owned ? 1 : 0;
}

/* A frame of a tenant that came from `from`, already checked: find where it goes. `owned` is the buffer that holds it after a
 * header, or NULL when the bytes belong to somebody else. Returns 1 when it took `owned`. */
static int forward(kb_plane *plane, port *from, uint32_t tenant_number, uint8_t *frame, size_t length, const kb_packet *packet, buffer *owned)
{
    tenant *t = tenant_of(plane, tenant_number, 0);
    const kb_trie *route = t ? kb_trie_lookup(packet->v6 ? t->v6 : t->v4, packet->destination, packet->v6 ? 128 : 32) : NULL;
    if (!route) {
        from->counters.no_route++;
        return 0;
    }
    port *to = port_for(plane, t, (uint32_t)route->number, packet->flow, from);
    if (!to) {
        from->counters.no_link++;
        return 0;
    }
    if (same_node(to, from)) {
        from->counters.no_route++;
        return 0;
    }
    if (to->kind == TUN) {
        deliver_tun(to, frame, length);
        return 0;
    }
    if (from->kind == LINK && kb_decrement_ttl(frame + KB_VNET) < 0) {
        from->counters.ttl_exceeded++;
        return 0;
    }
    if (to->queued > KB_QUEUE) {
        to->counters.queue_full++;
        return 0;
    }
    int result = queue_frame(plane, to, KB_PACKET, tenant_number, frame, length, owned, packet->urgent);
    if (result >= 0)
        to->counters.tx_packets++;
    return result == 1;
}

static void read_tun(kb_plane *plane, port *p)
{
    size_t total = 0;
    for (int n = 0; n < BATCH_PACKETS && total < BATCH_BYTES; n++) {
        if (!plane->scratch && !(plane->scratch = buffer_new(KB_HEADER + KB_MAX_PACKET)))
            return;
        uint8_t *frame = plane->scratch->data + KB_HEADER;
        size_t skip = p->vnet_hdr ? 0 : KB_VNET;
        ssize_t got = read(p->fd, frame + skip, KB_MAX_PACKET - skip);
        if (got < 0 && (errno == EAGAIN || errno == EINTR || errno == EIO))
            return; /* nothing there, or the interface is down: both pass */
        if (got <= 0) {
            char reason[96];
            snprintf(reason, sizeof reason, "the TUN device is gone: %s", got ? strerror(errno) : "end of file");
            port_down(plane, p, reason);
            return;
        }
        size_t length = (size_t)got + skip;
        if (skip)
            memset(frame, 0, KB_VNET);
        total += length;
        p->counters.rx_packets++;
        p->counters.rx_bytes += (uint64_t)got;
        kb_packet packet;
        if (kb_check_packet(frame, length, &packet) < 0) {
            p->counters.bad_header++;
            continue;
        }
        /* a large packet travels in the buffer that it was read into; a small one would waste it */
        buffer *owned = length > 16384 ? plane->scratch : NULL;
        if (forward(plane, p, p->tenant, frame, length, &packet, owned))
            plane->scratch = NULL;
    }
    plane->pending = 1;
    p->pending |= 1;
}

static int source_allowed(const port *p, const kb_packet *packet)
{
    if (!p->prefix_count)
        return 1;
    for (int i = 0; i < p->prefix_count; i++)
        if (kb_prefix_contains(&p->prefixes[i], packet->source, packet->v6))
            return 1;
    return 0;
}

/* Segments for ourselves pass here, all of them. */
static void segment_for_us(kb_plane *plane, port *p, uint32_t tenant_number, uint32_t source, const uint8_t *data, size_t length)
{
    emit(plane, KB_EVENT_SEGMENT, p, KB_SEGMENT, tenant_number, source, data, length);
}

static void on_segment(kb_plane *plane, port *p, uint32_t tenant_number, uint8_t *payload, size_t length)
{
    uint32_t destination = get32(payload), source = get32(payload + 4);
    p->counters.rx_segments++;
    if (p->prefix_count && source != p->number) {
        p->counters.bad_source++;
        return;
    }
    if (destination == plane->number) {
        segment_for_us(plane, p, tenant_number, source, payload + 8, length - 8);
        return;
    }
    tenant *t = tenant_of(plane, tenant_number, 0);
    port *to = t ? port_for(plane, t, destination, kb_segment_flow(payload, length), p) : NULL;
    if (!to || same_node(to, p)) {
        p->counters.no_route++;
        return;
    }
    if (queue_frame(plane, to, KB_SEGMENT, tenant_number, payload, length, NULL, 0) == 0)
        to->counters.tx_segments++;
}

/* One whole frame. -1: the link was closed. */
static int on_frame(kb_plane *plane, port *p, int kind, uint8_t *payload, size_t length)
{
    switch (kind) {
    case KB_CONTROL:
        if (!p->admitted && ++p->early > KB_EARLY_CONTROL) {
            port_down(plane, p, "too many control frames before admission");
            return -1;
        }
        if (emit(plane, KB_EVENT_FRAME, p, kind, p->tenant, 0, payload, length) < 0) {
            port_down(plane, p, "control frames come faster than they are read");
            return -1;
        }
        return 0;
    }
    if (!p->admitted)
        return 0;
    uint32_t tenant_number = p->tenant;
    if (kind == KB_TENANT_PACKET || kind == KB_TENANT_SEGMENT) {
        if (!p->peer) {
            port_down(plane, p, "a frame between relays from a link that leads to none");
            return -1;
        }
        tenant_number = get32(payload);
        kind -= KB_TENANT_PACKET - KB_PACKET;
        payload += 4;
        length -= 4;
    } else if (p->peer) {
        port_down(plane, p, "a frame without its tenant from a relay");
        return -1;
    }
    if (kind == KB_SEGMENT) {
        on_segment(plane, p, tenant_number, payload, length);
        return 0;
    }
    kb_packet packet;
    p->counters.rx_packets++;
    if (kb_check_packet(payload, length, &packet) < 0)
        p->counters.bad_header++;
    else if (!source_allowed(p, &packet))
        p->counters.bad_source++;
    else
        forward(plane, p, tenant_number, payload, length, &packet, NULL);
    return 0;
}

/* Takes whole frames out of p->rx. -1: the link was closed. */
static int parse(kb_plane *plane, port *p)
{
    size_t at = 0;
    while (p->rx_length - at >= KB_HEADER) {
        const uint8_t *h = p->rx + at;
        int kind = h[0];
        size_t length = (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];
        if (kb_check_frame(kind, length) < 0) {
            char reason[96];
            snprintf(reason, sizeof reason, "frame of kind %d with %zu bytes", kind, length);
            port_down(plane, p, reason);
            return -1;
        }
        size_t have = p->rx_length - at - KB_HEADER;
        if (kind >= 128) {
            size_t skip = have < length ? have : length;
            p->rx_skip = length - skip;
            at += KB_HEADER + skip;
            continue;
        }
        if (have < length) {
            size_t need = KB_HEADER + length;
            if (at) {
                memmove(p->rx, p->rx + at, p->rx_length - at);
                p->rx_length -= at;
                at = 0;
            }
            if (need > p->rx_capacity) {
                uint8_t *rx = realloc(p->rx, need + TLS_RECORD);
                if (!rx) {
                    port_down(plane, p, "no memory for a frame");
                    return -1;
                }
                p->rx = rx;
                p->rx_capacity = need + TLS_RECORD;
            }
            break;
        }
        int id = p->id;
        if (on_frame(plane, p, kind, p->rx + at + KB_HEADER, length) < 0 || port_of(plane, id) != p)
            return -1;
        at += KB_HEADER + length;
    }
    if (at) {
        memmove(p->rx, p->rx + at, p->rx_length - at);
        p->rx_length -= at;
    }
    return 0;
}

static void read_link(kb_plane *plane, port *p)
{
    size_t total = 0;
    int id = p->id;
    while (total < BATCH_BYTES) {
        if (!p->rx) {
            p->rx_capacity = 2 * TLS_RECORD;
            if (!(p->rx = malloc(p->rx_capacity))) {
                port_down(plane, p, "no memory for a frame");
                return;
            }
        }
        ERR_clear_error();
        int n = SSL_read(p->ssl, p->rx + p->rx_length, (int)(p->rx_capacity - p->rx_length));
        if (n <= 0) {
            int why = SSL_get_error(p->ssl, n);
            if (why == SSL_ERROR_WANT_READ) {
                if (p->rx_length == 0) { /* idle: the memory goes back */
                    free(p->rx);
                    p->rx = NULL;
                    p->rx_capacity = 0;
                }
                return;
            }
            if (why == SSL_ERROR_WANT_WRITE) {
                port_poll(plane, p, EPOLLIN | EPOLLOUT);
                return;
            }
            port_down(plane, p,
                      why == SSL_ERROR_ZERO_RETURN || ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING
                          ? "closed by the peer"
                      : why == SSL_ERROR_SYSCALL && errno         ? strerror(errno)
                      : ERR_peek_last_error() && ERR_reason_error_string(ERR_peek_last_error())
                          ? ERR_reason_error_string(ERR_peek_last_error())
                          : "closed by the peer");
            return;
        }
        total += (size_t)n;
        p->counters.rx_bytes += (uint64_t)n;
        if (p->rx_skip) { /* of a frame that is skipped, straight away */
            size_t skip = p->rx_skip < (size_t)n ? p->rx_skip : (size_t)n;
            memmove(p->rx + p->rx_length, p->rx + p->rx_length + skip, (size_t)n - skip);
            p->rx_skip -= skip;
            n -= (int)skip;
        }
        p->rx_length += (size_t)n;
        if (parse(plane, p) < 0)
            return;
        if (p->rx_length == p->rx_capacity) { /* cannot be: parse keeps room for the frame it waits for */
            port_down(plane, p, "a frame outgrew its buffer");
            return;
        }
    }
    if (port_of(plane, id) == p) {
        p->pending |= 1;
        plane->pending = 1;
    }
}

/* -- handshakes ----------------------------------------------------------------------------------------------------------------- */

/* The one URI name of the peer's certificate into `uri` (256 bytes); -1 when there is not exactly one. */
static int peer_uri(SSL *ssl, char *uri)
{
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    GENERAL_NAMES *names = certificate ? X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL) : NULL;
    int found = 0;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        int length = ASN1_STRING_length(name->d.uniformResourceIdentifier);
        const unsigned char *text = ASN1_STRING_get0_data(name->d.uniformResourceIdentifier);
        if (length <= 0 || length > 255 || memchr(text, 0, (size_t)length)) {
            found = -1;
            break;
        }
        memcpy(uri, text, (size_t)length);
        uri[length] = 0;
        found++;
    }
    GENERAL_NAMES_free(names);
    return found == 1 ? 0 : -1;
}

static void handshake(kb_plane *plane, port *p)
{
    ERR_clear_error();
    int n = SSL_do_handshake(p->ssl);
    if (n == 1) {
        char uri[256];
        if (SSL_get_verify_result(p->ssl) != X509_V_OK || peer_uri(p->ssl, uri) < 0) {
            port_down(plane, p, "the peer's certificate does not have exactly one URI name");
            return;
        }
        p->up = 1;
        plane->handshakes--;
        emit(plane, KB_EVENT_UP, p, 0, 0, 0, uri, strlen(uri));
        int id = p->id;
        flush_port(plane, p);
        if (port_of(plane, id) == p)
            read_link(plane, p); /* the first frame may have come with the handshake */
        return;
    }
    int why = SSL_get_error(p->ssl, n);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        port_poll(plane, p, why == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLIN | EPOLLOUT);
        return;
    }
    char reason[200];
    long verify = SSL_get_verify_result(p->ssl);
    const char *text = ERR_peek_last_error() ? ERR_reason_error_string(ERR_peek_last_error()) : NULL;
    if (verify != X509_V_OK)
        snprintf(reason, sizeof reason, "certificate refused: %s", X509_verify_cert_error_string(verify));
    else
        snprintf(reason, sizeof reason, "TLS handshake failed: %s", text ? text : errno ? strerror(errno) : "closed by the peer");
    port_down(plane, p, reason);
}

static void expire_handshakes(kb_plane *plane)
{
    time_t now = seconds();
    for (int slot = 0; slot < plane->port_capacity; slot++) {
        port *p = plane->ports[slot];
        if (p && p->kind == LINK && !p->up && now >= p->deadline)
            port_down(plane, p, "no TLS handshake in time");
    }
}

/* Strangers may hold so many handshakes and no more. In a crowd of honest links the first ones get through. */
static void limit_handshakes(kb_plane *plane, port *newest)
{
    if (plane->handshakes <= KB_MAX_HANDSHAKES)
        return;
    port *oldest = newest;
    for (int slot = 0; slot < plane->port_capacity; slot++) {
        port *p = plane->ports[slot];
        if (p && p->kind == LINK && !p->up && p->serial < oldest->serial)
            oldest = p;
    }
    int had_time = seconds() >= oldest->deadline - KB_HANDSHAKE_SECONDS + KB_HANDSHAKE_GRACE;
    port_down(plane, had_time ? oldest : newest, "too many handshakes at once");
}

/* -- the thread --------------------------------------------------------------------------------------------------------------------- */

static void serve(kb_plane *plane, port *p, uint32_t events)
{
    int id = p->id;
    if (p->kind == TUN) {
        read_tun(plane, p);
        return;
    }
    if (!p->up) {
        handshake(plane, p);
        return;
    }
    if (events & EPOLLOUT)
        flush_port(plane, p);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && port_of(plane, id) == p)
        read_link(plane, p);
}

/* What a batch left to do: bytes that TLS holds, frames that wait in queues. */
static void serve_pending(kb_plane *plane)
{
    plane->pending = 0;
    for (int slot = 0; slot < plane->port_capacity; slot++) {
        port *p = plane->ports[slot];
        if (p && p->pending & 2) {
            p->pending &= ~2;
            flush_port(plane, p);
        }
    }
    for (int slot = 0; slot < plane->port_capacity; slot++) {
        port *p = plane->ports[slot];
        if (p && p->pending & 1) {
            p->pending &= ~1;
            if (p->kind == LINK && SSL_has_pending(p->ssl))
                read_link(plane, p);
        }
    }
}

static void *run(void *argument)
{
    kb_plane *plane = argument;
    struct epoll_event events[64];
    time_t looked_at = 0;
    enter(plane);
    while (!plane->stop) {
        int timeout = plane->pending ? 0 : plane->handshakes ? 1000 : -1;
        leave(plane);
        int n = epoll_wait(plane->epoll, events, 64, timeout);
        enter(plane);
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == UINT64_MAX) {
                uint64_t count;
                if (read(plane->wake, &count, sizeof count) < 0) {
                    /* somebody else read it */
                }
                continue;
            }
            port *p = port_of(plane, (int)events[i].data.u64);
            if (p)
                serve(plane, p, events[i].events);
        }
        if (plane->pending)
            serve_pending(plane);
        if (plane->handshakes && seconds() != looked_at) {
            looked_at = seconds();
            expire_handshakes(plane);
        }
    }
    leave(plane);
    return NULL;
}

static void wake(kb_plane *plane)
{
    uint64_t one = 1;
    if (write(plane->wake, &one, sizeof one) < 0) {
        /* it is set already */
    }
}

kb_plane *kb_plane_new(uint32_t number, char *error)
{
    kb_plane *plane = calloc(1, sizeof *plane);
    if (!plane) {
        snprintf(error, 256, "no memory");
        return NULL;
    }
    plane->number = number;
    plane->epoll = epoll_create1(EPOLL_CLOEXEC);
    plane->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    plane->notify = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data = {.u64 = UINT64_MAX}};
    if (plane->epoll < 0 || plane->wake < 0 || plane->notify < 0 || epoll_ctl(plane->epoll, EPOLL_CTL_ADD, plane->wake, &e) < 0)
        goto failed;
    pthread_mutex_init(&plane->gate, NULL);
    pthread_mutex_init(&plane->lock, NULL);
    /* signals are Python's: none is delivered to this thread, and a broken socket is an error of write, not a signal */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 512 * 1024);
    int failed = pthread_create(&plane->thread, &attributes, run, plane);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed)
        return plane;
    errno = failed;
    pthread_mutex_destroy(&plane->gate);
    pthread_mutex_destroy(&plane->lock);
failed:
    snprintf(error, 256, "cannot start the data plane: %s", strerror(errno));
    close(plane->epoll);
    close(plane->wake);
    close(plane->notify);
    free(plane);
    return NULL;
}

void kb_plane_free(kb_plane *plane)
{
    if (!plane)
        return;
    enter(plane);
    plane->stop = 1;
    leave(plane);
    wake(plane);
    pthread_join(plane->thread, NULL);
    for (int slot = 0; slot < plane->port_capacity; slot++)
        if (plane->ports[slot])
            port_free(plane, plane->ports[slot]);
    for (uint32_t i = 0; i < plane->tenant_capacity; i++)
        if (plane->tenants[i]) {
            kb_trie_free(plane->tenants[i]->v4);
            kb_trie_free(plane->tenants[i]->v6);
            free(plane->tenants[i]->nodes);
            free(plane->tenants[i]);
        }
    while (plane->events_head) {
        event_node *node = plane->events_head;
        plane->events_head = node->next;
        free(node->event.data);
        free(node);
    }
    free(plane->scratch);
    free(plane->ports);
    free(plane->generations);
    free(plane->tenants);
    close(plane->epoll);
    close(plane->wake);
    close(plane->notify);
    pthread_mutex_destroy(&plane->gate);
    pthread_mutex_destroy(&plane->lock);
    free(plane);
}

int kb_plane_fileno(kb_plane *plane) { return plane->notify; }

/* -- calls from Python ---------------------------------------------------------------------------------------------------------------- */

int kb_add_tun(kb_plane *plane, int fd, uint32_t tenant_number, int vnet_hdr, char *error)
{
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) {
        snprintf(error, 256, "TUN: %s", strerror(errno));
        return -1;
    }
    enter(plane);
    tenant *t = tenant_of(plane, tenant_number, 1);
    if (t && t->tun >= 0)
        snprintf(error, 256, "tenant number %u has a TUN already", tenant_number);
    port *p = t && t->tun < 0 ? port_new(plane, fd, TUN, error) : NULL;
    int id = -1;
    if (p) {
        p->tenant = tenant_number;
        p->vnet_hdr = vnet_hdr;
        p->up = p->admitted = 1;
        p->number = plane->number;
        id = p->id;
        if (port_poll(plane, p, EPOLLIN) < 0) {
            snprintf(error, 256, "TUN: %s", strerror(errno));
            plane->ports[id & 0xffff] = NULL; /* the caller keeps the descriptor */
            free(p);
            id = -1;
        } else {
            t->tun = id;
        }
    } else if (!error[0]) {
        snprintf(error, 256, "tenant number %u", tenant_number);
    }
    leave(plane);
    return id;
}

int kb_add_link(kb_plane *plane, int fd, kb_tls *tls, const char *server_name, char *error)
{
    ERR_clear_error();
    int one = 1, lowat = 128 * 1024, patience = 20000;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof patience);
    SSL *ssl = SSL_new(tls->context);
    if (!ssl || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 || SSL_set_fd(ssl, fd) != 1) {
        explain(error, "link", "");
        SSL_free(ssl);
        return -1;
    }
    if (tls->server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
        X509_VERIFY_PARAM *verify = SSL_get0_param(ssl);
        if (X509_VERIFY_PARAM_set1_ip_asc(verify, server_name) != 1 &&
            (X509_VERIFY_PARAM_set1_host(verify, server_name, 0) != 1 || SSL_set_tlsext_host_name(ssl, server_name) != 1)) {
            explain(error, "server name", server_name);
            SSL_free(ssl);
            return -1;
        }
        ERR_clear_error();
    }
    enter(plane);
    port *p = port_new(plane, fd, LINK, error);
    int id = -1;
    if (p) {
        p->ssl = ssl;
        p->deadline = seconds() + KB_HANDSHAKE_SECONDS;
        id = p->id;
        if (port_poll(plane, p, EPOLLIN | EPOLLOUT) < 0) {
            snprintf(error, 256, "link: %s", strerror(errno));
            plane->ports[id & 0xffff] = NULL;
            SSL_free(ssl);
            free(p);
            id = -1;
        } else {
            plane->handshakes++;
            limit_handshakes(plane, p);
        }
    } else {
        SSL_free(ssl);
    }
    leave(plane);
    wake(plane); /* the handshake's deadline needs a timeout */
    return id;
}

int kb_admit(kb_plane *plane, int id, uint32_t tenant_number, uint32_t number, const kb_prefix *prefixes, int count)
{
    if (number >= KB_MAX_NUMBER || count < 0 || count > KB_MAX_PREFIXES)
        return -1;
    kb_prefix *copy = NULL;
    if (count) {
        if (!(copy = malloc((size_t)count * sizeof *copy)))
            return -1;
        memcpy(copy, prefixes, (size_t)count * sizeof *copy);
    }
    int result = -1;
    enter(plane);
    port *p = port_of(plane, id);
    tenant *t = p && p->kind == LINK ? tenant_of(plane, tenant_number, 1) : NULL;
    node *n = t ? node_of(t, number, 1) : NULL;
    if (n && number != plane->number) {
        forget_number(plane, p); /* of an earlier admission */
        if (n->link_count == KB_MAX_BUNDLE) { /* the oldest gives way; it stays open until Python drops it */
            memmove(n->links, n->links + 1, (KB_MAX_BUNDLE - 1) * sizeof *n->links);
            n->link_count--;
        }
        free(p->prefixes);
        p->prefixes = copy;
        p->prefix_count = count;
        copy = NULL;
        p->tenant = tenant_number;
        p->number = number;
        p->admitted = 1;
        p->peer = 0;
        n->links[n->link_count++] = id;
        result = 0;
    }
    leave(plane);
    free(copy);
    return result;
}

int kb_admit_peer(kb_plane *plane, int id)
{
    enter(plane);
    port *p = port_of(plane, id);
    int result = p && p->kind == LINK ? 0 : -1;
    if (!result) {
        forget_number(plane, p);
        free(p->prefixes);
        p->prefixes = NULL;
        p->prefix_count = 0;
        p->tenant = p->number = 0;
        p->admitted = p->peer = 1;
    }
    leave(plane);
    return result;
}

int kb_via(kb_plane *plane, uint32_t tenant_number, uint32_t number, int id)
{
    enter(plane);
    port *p = port_of(plane, id);
    tenant *t = p && p->peer ? tenant_of(plane, tenant_number, 1) : NULL;
    node *n = t && number != plane->number ? node_of(t, number, 1) : NULL;
    int result = -1;
    if (n) {
        n->via_count = without(n->vias, n->via_count, id);
        if (n->via_count < KB_MAX_VIAS) {
            n->vias[n->via_count++] = id;
            result = 0;
        }
    }
    leave(plane);
    return result;
}

void kb_unvia(kb_plane *plane, uint32_t tenant_number, uint32_t number)
{
    enter(plane);
    tenant *t = tenant_of(plane, tenant_number, 0);
    node *n = t ? node_of(t, number, 0) : NULL;
    if (n)
        n->via_count = 0;
    leave(plane);
}

int kb_add_route(kb_plane *plane, uint32_t tenant_number, const kb_prefix *prefix, uint32_t number, uint16_t mtu)
{
    if (prefix->bits > (prefix->v6 ? 128 : 32) || number >= KB_MAX_NUMBER)
        return -1;
    enter(plane);
    tenant *t = tenant_of(plane, tenant_number, 1);
    int result = t ? kb_trie_add(prefix->v6 ? t->v6 : t->v4, prefix->address, prefix->bits, (int)number, mtu) : -1;
    leave(plane);
    return result;
}

int kb_remove_route(kb_plane *plane, uint32_t tenant_number, const kb_prefix *prefix)
{
    if (prefix->bits > (prefix->v6 ? 128 : 32))
        return -1;
    enter(plane);
    tenant *t = tenant_of(plane, tenant_number, 0);
    if (t)
        kb_trie_remove(prefix->v6 ? t->v6 : t->v4, prefix->address, prefix->bits, 0);
    leave(plane);
    return t ? 0 : -1;
}

int kb_lookup(kb_plane *plane, uint32_t tenant_number, const kb_prefix *address)
{
    enter(plane);
    tenant *t = tenant_of(plane, tenant_number, 0);
    const kb_trie *route = t ? kb_trie_lookup(address->v6 ? t->v6 : t->v4, address->address, address->v6 ? 128 : 32) : NULL;
    int found = route ? route->number : -1;
    leave(plane);
    return found;
}

static int send_to(kb_plane *plane, port *p, int kind, const uint8_t *head, size_t head_length, const uint8_t *data, size_t length)
{
    if (!p || p->kind != LINK)
        return -1;
    buffer *b = buffer_new(KB_HEADER + head_length + length);
    if (!b)
        return -1;
    put_header(b->data, kind, head_length + length);
    if (head_length)
        memcpy(b->data + KB_HEADER, head, head_length);
    memcpy(b->data + KB_HEADER + head_length, data, length);
    int control = kind == KB_CONTROL;
    /* control may pass a full queue, but not without end: a link that takes nothing is closed by its silence */
    if (enqueue(p, b, control, control && p->queued < 2 * KB_QUEUE) < 0)
        return -1;
    if (!control)
        p->counters.tx_segments++;
    p->pending |= 2;
    int waiting = plane->pending;
    plane->pending = 1;
    if (!waiting)
        wake(plane);
    return 0;
}

int kb_send(kb_plane *plane, int id, int kind, const uint8_t *data, size_t length)
{
    if (!(kind == KB_CONTROL && length <= KB_MAX_CONTROL) && !(kind == KB_SEGMENT && length >= 8 && length <= KB_MAX_SEGMENT))
        return -1;
    enter(plane);
    int result = send_to(plane, port_of(plane, id), kind, NULL, 0, data, length);
    leave(plane);
    return result;
}

int kb_send_segment(kb_plane *plane, uint32_t tenant_number, uint32_t number, const uint8_t *data, size_t length)
{
    if (length > KB_MAX_SEGMENT - 8)
        return -1;
    uint8_t address[8 + KB_FLOW_BYTES];
    put32(address, number);
    put32(address + 4, plane->number);
    size_t seen = length < KB_FLOW_BYTES ? length : KB_FLOW_BYTES;
    memcpy(address + 8, data, seen);
    uint8_t head[12];
    enter(plane);
    tenant *t = tenant_of(plane, tenant_number, 0);
    port *p = t && number != plane->number ? port_for(plane, t, number, kb_segment_flow(address, 8 + seen), NULL) : NULL;
    size_t head_length = p && p->peer ? 12 : 8;
    put32(head, tenant_number);
    memcpy(head + head_length - 8, address, 8);
    int result = send_to(plane, p, p && p->peer ? KB_TENANT_SEGMENT : KB_SEGMENT, head, head_length, data, length);
    leave(plane);
    return result;
}

int kb_drop(kb_plane *plane, int id, const char *reason)
{
    enter(plane);
    port *p = port_of(plane, id);
    if (p) {
        flush_port(plane, p); /* what says why, if the socket takes it at once */
        if ((p = port_of(plane, id)))
            port_down(plane, p, reason);
    }
    leave(plane);
    return p ? 0 : -1;
}

int kb_get_counters(kb_plane *plane, int id, kb_counters *counters)
{
    enter(plane);
    port *p = port_of(plane, id);
    if (p) {
        *counters = p->counters;
        counters->queued = p->queued;
    }
    leave(plane);
    return p ? 0 : -1;
}
