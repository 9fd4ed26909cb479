/* What the files of L4 share: endpoint.c (the endpoint and its timers), memory.c (buffers, tables, the heap), budget.c (who may hold how much), send.c (segments out), loss.c
 * (acknowledgements, loss, the end), receive.c (segments in), conn.c (the owner's calls). The rules are in l4.h. */
#ifndef KUBEEDGE_L4_INTERNAL_H
#define KUBEEDGE_L4_INTERNAL_H

#include "packet/bytes.h"
#include "l4/l4.h"

#include <stdlib.h>
#include <string.h>

#define HASH 4096
#define ACCOUNTS 256
#define LISTENERS 64
#define FIRST_EPHEMERAL 32768u
#define FIRST_WINDOW (256u * 1024) /* bytes that the peer may send us at first */
#define LAST_WINDOW (4u * 1024 * 1024)
#define TIGHT_WINDOW (64u * 1024) /* when its node holds much */
#define FIRST_CWND (4u * KB_L4_PAYLOAD)
#define LEAST_CWND (2u * KB_L4_PAYLOAD)
#define MOST_CWND LAST_WINDOW
#define MOST_FLIGHT 1024 /* segments */
#define MAX_OUT_OF_ORDER 1024 /* pieces beyond a hole */
#define LEAST_ROOM 512 /* bytes of a buffer: small writes share one */
#define FIRST_TIMEOUT 1000000u /* us (RFC 6298) */
#define LEAST_TIMEOUT 200000u
#define MOST_TIMEOUT 10000000u
#define GIVE_UP 60000000u /* us without any acknowledgement: long enough for a link to be re-established */
#define DELAYED_ACK 20000u
#define LINGER 30000000u
#define TIME_WAIT 2000000u
#define ASK_AGAIN 20000000u /* between two keepalive probes */
#define MAX_LOOPBACK 1024 /* segments to ourselves that wait */

typedef struct chunk { /* bytes to send, a SYN or a FIN: always one segment */
    struct chunk *next;
    uint64_t sent_at;
    uint32_t sequence, length, room;
    uint8_t flags, received, lost, again;
    uint8_t data[]; /* KB_L4_HEAD bytes, then the payload */
} chunk;

typedef struct part { /* bytes received */
    struct part *next;
    uint32_t sequence, start, length, room;
    uint8_t data[];
} part;

typedef struct account { /* how much one tenant holds */
    struct account *chain;
    uint32_t tenant, peers, connections, opening;
    uint64_t bytes, paced_until;
} account;

typedef struct peer { /* how much one node of it holds */
    struct peer *chain;
    account *of;
    uint32_t number, connections, opening;
    uint64_t bytes;
    uint64_t paced_until; /* us: what it has opened so far takes until then at its rate */
} peer;

typedef struct listener {
    struct listener *chain;
    uint32_t tenant;
    uint16_t port;
    kb_l4_accept accept;
    void *context;
} listener;

typedef struct loopback {
    struct loopback *next;
    uint32_t tenant;
    size_t length;
    uint8_t data[];
} loopback;

enum { NONE, RTO, TLP, RACK, PROBE, HELD };

struct kb_conn {
    kb_conn *chain, *dirty_next, *ended_next;
    kb_l4 *l4;
    peer *who;
    kb_conn_ready ready;
    void *user;
    const char *error;
    uint32_t tenant, number;
    uint16_t local, remote;
    uint8_t state, listed, dead, owned, fresh, changed, opening, discard;
    uint8_t ack_now, fin_queued, fin_acked, peer_ended, has_fin, tlp_out, reordered, echo, want_room, recovering, slowed, in_ended;
    uint8_t timer_kind, unacked;
    int32_t heap_index; /* -1: in no heap */
    uint64_t deadline; /* as the heap knows it */
    uint64_t timer, ack_at, linger_at, keepalive, heard_at, asked_at, progress_at;
    /* sending */
    chunk *first, *last, *unsent; /* first..: sent and not acknowledged; from `unsent` on: not sent */
    uint32_t initial, next, una, peer_edge, flight_bytes, flight_count, lost_count, sacked, agains;
    uint32_t cwnd, threshold, recover, slow_until;
    uint64_t srtt, rttvar, min_rtt, timeout, rack_sent, rack_rtt, rack_at;
    uint32_t rack_end, highest; /* sequence of the newest delivered; the highest that was delivered out of order */
    size_t unsent_bytes, sending; /* bytes of the writer's; of memory */
    /* receiving */
    part *parts, *parts_last, *out_of_order;
    uint32_t expected, advertised, limit, consumed, fin_at, out_of_order_count;
    size_t waiting, receiving; /* bytes for the reader; of memory */
};

struct kb_l4 {
    kb_l4_below below;
    uint32_t self;
    size_t budget;
    uint64_t now;
    kb_conn *table[HASH];
    peer *peers[HASH / 4];
    account *accounts[ACCOUNTS];
    listener *listeners[LISTENERS];
    kb_conn *dirty, *dirty_last, *ended, *ended_last;
    kb_conn **heap;
    uint32_t heap_count, heap_room, opening, ended_count, port, loopback_count;
    loopback *loop, *loop_last;
    kb_l4_counters counters;
};

typedef struct {
    uint32_t sequence, acknowledgement, window;
    uint16_t source, destination;
    uint8_t flags, ranges;
    const uint8_t *range, *payload;
    uint32_t length;
} segment;

/* -- sequence numbers, which wrap --------------------------------------------------------------------------------------------------- */

static inline int before(uint32_t a, uint32_t b) { return (int32_t)(a - b) < 0; }
static inline uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t most(uint32_t a, uint32_t b) { return a > b ? a : b; }
static inline uint32_t weight(const chunk *k) { return k->length + (k->flags ? 1 : 0); }
static inline uint32_t end_of(const chunk *k) { return k->sequence + weight(k); }

/* memory.c */
chunk *kb_l4_chunk_new(kb_conn *c, size_t room);
void kb_l4_chunk_free(kb_conn *c, chunk *k);
part *kb_l4_part_new(kb_conn *c, size_t room);
void kb_l4_part_free(kb_conn *c, part *p);
/* A hash of two words (Fibonacci hashing) */
static inline uint32_t kb_l4_mix(uint32_t a, uint32_t b)
{
    uint64_t h = ((uint64_t)a << 32 | b) * 0x9E3779B97F4A7C15u;
    return (uint32_t)((h ^ h >> 32) * 0x9E3779B97F4A7C15u >> 32);
}
kb_conn *kb_l4_find(const kb_l4 *l4, uint32_t tenant, uint32_t number, uint16_t local, uint16_t remote);
void kb_l4_heap_remove(kb_l4 *l4, kb_conn *c);
void kb_l4_touch(kb_conn *c);
void kb_l4_tell(kb_conn *c);
void kb_l4_schedule(kb_conn *c);
/* `opening`: a peer has begun it. NULL: it may not have one more, or there is no memory */
kb_conn *kb_l4_conn_new(kb_l4 *l4, uint32_t tenant, uint32_t number, uint16_t local, uint16_t remote, int opening);
void kb_l4_drop_sending(kb_conn *c);
void kb_l4_drop_parts(kb_conn *c, part **list);
void kb_l4_not_opening(kb_conn *c);
void kb_l4_destroy(kb_conn *c);

/* budget.c */
peer *kb_l4_peer_of(kb_l4 *l4, uint32_t tenant, uint32_t number); /* NULL: no memory. It is there until kb_l4_peer_forget finds it without connections */
void kb_l4_peer_forget(kb_l4 *l4, peer *p);
void kb_l4_peers_free(kb_l4 *l4); /* when there are no connections any more */
void kb_l4_count(kb_conn *c, int by);
void kb_l4_count_opening(kb_conn *c, int by);
void kb_l4_charge(kb_conn *c, size_t bytes);
void kb_l4_discharge(kb_conn *c, size_t bytes);
int kb_l4_may_connect(kb_l4 *l4, const peer *who);
int kb_l4_may_open(kb_l4 *l4, const peer *who);
uint32_t kb_l4_window_limit(const kb_conn *c);
int kb_l4_may_keep(const kb_conn *c, size_t length);
int kb_l4_may_keep_beyond(const kb_conn *c, size_t length);
size_t kb_l4_room(const kb_conn *c);
int kb_l4_may_write(const kb_conn *c);

/* send.c */
uint32_t kb_l4_window(const kb_conn *c);
int kb_l4_send_bytes(kb_l4 *l4, uint32_t tenant, uint32_t number, const uint8_t *data, size_t length);
void kb_l4_send_bare(kb_conn *c, uint32_t sequence, uint8_t flags);
void kb_l4_append(kb_conn *c, chunk *k);
void kb_l4_shrink(kb_conn *c, unsigned percent);
void kb_l4_slow_down(kb_conn *c);
void kb_l4_set_timer(kb_conn *c, uint8_t kind, uint64_t at);
int kb_l4_in_flight(const kb_conn *c);
void kb_l4_arm(kb_conn *c);
int kb_l4_again(kb_conn *c, chunk *k);
void kb_l4_output(kb_conn *c);

/* loss.c */
void kb_l4_end(kb_conn *c, kb_conn_state state, const char *error);
void kb_l4_check_end(kb_conn *c);
void kb_l4_lose(kb_conn *c, chunk *k);
void kb_l4_forget_received(kb_conn *c);
void kb_l4_detect_loss(kb_conn *c);
void kb_l4_on_ack(kb_conn *c, const segment *s);

/* receive.c */
int kb_l4_parse(const uint8_t *data, size_t length, segment *s);
listener *kb_l4_listening(const kb_l4 *l4, uint32_t tenant, uint16_t port);
void kb_l4_queue_control(kb_conn *c, uint8_t flags);
void kb_l4_begin(kb_l4 *l4, uint32_t tenant, uint32_t number, const segment *s);
void kb_l4_conn_receive(kb_conn *c, const segment *s);

#endif
