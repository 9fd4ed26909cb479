/* What the files of the data plane share: dataplane.c (the thread), ports.c, plane_api.c, link.c (TLS, frames in and out),
 * forward.c (where packets and segments go). The rules of memory and locks are in plane.h. */
#ifndef KUBEEDGE_PLANE_INTERNAL_H
#define KUBEEDGE_PLANE_INTERNAL_H

#include "bytes.h"
#include "plane.h"
#include "queue.h"
#include "routes.h"

#include <openssl/ssl.h>
#include <pthread.h>

enum { TUN, LINK };
enum { TO_FLUSH = 1, TO_READ = 2 };          /* the thread's lists of ports with work left */
enum { HANDSHAKING, WARM };                  /* lists with a deadline; a port is in one of them at most */
#define READ_BYTES (256 * 1024)              /* from one port, then the others have their turn */
#define TUN_BYTES (512 * 1024)               /* more than is sent in a turn: the backlog is to be in our queues, not in the device */
#define FLUSH_BYTES (128 * 1024)
#define RECORD (16 * 1024)                   /* the largest TLS record */
#define READ_AHEAD (66 * 1024)               /* TLS bytes that are read at once */
#define TX_BYTES (256 * 1024)                /* TLS bytes that are written at once, at most */
#define COALESCE (8 * 1024)                  /* smaller frames share a record */
#define WARM_SECONDS 2                       /* then an idle link gives its buffers back */
#define ICMP_BURST 32
#define ICMP_PER_SECOND 100

/* A descriptor of somebody else in the thread's epoll. */
typedef struct kb_watch {
    int fd;
    void (*ready)(struct kb_watch *watch, uint32_t events); /* with the lock held */
    struct kb_watch *deferred_next;
    void *memory;
} kb_watch;

typedef struct port {
    int id, fd, kind;
    kb_plane *plane;
    uint32_t tenant, number, events;
    uint8_t up, admitted, peer, down, vnet_hdr, uso, early, blocked, listed, list, small;
    uint8_t wan, fixed_congestion; /* the path's round trip is long; somebody chose the congestion control */
    uint8_t startup, capped, flat; /* BBR is in its startup; we cap its rate; looks since it grew */
    uint64_t startup_rate;
    struct port *flush_next, *read_next, *deferred_next, *previous, *next;
    SSL *ssl;
    uint64_t since, tuned;      /* us: of the list's deadline, of the last look at the path */
    size_t event_bytes;         /* that wait for Python */
    uint32_t records;           /* since the last key */
    kb_reader reader;
    kb_queue *queue;            /* NULL while there is nothing to send */
    uint8_t *unsent;            /* TLS bytes that the socket did not take */
    size_t unsent_at, unsent_length;
    uint32_t batch, burst;      /* bytes: of a write; of a super-packet on this path, 0: any */
    uint32_t icmp_tokens;
    uint64_t icmp_at;
    kb_prefix *prefixes;
    int prefix_count;
    char congestion[16], complaint[48]; /* congestion control; why it is not the one that was wanted */
    kb_counters counters;
} port;

/* A node of a tenant: its links to us, and the relays through which it is reached when it has none. */
typedef struct {
    int links[KB_MAX_LINKS_PER_NODE], next_hops[KB_MAX_NEXT_HOPS];
    uint8_t link_count, next_hop_count;
} node;

typedef struct {
    kb_trie *v4, *v6;
    node *nodes; /* by number */
    uint32_t numbers;
    int tun;                        /* port, -1: none */
    uint8_t source4[2][4], source6[2][16]; /* of ICMP errors: into links, into the TUN */
    uint8_t has4[2], has6[2];
    size_t event_bytes, queued; /* that wait for Python; in the queues of its links */
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
    pthread_mutex_t gate, lock; /* see kb_plane_enter() */
    pthread_t thread;
    int epoll, wake, notify, stop, handshakes;
    uint32_t number;
    uint64_t now;               /* us, of this turn */
    port **ports;
    uint16_t *generations;
    int *vacant, vacant_count;  /* slots */
    int port_capacity;
    port *flush_head, *flush_tail, *read_head, *read_tail, *deferred;
    port *lists[2], *lists_tail[2];
    tenant **tenants;
    uint32_t tenant_capacity;
    event_node *events_head, *events_tail;
    size_t event_bytes, queued;
    kb_pool pool;
    kb_buffer *scratch;         /* the next packet from a TUN */
    uint8_t *tx, *plain;        /* TX_BYTES that TLS has written for the port at hand; RECORD bytes of small frames */
    size_t tx_length;
    struct kb_l4 *l4;           /* NULL: nobody has asked for it */
    uint64_t l4_at;             /* us, when it wants to work */
    struct kb_proxy *proxies;
    uint64_t proxies_at;        /* us, of their next look at the clock */
    kb_watch *deferred_watches;
};

/* dataplane.c */
void kb_plane_enter(kb_plane *plane);
void kb_plane_leave(kb_plane *plane);
void kb_plane_wake(kb_plane *plane);
uint64_t kb_microseconds(void);
void kb_limit_handshakes(kb_plane *plane, port *newest);
int kb_watch_add(kb_plane *plane, kb_watch *watch, uint32_t events); /* -1: see errno */
void kb_watch_remove(kb_plane *plane, kb_watch *watch);
void kb_watch_defer_free(kb_plane *plane, kb_watch *watch, void *memory); /* frees it when no event can name it any more; it must have no descriptor */

/* ports.c */
port *kb_port_new(kb_plane *plane, int fd, int kind, char *error);
void kb_port_discard(kb_plane *plane, port *p);
void kb_port_close(kb_plane *plane, port *p);
void kb_free_deferred(kb_plane *plane);
void kb_port_forget_number(kb_plane *plane, port *p);
uint8_t kb_ids_without(int *ids, uint8_t count, int id);
port *kb_port_of(kb_plane *plane, int id);
size_t kb_share_of(size_t all, size_t used, size_t reserve); /* bytes that one tenant may hold, of `all` of which all tenants hold `used` */
void kb_port_down(kb_plane *plane, port *p, const char *reason); /* p stays readable, with p->down set, until the end of the turn */
int kb_port_poll(kb_plane *plane, port *p, uint32_t events);
void kb_port_enlist(kb_plane *plane, port *p, int where);
void kb_port_set_deadline_list(kb_plane *plane, port *p, int list); /* -1: in none */
tenant *kb_tenant_of(kb_plane *plane, uint32_t number, int create);
node *kb_node_of(tenant *t, uint32_t number, int create);
int kb_emit(kb_plane *plane, int type, port *p, int kind, uint32_t tenant, uint32_t source, const void *data, size_t length);

/* link.c */
int kb_link_open(kb_plane *plane, port *p, int fd, kb_tls *tls, const char *server_name, const char *control, char *error);
void kb_link_close(kb_plane *plane, port *p);
void kb_link_handshake(kb_plane *plane, port *p);
void kb_link_read(kb_plane *plane, port *p);
void kb_link_flush(kb_plane *plane, port *p);
void kb_link_release_buffers(port *p);
size_t kb_link_queued(const port *p);
void kb_count_queued(kb_plane *plane, port *p, size_t before, size_t after);
/* Puts a frame into the link's queue; takes `b`, whose payload is at KB_HEADROOM, `length` bytes. -1: it was dropped. `own`: it
 * comes from here, so a full queue refuses it instead of dropping what is older. */
int kb_link_enqueue(kb_plane *plane, port *to, int kind, uint32_t tenant, kb_buffer *b, size_t length, uint32_t flow, int own);
int kb_link_enqueue_control(kb_plane *plane, port *to, const uint8_t *data, size_t length);

/* forward.c */
void kb_tun_read(kb_plane *plane, port *p);
void kb_forward_frame(kb_plane *plane, port *p, int kind, kb_buffer *b); /* takes b */
port *kb_port_for(kb_plane *plane, tenant *t, uint32_t number, uint32_t flow, const port *from);
int kb_forward_segment(kb_plane *plane, uint32_t tenant, uint32_t number, const uint8_t *data, size_t length);

#endif
