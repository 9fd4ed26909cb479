/* The data plane: ports (TUN devices and links) joined by one routing table a tenant, carried by one thread.
 * Inside, each calling only those before it: tenants.c (nodes, what each holds), ports.c (the table), events.c (for Python), closing.c (the end
 * of a port), links.c (the links among the ports), forward.c (where packets and segments go), thread.c, calls.c (what is below).
 * What else lives in the thread registers itself: handler.h.
 *
 * One mutex guards a plane. Its thread holds it while it works on what epoll reported and lets go while it waits, so calls from
 * Python see a consistent plane and wait for a batch at most. The thread never touches Python.
 *
 * Memory is bounded: a link holds one partial frame, an output queue of KB_QUEUE_BYTES bytes and one batch of TLS records; when all queues
 * together exceed KB_QUEUES_BYTES, each may hold an eighth of that. Idle links hold none of it. Of the events for Python
 * a link may have KB_EVENTS_LINK_BYTES bytes waiting, all links together KB_EVENTS_BYTES; beyond, its segments are dropped. Control frames
 * have a reserve of their own, so that segments cannot starve them; a link that fills that too is closed. At most
 * KB_MAX_HANDSHAKES links may be without a finished handshake: the oldest one has to go when it had time enough, else the newest.
 */
#ifndef KUBEEDGE_PLANE_H
#define KUBEEDGE_PLANE_H

#include "link/frame.h"
#include "link/tls.h"

#include <stddef.h>
#include <stdint.h>

enum { KB_EVENT_UP = 1, KB_EVENT_FRAME = 2, KB_EVENT_SEGMENT = 3, KB_EVENT_DOWN = 4 };

#define KB_MAX_LINKS_PER_NODE 8                      /* links of one node */
#define KB_MAX_NEXT_HOPS 4                        /* relays through which one node is reached */
#define KB_QUEUES_BYTES (64 * 1024 * 1024)         /* of all links together, before those of a tenant that has much get less */
#define KB_EVENTS_BYTES (4 * 1024 * 1024)          /* bytes that wait for Python, of all links */
#define KB_EVENTS_LINK_BYTES (512 * 1024)          /* of one link */
#define KB_EVENTS_CONTROL_BYTES (128 * 1024)       /* beyond KB_EVENTS_LINK_BYTES, for control frames alone */
#define KB_EARLY_CONTROL_FRAMES 16                  /* control frames from a link that has not been admitted */
#define KB_HANDSHAKE_SECONDS 10
#define KB_HANDSHAKE_GRACE 2                 /* seconds that nobody is pushed out */
#define KB_MAX_HANDSHAKES 256
#define KB_MAX_TENANTS 65536
#define KB_MAX_NUMBER 65536
#define KB_MAX_PREFIXES 64

typedef struct kb_plane kb_plane;

typedef struct {
    uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes, rx_segments, tx_segments;
    uint64_t no_route, no_link, bad_source, bad_header, ttl_exceeded, too_big, queue_full, delay_dropped, marked, tun_full, events_full;
    uint64_t icmp_sent;
    uint64_t queued;                /* bytes, now */
    uint64_t rtt, min_rtt, rate, lowat; /* us, us, bytes/s, bytes: of the TCP connection when it was last looked at; 0: none */
} kb_counters;

typedef struct {
    int type, port, kind;
    uint32_t tenant, source, length;
    uint8_t *data; /* the caller frees it; may be NULL */
} kb_event;

/* `error` receives up to 256 bytes of text when a function returns NULL or -1 */
kb_plane *kb_plane_new(uint32_t number, char *error);
void kb_plane_free(kb_plane *plane); /* ends the thread, closes every port */
int kb_plane_fileno(kb_plane *plane);

int kb_add_tun(kb_plane *plane, int fd, uint32_t tenant, int vnet_hdr, int uso, char *error);
/* congestion: the congestion control to use; "": bbr on a long path, cubic on a short one */
int kb_add_link(kb_plane *plane, int fd, kb_tls *tls, const char *server_name, const char *congestion, char *error);
int kb_congestion(kb_plane *plane, int port, char *congestion, char *problem); /* 16 and 48 bytes; what the kernel uses, why it is not the configured one */
/* Where ICMP errors come from: into links, or (tun) into our own TUN, whose kernel would refuse its own address */
int kb_set_source(kb_plane *plane, uint32_t tenant, const kb_prefix *address, int tun);
int kb_admit(kb_plane *plane, int port, uint32_t tenant, uint32_t number, const kb_prefix *prefixes, int count);
int kb_admit_peer(kb_plane *plane, int port);
int kb_add_next_hop(kb_plane *plane, uint32_t tenant, uint32_t number, int port);
void kb_remove_next_hops(kb_plane *plane, uint32_t tenant, uint32_t number);
int kb_add_route(kb_plane *plane, uint32_t tenant, const kb_prefix *prefix, uint32_t number, uint16_t mtu);
int kb_remove_route(kb_plane *plane, uint32_t tenant, const kb_prefix *prefix);
int kb_lookup(kb_plane *plane, uint32_t tenant, const kb_prefix *address); /* for tests: the node's number, or -1 */
int kb_send(kb_plane *plane, int port, int kind, const uint8_t *data, size_t length);
int kb_send_segment(kb_plane *plane, uint32_t tenant, uint32_t number, const uint8_t *data, size_t length);
int kb_drop(kb_plane *plane, int port, const char *reason);
int kb_next_event(kb_plane *plane, kb_event *event); /* 1: one was taken, 0: none */
int kb_get_counters(kb_plane *plane, int port, kb_counters *counters);

#endif
