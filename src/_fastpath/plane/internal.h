/* What the files of the data plane share. The rules of memory and locks are in plane.h. */
#ifndef KUBEEDGE_PLANE_INTERNAL_H
#define KUBEEDGE_PLANE_INTERNAL_H

#include "link/link.h"
#include "packet/bytes.h"
#include "plane/handler.h"
#include "plane/plane.h"
#include "plane/routes.h"

#include <pthread.h>

enum { TUN, LINK };
enum { TO_FLUSH = 1, TO_READ = 2 };          /* the thread's lists of ports with work left */
enum { HANDSHAKING, WARM };                  /* lists with a deadline; a port is in one of them at most */
#define READ_BYTES (256 * 1024)              /* from one port, then the others have their turn */
#define TUN_BYTES (512 * 1024)               /* more than is sent in a turn: the backlog is to be in our queues, not in the device */
#define FLUSH_BYTES (128 * 1024)
#define WARM_SECONDS 2                       /* then an idle link gives its buffers back */
#define ICMP_BURST 32
#define ICMP_PER_SECOND 100

typedef struct port {
    int id, fd, kind;
    kb_plane *plane;
    uint32_t tenant, number, events;
    uint8_t up, admitted, peer, down, vnet_hdr, uso, early, listed, list;
    struct port *flush_next, *read_next, *deferred_next, *previous, *next;
    uint64_t since;             /* us: of the list's deadline */
    size_t event_bytes;         /* that wait for Python */
    kb_link link;               /* of a port of kind LINK */
    uint32_t icmp_tokens;
    uint64_t icmp_at;
    kb_prefix *prefixes;
    int prefix_count;
    kb_counters counters;       /* without those that its link counts */
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

struct kb_plane {
    pthread_mutex_t entry, lock; /* see kb_plane_enter() */
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
    kb_workspace workspace;
    kb_buffer *scratch;         /* the next packet from a TUN */
    kb_handler *handlers;
    kb_segment_receiver receiver;
    void *receiver_context;
    kb_watch *deferred_watches;
};

/* The files below call only those before them; a test has the same order. */

/* tenants.c */
tenant *kb_tenant_of(kb_plane *plane, uint32_t number, int create);
void kb_tenants_free(kb_plane *plane);
node *kb_node_of(tenant *t, uint32_t number, int create);
uint8_t kb_ids_without(int *ids, uint8_t count, int id);
void kb_port_forget_number(kb_plane *plane, port *p);
size_t kb_share_of(size_t all, size_t used, size_t reserve); /* bytes that one tenant may hold, of `all` of which all tenants hold `used` */
void kb_count_queued(kb_plane *plane, port *p, size_t before, size_t after);

/* ports.c */
port *kb_port_new(kb_plane *plane, int fd, int kind, char *error);
void kb_port_discard(kb_plane *plane, port *p);
port *kb_port_of(kb_plane *plane, int id);
int kb_port_poll(kb_plane *plane, port *p, uint32_t events);
void kb_port_enlist(kb_plane *plane, port *p, int where);
void kb_port_set_deadline_list(kb_plane *plane, port *p, int list); /* -1: in none */

/* events.c */
int kb_emit(kb_plane *plane, int type, port *p, int kind, uint32_t tenant, uint32_t source, const void *data, size_t length);
int kb_event_take(kb_plane *plane, kb_event *event); /* 1: one was taken, 0: none, and `notify` is quiet */
void kb_events_clear(kb_plane *plane);

/* closing.c */
void kb_port_close(kb_plane *plane, port *p);
void kb_port_down(kb_plane *plane, port *p, const char *reason); /* p stays readable, with p->down set, until the end of the turn */
void kb_free_deferred(kb_plane *plane);

/* links.c */
int kb_port_open_link(kb_plane *plane, port *p, int fd, kb_tls *tls, const char *server_name, const char *congestion, char *error);
void kb_port_handshake(kb_plane *plane, port *p);
kb_buffer *kb_port_read(kb_plane *plane, port *p, size_t *budget); /* the next frame, the caller's; NULL: none now, and p waits for more, or is down */
void kb_port_flush(kb_plane *plane, port *p);
/* Puts a frame into the link's queue; takes `b`, as kb_link_enqueue. -1: it was dropped. */
int kb_port_enqueue(kb_plane *plane, port *to, int kind, uint32_t tenant, kb_buffer *b, size_t length, uint32_t flow, int own);
int kb_port_enqueue_control(kb_plane *plane, port *to, const uint8_t *data, size_t length);

/* forward.c */
void kb_forward_tun(kb_plane *plane, port *p);  /* what a TUN has, and what a link has brought, up to its share of a turn */
void kb_forward_link(kb_plane *plane, port *p);
int kb_forward_segment(kb_plane *plane, uint32_t tenant, uint32_t number, const uint8_t *data, size_t length);

/* thread.c */
void kb_plane_enter(kb_plane *plane);
void kb_plane_leave(kb_plane *plane);
void kb_limit_handshakes(kb_plane *plane, port *newest);

#endif
