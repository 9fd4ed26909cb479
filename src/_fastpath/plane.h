/* The data plane: ports (TUN devices and links) joined by one routing table a tenant, carried by one thread.
 * Inside: dataplane.c (the thread), ports.c, plane_api.c (what is below), link.c (TLS), queue.c (fair queues), forward.c (routes), packet.c and icmp.c (bytes).
 *
 * One mutex guards a plane. Its thread holds it while it works on what epoll reported and lets go while it waits, so calls from
 * Python see a consistent plane and wait for a batch at most. The thread never touches Python.
 *
 * Memory is bounded: a link holds one partial frame, an output queue of KB_QUEUE_BYTES bytes and one batch of TLS records; when all queues
 * together exceed KB_QUEUES_BYTES, each may hold an eighth of that. Idle links hold none of it. Of the events for Python
 * a link may have KB_EVENTS_LINK_BYTES bytes waiting, all links together KB_EVENTS_BYTES; beyond, its segments are dropped. Control frames
 * have a reserve of their own, so that segments cannot crowd them out; a link that fills that too is closed. At most
 * KB_MAX_HANDSHAKES links may be without a finished handshake: the oldest one has to go when it had time enough, else the newest.
 */
#ifndef KUBEEDGE_PLANE_H
#define KUBEEDGE_PLANE_H

#include <stddef.h>
#include <stdint.h>

enum { KB_CONTROL = 1, KB_PACKET = 2, KB_SEGMENT = 3, KB_TENANT_PACKET = 4, KB_TENANT_SEGMENT = 5 };
enum { KB_EVENT_UP = 1, KB_EVENT_FRAME = 2, KB_EVENT_SEGMENT = 3, KB_EVENT_DOWN = 4 };

#define KB_HEADER 4                          /* kind u8, length u24 */
#define KB_VNET 10                           /* struct virtio_net_hdr */
#define KB_MAX_CONTROL_BYTES (16 * 1024)
#define KB_MAX_PACKET_BYTES (KB_VNET + 65536)
#define KB_MAX_SEGMENT_BYTES (8 + 65536)
#define KB_MAX_LINKS_PER_NODE 8                      /* links of one node */
#define KB_MAX_NEXT_HOPS 4                        /* relays through which one node is reached */
#define KB_FLOW_BYTES 4                      /* of a segment (its ports) that say which connection it belongs to */
#define KB_MAX_SKIP_BYTES (1 << 20)                /* of an unknown kind that may be skipped */
#define KB_QUEUE_BYTES (512 * 1024)                /* bytes that wait for a link */
#define KB_QUEUES_BYTES (64 * 1024 * 1024)         /* of all links together, before those of a tenant that has much get less */
#define KB_EVENTS_BYTES (4 * 1024 * 1024)          /* bytes that wait for Python, of all links */
#define KB_EVENTS_LINK_BYTES (512 * 1024)          /* of one link */
#define KB_EVENTS_CONTROL_BYTES (128 * 1024)       /* beyond KB_EVENTS_LINK_BYTES, for control frames alone */
#define KB_EARLY_CONTROL_FRAMES 16                  /* control frames from a link that has not been admitted */
#define KB_HANDSHAKE_SECONDS 10
#define KB_HANDSHAKE_GRACE 2                 /* seconds that nobody is pushed out */
#define KB_MAX_HANDSHAKES 256
#define KB_MAX_GSO_PACKETS 1024                 /* of one GSO packet; the smallest real ones make fewer of 64 KiB */
#ifndef KB_REKEY_RECORDS
#define KB_REKEY_RECORDS (1u << 23)          /* AES-GCM stays safe below 2^24.5 records a key (RFC 8446, 5.5) */
#endif
#define KB_MAX_TENANTS 65536
#define KB_MAX_NUMBER 65536
#define KB_MAX_PREFIXES 64

typedef struct kb_plane kb_plane;
typedef struct kb_tls kb_tls;

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

typedef struct {
    uint8_t address[16];
    uint8_t bits, v6;
} kb_prefix;

/* `error` receives up to 256 bytes of text when a function returns NULL or -1 */
kb_tls *kb_tls_new(const char *ca, const char *cert, const char *key, int server, char *error);
void kb_tls_free(kb_tls *tls);

kb_plane *kb_plane_new(uint32_t number, char *error);
void kb_plane_free(kb_plane *plane); /* ends the thread, closes every port */
int kb_plane_fileno(kb_plane *plane);

int kb_add_tun(kb_plane *plane, int fd, uint32_t tenant, int vnet_hdr, int uso, char *error);
/* control: the congestion control to use; "": bbr on a long path, cubic on a short one */
int kb_add_link(kb_plane *plane, int fd, kb_tls *tls, const char *server_name, const char *control, char *error);
int kb_congestion(kb_plane *plane, int port, char *control, char *complaint); /* 16 and 48 bytes; what the kernel says */
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

/* For other C code that lives in the data thread: l4_plane.c. */
void kb_lock(kb_plane *plane);   /* for callers outside of the thread, around kb_locked_ functions and their own state */
void kb_unlock(kb_plane *plane);    /* wakes the thread */
void kb_unlock_l4(kb_plane *plane); /* the same, when L4 has work for it */
uint64_t kb_locked_now(const kb_plane *plane); /* us of CLOCK_MONOTONIC */
int kb_locked_send_segment(kb_plane *plane, uint32_t tenant, uint32_t number, const uint8_t *data, size_t length); /* -1: full, or no way */

/* packet.c, icmp.c: pure functions of bytes. A frame is a virtio header and a packet. */
typedef struct {
    uint8_t source[16], destination[16];
    uint32_t flow; /* the same for all packets of a connection in one direction */
    uint32_t unit; /* bytes of the largest packet that it makes on a wire */
    uint8_t v6, urgent; /* urgent: small and alone (ICMP, a bare TCP acknowledgement) */
    uint8_t whole, syn; /* it must not be fragmented; it opens a TCP connection */
} kb_packet;

enum { KB_TTL_EXCEEDED, KB_NO_ROUTE, KB_NO_LINK, KB_TOO_BIG };
#define KB_ICMP_BYTES (KB_VNET + 1280)

int kb_check_frame(int kind, size_t length);                                 /* 0, or -1: such a frame closes its link */
uint32_t kb_mix(uint32_t a, uint32_t b);
uint32_t kb_segment_flow(const uint8_t *payload, size_t length);             /* payload of a SEGMENT frame */
int kb_check_packet(const uint8_t *frame, size_t length, kb_packet *packet); /* 0, or -1: not fit for any TUN */
/* The rest takes frames that kb_check_packet let pass. */
int kb_decrement_ttl(uint8_t *ip);                                           /* 0, or -1: it may not go on */
int kb_mark_congestion(uint8_t *frame, size_t length);                       /* 1: congestion experienced (RFC 3168), 0: not capable */
void kb_clamp_mss(uint8_t *frame, size_t length, uint32_t mtu);              /* of a SYN, to what fits into mtu */
void kb_complete_checksum(uint8_t *frame, size_t length);                    /* what VIRTIO_NET_HDR_F_NEEDS_CSUM asks for */
int kb_is_uso(const uint8_t *frame);
/* Cuts a GSO frame into pieces of `count` packets of the sender's size each, 1: as they go on a wire, with their checksums. 0, or -1. */
int kb_segment_gso(const uint8_t *frame, size_t length, unsigned count, void (*out)(void *, uint8_t *, size_t), void *context);
int kb_prefix_contains(const kb_prefix *prefix, const uint8_t *address, int v6);
int kb_icmp_may_answer(const uint8_t *frame, size_t length);                    /* may an ICMP error answer it? */
/* The ICMP error about a frame into `out` (KB_ICMP_BYTES): bytes. `source`: 4 or 16 bytes, as the frame's version. */
size_t kb_icmp_error(const uint8_t *frame, size_t length, int what, uint32_t mtu, const uint8_t *source, uint8_t *out);

#endif
