/* Connections of L4; l4.h has the rules. From top to bottom: sequence numbers, memory, segments out, acknowledgements and loss, segments in, timers,
 * the endpoint, the owner's calls. */
#include "l4.h"

#include <stdlib.h>
#include <string.h>

#define HASH 4096
#define LISTENERS 64
#define FIRST_EPHEMERAL 32768u
#define FIRST_WINDOW (256u * 1024)       /* bytes that the peer may send us at first */
#define LAST_WINDOW (4u * 1024 * 1024)
#define TIGHT_WINDOW (64u * 1024)        /* when the budget is half used */
#define FIRST_CWND (4u * KB_L4_PAYLOAD)
#define LEAST_CWND (2u * KB_L4_PAYLOAD)
#define MOST_CWND LAST_WINDOW
#define MOST_FLIGHT 1024                 /* segments */
#define MOST_BEYOND 1024                 /* pieces beyond a hole */
#define LEAST_ROOM 512                   /* bytes of a buffer: small writes share one */
#define FIRST_TIMEOUT 1000000u           /* us (RFC 6298) */
#define LEAST_TIMEOUT 200000u
#define MOST_TIMEOUT 10000000u
#define GIVE_UP 60000000u                /* us without any acknowledgement: long enough for a link to be re-established */
#define DELAYED_ACK 20000u
#define LINGER 30000000u
#define TIME_WAIT 2000000u
#define ASK_AGAIN 20000000u              /* between two keepalive probes */
#define LOOPED 1024                      /* segments to ourselves that wait */

typedef struct chunk {                   /* bytes to send, a SYN or a FIN: always one segment */
    struct chunk *next;
    uint64_t sent_at;
    uint32_t sequence, length, room;
    uint8_t flags, received, lost, again;
    uint8_t data[];                      /* KB_L4_HEAD bytes, then the payload */
} chunk;

typedef struct part {                    /* bytes received */
    struct part *next;
    uint32_t sequence, start, length, room;
    uint8_t data[];
} part;

typedef struct peer {                    /* how much one node holds */
    struct peer *chain;
    uint32_t tenant, number, connections, opening;
} peer;

typedef struct listener {
    struct listener *chain;
    uint32_t tenant;
    uint16_t port;
    kb_l4_accept accept;
    void *context;
} listener;

typedef struct looped {
    struct looped *next;
    uint32_t tenant;
    size_t length;
    uint8_t data[];
} looped;

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
    int32_t heap_index;                  /* -1: in no heap */
    uint64_t deadline;                   /* as the heap knows it */
    uint64_t timer, ack_at, linger_at, keepalive, heard_at, asked_at, progress_at;
    /* sending */
    chunk *first, *last, *unsent;        /* first..: sent and not acknowledged; from `unsent` on: not sent */
    uint32_t initial, next, una, peer_edge, flight_bytes, flight_count, lost_count, sacked, agains;
    uint32_t cwnd, threshold, recover, slow_until;
    uint64_t srtt, rttvar, min_rtt, timeout, rack_sent, rack_rtt, rack_at;
    uint32_t rack_end, highest;          /* sequence of the newest delivered; the highest that was delivered out of order */
    size_t unsent_bytes;
    /* receiving */
    part *parts, *parts_last, *beyond;
    uint32_t expected, advertised, limit, consumed, fin_at, beyond_count;
    size_t waiting;
};

struct kb_l4 {
    kb_l4_below below;
    uint32_t self;
    size_t budget;
    uint64_t now;
    kb_conn *table[HASH];
    peer *peers[HASH / 4];
    listener *listeners[LISTENERS];
    kb_conn *dirty, *dirty_last, *ended, *ended_last;
    kb_conn **heap;
    uint32_t heap_count, heap_room, opening, ended_count, port, looped_count;
    looped *loop, *loop_last;
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

static int before(uint32_t a, uint32_t b) { return (int32_t)(a - b) < 0; }
static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }
static uint32_t most(uint32_t a, uint32_t b) { return a > b ? a : b; }
static uint32_t weight(const chunk *k) { return k->length + (k->flags ? 1 : 0); }
static uint32_t end_of(const chunk *k) { return k->sequence + weight(k); }

static uint32_t get32(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

static void put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* -- memory, tables, the heap ------------------------------------------------------------------------------------------------------- */

static chunk *chunk_new(kb_l4 *l4, size_t room)
{
    chunk *k = malloc(sizeof *k + KB_L4_HEAD + room);
    if (!k)
        return NULL;
    memset(k, 0, sizeof *k);
    k->room = (uint32_t)room;
    l4->counters.bytes += sizeof *k + KB_L4_HEAD + room;
    return k;
}

static void chunk_free(kb_l4 *l4, chunk *k)
{
    l4->counters.bytes -= sizeof *k + KB_L4_HEAD + k->room;
    free(k);
}

static part *part_new(kb_l4 *l4, size_t room)
{
    part *p = malloc(sizeof *p + room);
    if (!p)
        return NULL;
    memset(p, 0, sizeof *p);
    p->room = (uint32_t)room;
    l4->counters.bytes += sizeof *p + room;
    return p;
}

static void part_free(kb_l4 *l4, part *p)
{
    l4->counters.bytes -= sizeof *p + p->room;
    free(p);
}

static uint32_t mix(uint32_t a, uint32_t b)
{
    uint64_t h = ((uint64_t)a << 32 | b) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32);
}

static uint32_t bucket_of(uint32_t tenant, uint32_t number, uint16_t local, uint16_t remote)
{
    return mix(tenant ^ number << 12, (uint32_t)local << 16 | remote) % HASH;
}

static kb_conn *find(const kb_l4 *l4, uint32_t tenant, uint32_t number, uint16_t local, uint16_t remote)
{
    kb_conn *c = l4->table[bucket_of(tenant, number, local, remote)];
    while (c && (c->tenant != tenant || c->number != number || c->local != local || c->remote != remote))
        c = c->chain;
    return c;
}

static peer *peer_of(kb_l4 *l4, uint32_t tenant, uint32_t number)
{
    peer **at = &l4->peers[mix(tenant, number) % (HASH / 4)];
    for (peer *p = *at; p; p = p->chain)
        if (p->tenant == tenant && p->number == number)
            return p;
    peer *p = calloc(1, sizeof *p);
    if (p) {
        p->tenant = tenant;
        p->number = number;
        p->chain = *at;
        *at = p;
    }
    return p;
}

static void peer_forget(kb_l4 *l4, peer *p)
{
    if (p->connections)
        return;
    peer **at = &l4->peers[mix(p->tenant, p->number) % (HASH / 4)];
    while (*at != p)
        at = &(*at)->chain;
    *at = p->chain;
    free(p);
}

static void heap_place(kb_l4 *l4, uint32_t i, kb_conn *c)
{
    l4->heap[i] = c;
    c->heap_index = (int32_t)i;
}

static void heap_up(kb_l4 *l4, uint32_t i)
{
    kb_conn *c = l4->heap[i];
    while (i && l4->heap[(i - 1) / 2]->deadline > c->deadline) {
        heap_place(l4, i, l4->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_place(l4, i, c);
}

static void heap_down(kb_l4 *l4, uint32_t i)
{
    kb_conn *c = l4->heap[i];
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= l4->heap_count)
            break;
        if (child + 1 < l4->heap_count && l4->heap[child + 1]->deadline < l4->heap[child]->deadline)
            child++;
        if (l4->heap[child]->deadline >= c->deadline)
            break;
        heap_place(l4, i, l4->heap[child]);
        i = child;
    }
    heap_place(l4, i, c);
}

static void heap_remove(kb_l4 *l4, kb_conn *c)
{
    if (c->heap_index < 0)
        return;
    uint32_t i = (uint32_t)c->heap_index;
    kb_conn *moved = l4->heap[--l4->heap_count];
    c->heap_index = -1;
    if (moved == c)
        return;
    heap_place(l4, i, moved);
    heap_up(l4, i);
    heap_down(l4, (uint32_t)moved->heap_index);
}

static void touch(kb_conn *c)
{
    kb_l4 *l4 = c->l4;
    if (c->listed)
        return;
    c->listed = 1;
    c->dirty_next = NULL;
    if (l4->dirty)
        l4->dirty_last->dirty_next = c;
    else
        l4->dirty = c;
    l4->dirty_last = c;
}

static void tell(kb_conn *c)
{
    c->changed = 1;
    touch(c);
}

/* The heap may know an earlier time than the connection needs: it is asked then, and goes back. */
static void schedule(kb_conn *c)
{
    kb_l4 *l4 = c->l4;
    uint64_t at = c->timer;
    if (c->ack_at < at)
        at = c->ack_at;
    if (c->linger_at < at)
        at = c->linger_at;
    if (c->keepalive && c->state == KB_ESTABLISHED && !c->first) {
        uint64_t ask = c->asked_at > c->heard_at ? c->asked_at + ASK_AGAIN : c->heard_at + c->keepalive;
        if (ask < at)
            at = ask;
    }
    if (at == KB_L4_NEVER || (c->heap_index >= 0 && c->deadline <= at))
        return;
    if (c->heap_index < 0) {
        c->deadline = at; /* heap_room is kept ahead of the number of connections */
        heap_place(l4, l4->heap_count, c);
        l4->heap_count++;
    }
    c->deadline = at;
    heap_up(l4, (uint32_t)c->heap_index);
}

static kb_conn *conn_new(kb_l4 *l4, uint32_t tenant, uint32_t number, uint16_t local, uint16_t remote)
{
    if (l4->counters.connections + l4->ended_count + 1 > l4->heap_room) {
        uint32_t room = l4->heap_room ? 2 * l4->heap_room : 64;
        kb_conn **heap = realloc(l4->heap, room * sizeof *heap);
        if (!heap)
            return NULL;
        l4->heap = heap;
        l4->heap_room = room;
    }
    peer *who = peer_of(l4, tenant, number);
    if (!who)
        return NULL;
    kb_conn *c = who->connections < KB_L4_PER_PEER ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        peer_forget(l4, who);
        return NULL;
    }
    who->connections++;
    c->l4 = l4;
    c->who = who;
    c->tenant = tenant;
    c->number = number;
    c->local = local;
    c->remote = remote;
    c->heap_index = -1;
    c->timer = c->ack_at = c->linger_at = KB_L4_NEVER;
    c->error = "";
    c->cwnd = FIRST_CWND;
    c->threshold = MOST_CWND;
    c->timeout = FIRST_TIMEOUT;
    c->limit = FIRST_WINDOW;
    c->progress_at = c->heard_at = l4->now;
    uint32_t at = bucket_of(tenant, number, local, remote);
    c->chain = l4->table[at];
    l4->table[at] = c;
    l4->counters.connections++;
    l4->counters.opened++;
    return c;
}

static void drop_sending(kb_conn *c)
{
    for (chunk *k = c->first, *next; k; k = next) {
        next = k->next;
        chunk_free(c->l4, k);
    }
    c->first = c->last = c->unsent = NULL;
    c->flight_bytes = c->flight_count = c->lost_count = c->sacked = c->agains = 0;
    c->unsent_bytes = 0;
}

static void drop_parts(kb_l4 *l4, part **list)
{
    for (part *p = *list, *next; p; p = next) {
        next = p->next;
        part_free(l4, p);
    }
    *list = NULL;
}

static void not_opening(kb_conn *c)
{
    if (!c->opening)
        return;
    c->opening = 0;
    c->l4->opening--;
    c->who->opening--;
}

static void unlink_conn(kb_conn *c)
{
    kb_conn **at = &c->l4->table[bucket_of(c->tenant, c->number, c->local, c->remote)];
    while (*at && *at != c)
        at = &(*at)->chain;
    if (*at)
        *at = c->chain;
}

/* Out of every table; the memory goes now, or when the list of work comes by. */
static void destroy(kb_conn *c)
{
    kb_l4 *l4 = c->l4;
    if (c->dead)
        return;
    unlink_conn(c);
    heap_remove(l4, c);
    drop_sending(c);
    drop_parts(l4, &c->parts);
    drop_parts(l4, &c->beyond);
    not_opening(c);
    c->who->connections--;
    peer_forget(l4, c->who);
    if (c->in_ended)
        l4->ended_count--;
    else
        l4->counters.connections--;
    c->dead = 1;
    if (!c->listed && !c->in_ended)
        free(c);
}

/* -- segments out ------------------------------------------------------------------------------------------------------------------- */

/* What we have promised is not taken back (RFC 9293, section 3.8.6.2.1). */
static uint32_t window(const kb_conn *c)
{
    const kb_l4 *l4 = c->l4;
    uint32_t limit = l4->counters.bytes > l4->budget ? 0 : l4->counters.bytes > l4->budget / 2 ? least(c->limit, TIGHT_WINDOW) : c->limit;
    uint32_t free_bytes = limit > c->waiting ? limit - (uint32_t)c->waiting : 0;
    uint32_t promised = before(c->expected, c->advertised) ? c->advertised - c->expected : 0;
    return most(free_bytes, promised);
}

/* The header, and with an acknowledgement what lies beyond a hole, so that it ends at `payload`. */
static uint8_t *head(kb_conn *c, uint8_t *payload, uint32_t sequence, uint8_t flags)
{
    uint32_t first[KB_L4_RANGES], end[KB_L4_RANGES], count = 0;
    uint32_t room = window(c);
    if (flags & KB_ACK) {
        for (part *p = c->beyond; p; p = p->next) {
            if (count && end[count - 1] == p->sequence) {
                end[count - 1] += p->length;
            } else if (count == KB_L4_RANGES) {
                break;
            } else {
                first[count] = p->sequence;
                end[count++] = p->sequence + p->length;
            }
        }
        c->advertised = c->expected + room;
        c->ack_now = c->unacked = 0;
        c->ack_at = KB_L4_NEVER;
        if (c->echo) {
            flags |= KB_ECE;
            c->echo = 0;
        }
    }
    uint8_t *p = payload - KB_L4_HEADER - 8 * count;
    put16(p, c->local);
    put16(p + 2, c->remote);
    put32(p + 4, sequence);
    put32(p + 8, flags & KB_ACK ? c->expected : 0);
    put32(p + 12, room);
    p[16] = flags;
    p[17] = (uint8_t)count;
    for (uint32_t i = 0; i < count; i++) {
        put32(p + KB_L4_HEADER + 8 * i, first[i]);
        put32(p + KB_L4_HEADER + 8 * i + 4, end[i]);
    }
    return p;
}

static int send_bytes(kb_l4 *l4, uint32_t tenant, uint32_t number, const uint8_t *data, size_t length)
{
    l4->counters.segments_out++;
    if (number != l4->self)
        return l4->below.send(l4->below.context, tenant, number, data, length);
    looped *s = l4->looped_count < LOOPED ? malloc(sizeof *s + length) : NULL;
    if (!s)
        return -1;
    s->next = NULL;
    s->tenant = tenant;
    s->length = length;
    memcpy(s->data, data, length);
    if (l4->loop)
        l4->loop_last->next = s;
    else
        l4->loop = s;
    l4->loop_last = s;
    l4->looped_count++;
    return 0;
}

static void send_bare(kb_conn *c, uint32_t sequence, uint8_t flags)
{
    uint8_t room[KB_L4_HEAD];
    uint8_t *p = head(c, room + sizeof room, sequence, flags);
    send_bytes(c->l4, c->tenant, c->number, p, (size_t)(room + sizeof room - p));
}

static int transmit(kb_conn *c, chunk *k)
{
    uint8_t flags = k->flags | (c->state == KB_SYN_SENT ? 0 : KB_ACK);
    uint8_t *payload = k->data + KB_L4_HEAD;
    uint8_t *p = head(c, payload, k->sequence, flags);
    return send_bytes(c->l4, c->tenant, c->number, p, (size_t)(payload - p) + k->length);
}

static void append(kb_conn *c, chunk *k)
{
    if (c->last)
        c->last->next = k;
    else
        c->first = k;
    c->last = k;
    if (!c->unsent)
        c->unsent = k;
}

static void shrink(kb_conn *c, unsigned percent)
{
    c->threshold = most((uint32_t)((uint64_t)c->cwnd * percent / 100), LEAST_CWND);
    c->cwnd = c->threshold;
}

/* The queue below us is full, or a relay's grows: once a round trip (RFC 8511). */
static void slow_down(kb_conn *c)
{
    if (c->slowed && before(c->una, c->slow_until))
        return;
    c->slowed = 1;
    c->slow_until = c->next;
    shrink(c, 85);
}

static void set_timer(kb_conn *c, uint8_t kind, uint64_t at)
{
    c->timer_kind = kind;
    c->timer = at;
}

static int in_flight(const kb_conn *c) { return c->first && c->first != c->unsent; }

static void arm(kb_conn *c)
{
    uint64_t now = c->l4->now;
    if (in_flight(c)) {
        uint64_t rto = now + c->timeout;
        if (c->rack_at != KB_L4_NEVER) {
            set_timer(c, RACK, c->rack_at);
        } else if (c->srtt && !c->tlp_out && !c->lost_count && c->state == KB_ESTABLISHED) {
            uint64_t probe = now + 2 * c->srtt + 2000 + (c->flight_count == 1 ? DELAYED_ACK + 5000 : 0);
            if (probe < rto)
                set_timer(c, TLP, probe);
            else
                set_timer(c, RTO, rto);
        } else {
            set_timer(c, RTO, rto);
        }
    } else if (c->unsent) {
        set_timer(c, PROBE, now + c->timeout); /* the peer's window is closed */
    } else {
        set_timer(c, NONE, KB_L4_NEVER);
    }
}

static void held(kb_conn *c)
{
    slow_down(c);
    uint64_t wait = c->srtt / 4;
    set_timer(c, HELD, c->l4->now + (wait < 2000 ? 2000 : wait > 50000 ? 50000 : wait));
}

static int again(kb_conn *c, chunk *k)
{
    if (transmit(c, k) < 0)
        return -1;
    c->l4->counters.retransmitted++;
    if (k->lost) {
        k->lost = 0;
        c->lost_count--;
        c->flight_bytes += weight(k);
    }
    if (!k->again) {
        k->again = 1;
        c->agains++;
    }
    k->sent_at = c->l4->now;
    return 0;
}

/* Lost segments first, then new ones, as far as both windows allow. */
static void output(kb_conn *c)
{
    uint64_t now = c->l4->now;
    int sent = 0;
    if (c->state == KB_CLOSED || c->state == KB_RESET)
        return;
    if (c->timer_kind == HELD && now < c->timer) {
        if (c->ack_now && c->state == KB_ESTABLISHED)
            send_bare(c, c->next, KB_ACK);
        return;
    }
    for (chunk *k = c->lost_count ? c->first : NULL; k && k != c->unsent && c->lost_count; k = k->next) {
        if (!k->lost)
            continue;
        if (c->flight_bytes && c->flight_bytes + weight(k) > c->cwnd)
            break;
        if (again(c, k) < 0) {
            held(c);
            return;
        }
        sent = 1;
    }
    size_t unsent_before = c->unsent_bytes;
    while (c->unsent && !c->lost_count && c->flight_count < MOST_FLIGHT) {
        chunk *k = c->unsent;
        if (k->flags & KB_SYN ? c->state == KB_ESTABLISHED : c->state != KB_ESTABLISHED)
            break;
        if (k->length && ((c->flight_bytes && c->flight_bytes + k->length > c->cwnd) || before(c->peer_edge, c->next + k->length)))
            break;
        k->sequence = c->next;
        k->sent_at = now;
        if (transmit(c, k) < 0) {
            held(c);
            return;
        }
        if (!in_flight(c))
            c->progress_at = now; /* silence counts from here */
        c->unsent = k->next;
        c->next += weight(k);
        c->flight_bytes += weight(k);
        c->flight_count++;
        c->unsent_bytes -= k->length;
        sent = 1;
    }
    if (c->want_room && c->unsent_bytes < unsent_before && c->unsent_bytes < KB_L4_SEND_BUFFER / 2) {
        c->want_room = 0;
        tell(c);
    }
    if (c->ack_now && c->state == KB_ESTABLISHED)
        send_bare(c, c->next, KB_ACK);
    if (sent || c->timer_kind == HELD || c->timer_kind == NONE)
        arm(c);
}

/* -- the end ------------------------------------------------------------------------------------------------------------------------ */

static void end(kb_conn *c, kb_conn_state state, const char *error)
{
    if (c->state == KB_CLOSED || c->state == KB_RESET)
        return;
    if (c->ack_now && state == KB_CLOSED)
        send_bare(c, c->next, KB_ACK);
    c->state = (uint8_t)state;
    c->error = error;
    c->timer = c->ack_at = c->linger_at = KB_L4_NEVER;
    c->timer_kind = NONE;
    c->ack_now = 0;
    not_opening(c);
    drop_sending(c);
    drop_parts(c->l4, &c->beyond);
    c->beyond_count = 0;
    tell(c);
}

static void check_end(kb_conn *c)
{
    if (c->fin_acked && c->peer_ended)
        end(c, KB_CLOSED, "");
}

/* -- acknowledgements and loss ------------------------------------------------------------------------------------------------------ */

static void settle_timeout(kb_conn *c)
{
    if (!c->srtt)
        return;
    uint64_t t = c->srtt + 4 * c->rttvar;
    c->timeout = t < LEAST_TIMEOUT ? LEAST_TIMEOUT : t > MOST_TIMEOUT ? MOST_TIMEOUT : t;
}

static void measure(kb_conn *c, uint64_t sample)
{
    if (!c->srtt) {
        c->srtt = sample;
        c->rttvar = sample / 2;
    } else {
        uint64_t off = c->srtt > sample ? c->srtt - sample : sample - c->srtt;
        c->rttvar = (3 * c->rttvar + off) / 4;
        c->srtt = (7 * c->srtt + sample) / 8;
    }
    if (!c->min_rtt || sample < c->min_rtt)
        c->min_rtt = sample;
    settle_timeout(c);
}

/* A segment has arrived: what that says about the path (RFC 8985, section 6.2, steps 1 to 3). */
static void delivered(kb_conn *c, chunk *k)
{
    uint64_t now = c->l4->now, rtt = now > k->sent_at ? now - k->sent_at : 1;
    if (k->lost) {
        k->lost = 0;
        c->lost_count--;
    } else {
        c->flight_bytes -= weight(k);
    }
    if (!k->again) {
        measure(c, rtt);
        if (before(end_of(k), c->highest))
            c->reordered = 1;
    } else if (c->min_rtt && rtt < c->min_rtt) {
        return; /* the first copy arrived, not the one that was sent at sent_at */
    }
    if (!before(end_of(k), c->highest))
        c->highest = end_of(k);
    if (k->sent_at > c->rack_sent || (k->sent_at == c->rack_sent && before(c->rack_end, end_of(k)))) {
        c->rack_sent = k->sent_at;
        c->rack_end = end_of(k);
        c->rack_rtt = rtt;
    }
}

static void lose(kb_conn *c, chunk *k)
{
    k->lost = 1;
    c->lost_count++;
    c->flight_bytes -= weight(k);
}

/* What was sent before something that has arrived, and is late by more than the reordering that was seen, is lost. */
static void detect_loss(kb_conn *c)
{
    uint64_t now = c->l4->now;
    c->rack_at = KB_L4_NEVER;
    if (!c->rack_rtt || (!c->sacked && !c->agains))
        return; /* everything arrived in the order in which it was sent */
    uint64_t slack = c->sacked >= 3 && !c->reordered ? 0 : c->min_rtt / 4;
    int found = 0;
    for (chunk *k = c->first; k && k != c->unsent; k = k->next) {
        if (k->received || k->lost)
            continue;
        if (k->sent_at > c->rack_sent || (k->sent_at == c->rack_sent && !before(end_of(k), c->rack_end)))
            continue;
        uint64_t at = k->sent_at + c->rack_rtt + slack;
        if (at <= now) {
            lose(c, k);
            found = 1;
        } else if (at < c->rack_at) {
            c->rack_at = at;
        }
    }
    if (found && !c->recovering) {
        c->recovering = 1;
        c->recover = c->next;
        shrink(c, 70);
    }
}

static void on_acked(kb_conn *c, uint32_t acked, int limited)
{
    if (!limited || (c->recovering && c->cwnd >= c->threshold))
        return; /* the window was not what held us back (RFC 7661), or a loss is being made up for */
    if (c->cwnd < c->threshold)
        c->cwnd += acked;
    else
        c->cwnd += most(1, (uint32_t)((uint64_t)KB_L4_PAYLOAD * acked / c->cwnd));
    c->cwnd = least(c->cwnd, MOST_CWND);
}

static void on_ack(kb_conn *c, const segment *s)
{
    uint64_t now = c->l4->now;
    if (before(c->next, s->acknowledgement) || before(s->acknowledgement, c->una))
        return;
    int limited = (uint64_t)c->flight_bytes * 2 >= c->cwnd, opened = before(c->peer_edge, s->acknowledgement + s->window);
    uint32_t acked = 0;
    int newly = 0;
    if (opened)
        c->peer_edge = s->acknowledgement + s->window;
    while (in_flight(c)) {
        chunk *k = c->first;
        if (before(s->acknowledgement, end_of(k)))
            break;
        acked += weight(k);
        if (k->received)
            c->sacked--;
        else
            delivered(c, k);
        if (k->again)
            c->agains--;
        if (k->flags & KB_FIN)
            c->fin_acked = 1;
        c->first = k->next;
        if (!c->first)
            c->last = NULL;
        c->flight_count--;
        chunk_free(c->l4, k);
    }
    c->una = s->acknowledgement;
    for (int i = 0; i < s->ranges; i++) {
        uint32_t first = get32(s->range + 8 * i), last = get32(s->range + 8 * i + 4);
        if (last - c->una > c->next - c->una || !before(first, last))
            continue;
        for (chunk *k = c->first; k && k != c->unsent && before(k->sequence, last); k = k->next)
            if (!k->received && !before(k->sequence, first) && !before(last, end_of(k))) {
                delivered(c, k);
                k->received = 1;
                c->sacked++;
                newly = 1;
            }
    }
    if (s->flags & KB_ECE) {
        c->l4->counters.marked++;
        slow_down(c);
    }
    if (acked || newly)
        c->progress_at = now;
    if (acked) {
        settle_timeout(c); /* the path works again: its back-off is over */
        c->tlp_out = 0;
        on_acked(c, acked, limited);
        if (c->recovering && !before(s->acknowledgement, c->recover))
            c->recovering = 0;
    }
    detect_loss(c);
    if (acked || newly || opened || c->rack_at != KB_L4_NEVER) {
        if (c->timer_kind != HELD)
            arm(c);
    }
}

/* -- segments in -------------------------------------------------------------------------------------------------------------------- */

static int deliver(kb_conn *c, const uint8_t *data, uint32_t length)
{
    kb_l4 *l4 = c->l4;
    if (!c->discard) {
        part *tail = c->parts_last;
        uint32_t used = 0;
        if (c->parts && tail && tail->room - tail->start - tail->length) {
            used = least(length, tail->room - tail->start - tail->length);
            memcpy(tail->data + tail->start + tail->length, data, used);
            tail->length += used;
            c->waiting += used;
            c->expected += used;
        }
        if (used < length) {
            part *p = part_new(l4, most(length - used, LEAST_ROOM));
            if (!p) {
                tell(c);
                return -1; /* what is missing is sent again */
            }
            memcpy(p->data, data + used, length - used);
            p->length = length - used;
            if (c->parts)
                tail->next = p;
            else
                c->parts = p;
            c->parts_last = p;
            c->waiting += length - used;
            c->expected += length - used;
        }
        tell(c);
    } else {
        c->expected += length;
    }
    return 0;
}

static void close_holes(kb_conn *c)
{
    while (c->beyond && !before(c->expected, c->beyond->sequence)) {
        part *p = c->beyond;
        uint32_t known = c->expected - p->sequence;
        c->beyond = p->next;
        c->beyond_count--;
        c->ack_now = 1;
        if (known < p->length && deliver(c, p->data + known, p->length - known) < 0) {
            part_free(c->l4, p);
            return;
        }
        part_free(c->l4, p);
    }
}

static void keep_beyond(kb_conn *c, uint32_t start, const uint8_t *data, uint32_t length)
{
    part **at = &c->beyond;
    while (*at && before((*at)->sequence, start))
        at = &(*at)->next;
    if (*at && (*at)->sequence == start && (*at)->length >= length)
        return;
    part *p = c->beyond_count < MOST_BEYOND ? part_new(c->l4, length) : NULL;
    if (!p)
        return;
    memcpy(p->data, data, length);
    p->sequence = start;
    p->length = length;
    p->next = *at;
    *at = p;
    c->beyond_count++;
}

static void on_data(kb_conn *c, const segment *s)
{
    kb_l4 *l4 = c->l4;
    const uint8_t *data = s->payload;
    uint32_t start = s->sequence, length = s->length;
    if (s->flags & KB_CE)
        c->echo = 1;
    if (s->flags & KB_FIN && !c->has_fin && !before(start + length, c->expected)) {
        c->has_fin = 1;
        c->fin_at = start + length;
    }
    if (before(start, c->expected)) { /* we have it, or a part of it */
        uint32_t known = c->expected - start;
        c->ack_now = 1;
        if (known >= length) {
            length = 0;
        } else {
            data += known;
            length -= known;
            start = c->expected;
        }
    }
    if (length) {
        uint32_t promised = before(c->expected, c->advertised) ? c->advertised - c->expected : 0;
        if (start - c->expected + length > promised || l4->counters.bytes > 2 * l4->budget ||
            (c->has_fin && before(c->fin_at, start + length))) {
            c->ack_now = 1; /* no room: the sender asks again */
            return;
        }
        if (start == c->expected) {
            int hole = c->beyond != NULL;
            deliver(c, data, length);
            close_holes(c);
            c->unacked++;
            if (hole)
                c->ack_now = 1;
        } else {
            keep_beyond(c, start, data, length);
            c->ack_now = 1;
        }
    }
    if (c->has_fin && c->fin_at == c->expected && !c->peer_ended) {
        c->expected++;
        c->peer_ended = 1;
        c->ack_now = 1;
        tell(c);
    }
    if (c->unacked >= 2)
        c->ack_now = 1;
    else if (c->unacked && c->ack_at == KB_L4_NEVER)
        c->ack_at = l4->now + DELAYED_ACK;
}

static int parse(const uint8_t *data, size_t length, segment *s)
{
    if (length < KB_L4_HEADER)
        return -1;
    s->source = (uint16_t)(data[0] << 8 | data[1]);
    s->destination = (uint16_t)(data[2] << 8 | data[3]);
    s->sequence = get32(data + 4);
    s->acknowledgement = get32(data + 8);
    s->window = get32(data + 12);
    s->flags = data[16];
    s->ranges = data[17];
    size_t start = KB_L4_HEADER + 8u * s->ranges;
    if (s->ranges > KB_L4_RANGES || s->flags > 63 || length < start || length - start > KB_L4_PAYLOAD)
        return -1;
    s->range = data + KB_L4_HEADER;
    s->payload = data + start;
    s->length = (uint32_t)(length - start);
    return 0;
}

/* RFC 9293, section 3.5.2 */
static void refuse(kb_l4 *l4, uint32_t tenant, uint32_t number, const segment *s)
{
    uint8_t p[KB_L4_HEADER] = {0};
    if (s->flags & KB_RST)
        return;
    l4->counters.refused++;
    put16(p, s->destination);
    put16(p + 2, s->source);
    put32(p + 4, s->flags & KB_ACK ? s->acknowledgement : 0);
    put32(p + 8, s->sequence + s->length + (s->flags & (KB_SYN | KB_FIN) ? 1 : 0));
    p[16] = KB_RST | KB_ACK;
    send_bytes(l4, tenant, number, p, sizeof p);
}

static listener *listening(const kb_l4 *l4, uint32_t tenant, uint16_t port)
{
    listener *l = l4->listeners[mix(tenant, port) % LISTENERS];
    while (l && (l->tenant != tenant || l->port != port))
        l = l->chain;
    return l;
}

static void queue_control(kb_conn *c, uint8_t flags)
{
    chunk *k = chunk_new(c->l4, 0);
    if (!k) {
        end(c, KB_RESET, "no memory");
        return;
    }
    k->flags = flags;
    append(c, k);
    touch(c);
}

static void begin(kb_l4 *l4, uint32_t tenant, uint32_t number, const segment *s)
{
    peer *who = NULL;
    for (peer *p = l4->peers[mix(tenant, number) % (HASH / 4)]; p && !who; p = p->chain)
        if (p->tenant == tenant && p->number == number)
            who = p;
    kb_conn *c = NULL;
    if ((s->flags & (KB_SYN | KB_ACK | KB_RST)) == KB_SYN && listening(l4, tenant, s->destination) && l4->opening < KB_L4_OPENING &&
        (!who || who->opening < KB_L4_OPENING_PEER) && l4->counters.connections < KB_L4_CONNECTIONS && l4->counters.bytes <= l4->budget)
        c = conn_new(l4, tenant, number, s->destination, s->source);
    if (!c) {
        refuse(l4, tenant, number, s);
        return;
    }
    c->state = KB_SYN_RECEIVED;
    c->opening = 1;
    l4->opening++;
    c->who->opening++;
    c->initial = c->next = c->una = c->highest = l4->below.random(l4->below.context);
    c->expected = c->advertised = s->sequence + 1;
    c->peer_edge = c->initial + 1 + s->window;
    c->rack_at = KB_L4_NEVER;
    queue_control(c, KB_SYN);
}

static void on_reset(kb_conn *c, const segment *s)
{
    if (c->state == KB_SYN_SENT) {
        if (s->flags & KB_ACK && s->acknowledgement == c->initial + 1)
            end(c, KB_RESET, "refused by the peer");
    } else if (c->peer_ended && c->fin_queued && !c->unsent && c->flight_count <= 1) {
        end(c, KB_CLOSED, ""); /* the peer has forgotten us after its last acknowledgement was lost */
    } else if (s->sequence - c->expected <= LAST_WINDOW) {
        end(c, KB_RESET, "reset by the peer"); /* only one that is in place (RFC 5961 in short) */
    }
}

static void receive(kb_conn *c, const segment *s)
{
    kb_l4 *l4 = c->l4;
    c->heard_at = l4->now;
    if (c->state == KB_CLOSED || c->state == KB_RESET) {
        if (c->state == KB_CLOSED && !(s->flags & KB_RST) && (s->length || s->flags & KB_FIN))
            send_bare(c, c->next, KB_ACK); /* our last acknowledgement was lost */
        return;
    }
    touch(c);
    if (s->flags & KB_RST) {
        on_reset(c, s);
        return;
    }
    if (c->state == KB_SYN_SENT) {
        if (!(s->flags & KB_ACK) || s->acknowledgement != c->initial + 1) {
            refuse(l4, c->tenant, c->number, s); /* of an earlier connection with these ports */
            return;
        }
        if (!(s->flags & KB_SYN))
            return;
        c->expected = c->advertised = s->sequence + 1;
        c->state = KB_ESTABLISHED;
        c->ack_now = 1;
        tell(c);
    } else if (s->flags & KB_SYN) { /* the peer did not hear our answer */
        if (c->state == KB_SYN_RECEIVED && in_flight(c))
            again(c, c->first);
        else
            c->ack_now = 1;
        return;
    }
    if (s->flags & KB_ACK) {
        on_ack(c, s);
        if (c->state == KB_SYN_RECEIVED && c->una != c->initial) {
            c->state = KB_ESTABLISHED;
            not_opening(c);
            c->fresh = 1;
        }
    }
    if (c->state == KB_ESTABLISHED) {
        if (s->length || s->flags & KB_FIN)
            on_data(c, s);
        else if (s->sequence == c->expected - 1)
            c->ack_now = 1; /* the peer asks whether we are there, or for room (RFC 9293, section 3.8.4) */
    }
    check_end(c);
}

/* -- timers ------------------------------------------------------------------------------------------------------------------------- */

static void on_timeout(kb_conn *c)
{
    c->l4->counters.timeouts++;
    c->timeout = c->timeout * 2 > MOST_TIMEOUT ? MOST_TIMEOUT : c->timeout * 2;
    c->threshold = most(c->cwnd / 2, LEAST_CWND);
    c->cwnd = LEAST_CWND;
    c->recovering = 1;
    c->recover = c->next;
    c->tlp_out = 0;
    c->rack_at = KB_L4_NEVER;
    for (chunk *k = c->first; k && k != c->unsent; k = k->next)
        if (!k->received && !k->lost)
            lose(c, k);
    set_timer(c, NONE, KB_L4_NEVER); /* output sends the first again and arms it */
}

static void probe_tail(kb_conn *c)
{
    chunk *tail = NULL;
    for (chunk *k = c->first; k && k != c->unsent; k = k->next)
        if (!k->received && !k->lost)
            tail = k;
    c->tlp_out = 1;
    if (tail)
        again(c, tail);
    arm(c);
}

static void on_timer(kb_conn *c)
{
    uint64_t now = c->l4->now;
    if (c->state == KB_CLOSED || c->state == KB_RESET)
        return;
    if (now >= c->linger_at) {
        kb_conn_abort(c, "the peer does not end its side");
        return;
    }
    if (now >= c->ack_at)
        c->ack_now = 1;
    if (c->keepalive && !c->first && c->state == KB_ESTABLISHED) {
        int asked = c->asked_at > c->heard_at;
        if (asked && now - c->heard_at >= c->keepalive + GIVE_UP) {
            kb_conn_abort(c, "no sign of the peer");
            return;
        }
        if (now >= (asked ? c->asked_at + ASK_AGAIN : c->heard_at + c->keepalive)) {
            c->asked_at = now;
            send_bare(c, c->next - 1, KB_ACK);
        }
    }
    if (now < c->timer)
        return;
    if (now - c->progress_at >= GIVE_UP && (in_flight(c) || c->timer_kind == HELD)) {
        kb_conn_abort(c, "no acknowledgement within 60 s");
        return;
    }
    switch (c->timer_kind) {
    case RACK:
        detect_loss(c);
        arm(c);
        break;
    case TLP:
        probe_tail(c);
        break;
    case RTO:
        on_timeout(c);
        break;
    case PROBE: {
        uint64_t silent = now - (c->heard_at > c->progress_at ? c->heard_at : c->progress_at);
        if (silent >= GIVE_UP) {
            kb_conn_abort(c, "no acknowledgement within 60 s");
            return;
        }
        c->timeout = c->timeout * 2 > MOST_TIMEOUT ? MOST_TIMEOUT : c->timeout * 2;
        send_bare(c, c->next - 1, KB_ACK);
        arm(c);
        break;
    }
    default:
        break; /* HELD: output tries again */
    }
}

/* -- the endpoint ------------------------------------------------------------------------------------------------------------------- */

kb_l4 *kb_l4_new(uint32_t self, const kb_l4_below *below, size_t budget)
{
    kb_l4 *l4 = calloc(1, sizeof *l4);
    if (!l4)
        return NULL;
    l4->below = *below;
    l4->self = self;
    l4->budget = budget;
    l4->port = FIRST_EPHEMERAL + below->random(below->context) % (65536 - FIRST_EPHEMERAL);
    return l4;
}

static void reap(kb_l4 *l4, int all)
{
    while (l4->ended) {
        kb_conn *c = l4->ended;
        if (!all && !c->dead && l4->ended_count <= KB_L4_ENDED && l4->now - c->heard_at < TIME_WAIT)
            return;
        l4->ended = c->ended_next;
        if (!l4->ended)
            l4->ended_last = NULL;
        if (!c->dead)
            destroy(c); /* which leaves the memory to us */
        c->in_ended = 0;
        if (!c->listed)
            free(c);
    }
}

void kb_l4_free(kb_l4 *l4)
{
    if (!l4)
        return;
    reap(l4, 1);
    for (uint32_t i = 0; i < HASH; i++)
        while (l4->table[i])
            destroy(l4->table[i]);
    for (kb_conn *c = l4->dirty, *next; c; c = next) {
        next = c->dirty_next;
        free(c);
    }
    for (uint32_t i = 0; i < LISTENERS; i++)
        for (listener *l = l4->listeners[i], *next; l; l = next) {
            next = l->chain;
            free(l);
        }
    for (looped *s = l4->loop, *next; s; s = next) {
        next = s->next;
        free(s);
    }
    free(l4->heap);
    free(l4);
}

int kb_l4_listen(kb_l4 *l4, uint32_t tenant, uint16_t port, kb_l4_accept accept, void *context)
{
    if (listening(l4, tenant, port))
        return -1;
    listener *l = malloc(sizeof *l);
    if (!l)
        return -2;
    listener **at = &l4->listeners[mix(tenant, port) % LISTENERS];
    *l = (listener){*at, tenant, port, accept, context};
    *at = l;
    return 0;
}

void kb_l4_unlisten(kb_l4 *l4, uint32_t tenant, uint16_t port)
{
    listener **at = &l4->listeners[mix(tenant, port) % LISTENERS];
    while (*at && ((*at)->tenant != tenant || (*at)->port != port))
        at = &(*at)->chain;
    if (*at) {
        listener *gone = *at;
        *at = gone->chain;
        free(gone);
    }
}

void kb_l4_unlisten_all(kb_l4 *l4, const void *context)
{
    for (uint32_t i = 0; i < LISTENERS; i++)
        for (listener **at = &l4->listeners[i]; *at;) {
            listener *l = *at;
            if (l->context == context) {
                *at = l->chain;
                free(l);
            } else {
                at = &l->chain;
            }
        }
}

int kb_l4_divert(kb_l4 *l4, uint32_t tenant, uint16_t port, kb_l4_accept accept, void *context, kb_l4_accept *before, void **before_context)
{
    listener *l = listening(l4, tenant, port);
    if (!l)
        return -1;
    *before = l->accept;
    *before_context = l->context;
    l->accept = accept;
    l->context = context;
    return 0;
}

kb_conn *kb_l4_connect(kb_l4 *l4, uint32_t tenant, uint32_t number, uint16_t port, uint64_t now, kb_conn_ready ready, void *user)
{
    l4->now = now;
    if (l4->counters.connections >= KB_L4_CONNECTIONS || l4->counters.bytes > l4->budget)
        return NULL;
    for (uint32_t tries = 0; tries <= 65535 - FIRST_EPHEMERAL; tries++) {
        uint16_t local = (uint16_t)l4->port;
        l4->port = l4->port < 65535 ? l4->port + 1 : FIRST_EPHEMERAL;
        if (find(l4, tenant, number, local, port))
            continue;
        kb_conn *c = conn_new(l4, tenant, number, local, port);
        if (!c)
            return NULL;
        c->state = KB_SYN_SENT;
        c->owned = 1;
        c->ready = ready;
        c->user = user;
        c->initial = c->next = c->una = c->highest = c->peer_edge = l4->below.random(l4->below.context);
        c->rack_at = KB_L4_NEVER;
        queue_control(c, KB_SYN);
        return c;
    }
    return NULL;
}

void kb_l4_receive(kb_l4 *l4, uint32_t tenant, uint32_t number, const uint8_t *data, size_t length, uint64_t now)
{
    segment s;
    l4->now = now;
    l4->counters.segments_in++;
    if (parse(data, length, &s) < 0) {
        l4->counters.refused++;
        return;
    }
    kb_conn *c = find(l4, tenant, number, s.destination, s.source);
    if (c && c->in_ended && (s.flags & (KB_SYN | KB_ACK)) == KB_SYN) {
        destroy(c); /* the same name for something new */
        c = NULL;
    }
    if (c)
        receive(c, &s);
    else
        begin(l4, tenant, number, &s);
}

static void run(kb_l4 *l4, kb_conn *c)
{
    if (c->fresh) {
        c->fresh = 0;
        listener *l = listening(l4, c->tenant, c->local);
        if (l)
            l->accept(l->context, c);
        if (!c->owned && !c->dead)
            kb_conn_abort(c, "nobody listens any more");
    }
    if (!c->dead && c->changed) {
        c->changed = 0;
        if (c->owned && c->ready)
            c->ready(c->user, c);
    }
    if (c->dead)
        return;
    output(c);
    if (!c->owned && (c->state == KB_CLOSED || c->state == KB_RESET))
        kb_conn_release(c);
    else
        schedule(c);
}

uint64_t kb_l4_work(kb_l4 *l4, uint64_t now)
{
    l4->now = now;
    for (int turns = 0; turns < 4096; turns++) {
        if (l4->heap_count && l4->heap[0]->deadline <= now) {
            kb_conn *c = l4->heap[0];
            heap_remove(l4, c);
            on_timer(c);
            touch(c);
        }
        if (l4->loop) {
            looped *s = l4->loop;
            l4->loop = s->next;
            l4->looped_count--;
            kb_l4_receive(l4, s->tenant, l4->self, s->data, s->length, now);
            free(s);
        }
        kb_conn *c = l4->dirty;
        if (!c) {
            if (l4->loop || (l4->heap_count && l4->heap[0]->deadline <= now))
                continue;
            reap(l4, 0);
            return kb_l4_next(l4);
        }
        l4->dirty = c->dirty_next;
        c->listed = 0;
        c->dirty_next = NULL;
        if (!c->dead) {
            c->listed = 1; /* callbacks may end it; its memory stays until we are through */
            run(l4, c);
            c->listed = 0;
            if (!c->dead && (c->changed || c->fresh))
                touch(c);
        }
        if (c->dead && !c->in_ended)
            free(c);
    }
    return now;
}

uint64_t kb_l4_next(const kb_l4 *l4)
{
    if (l4->dirty || l4->loop)
        return l4->now;
    uint64_t at = l4->heap_count ? l4->heap[0]->deadline : KB_L4_NEVER;
    if (l4->ended && l4->ended->heard_at + TIME_WAIT < at)
        at = l4->ended->heard_at + TIME_WAIT;
    return at;
}

void kb_l4_reset_peer(kb_l4 *l4, uint32_t tenant, uint32_t number)
{
    for (uint32_t i = 0; i < HASH; i++)
        for (kb_conn *c = l4->table[i]; c; c = c->chain)
            if (c->tenant == tenant && c->number == number && !c->in_ended)
                kb_conn_abort(c, "the peer started anew");
}

void kb_l4_get_counters(const kb_l4 *l4, kb_l4_counters *counters) { *counters = l4->counters; }

/* -- the owner's calls -------------------------------------------------------------------------------------------------------------- */

void kb_conn_own(kb_conn *c, kb_conn_ready ready, void *user)
{
    c->owned = 1;
    c->ready = ready;
    c->user = user;
    tell(c);
}

void *kb_conn_user(const kb_conn *c) { return c->user; }

void kb_conn_name(const kb_conn *c, uint32_t *tenant, uint32_t *number, uint16_t *local, uint16_t *remote)
{
    *tenant = c->tenant;
    *number = c->number;
    *local = c->local;
    *remote = c->remote;
}

kb_conn_state kb_conn_state_of(const kb_conn *c) { return (kb_conn_state)c->state; }

const char *kb_conn_error(const kb_conn *c) { return c->error; }

size_t kb_conn_write(kb_conn *c, const uint8_t *data, size_t length)
{
    size_t taken = 0;
    if (c->fin_queued || c->state == KB_CLOSED || c->state == KB_RESET)
        return 0;
    while (taken < length) {
        chunk *k = c->unsent && !c->last->flags ? c->last : NULL;
        if (!k || k->length == k->room) {
            size_t rest = length - taken;
            size_t room = rest >= KB_L4_PAYLOAD || c->unsent_bytes >= KB_L4_PAYLOAD ? KB_L4_PAYLOAD : rest < LEAST_ROOM ? LEAST_ROOM : rest;
            k = chunk_new(c->l4, room);
            if (!k)
                break;
            append(c, k);
        }
        uint32_t n = least((uint32_t)(length - taken > KB_L4_PAYLOAD ? KB_L4_PAYLOAD : length - taken), k->room - k->length);
        memcpy(k->data + KB_L4_HEAD + k->length, data + taken, n);
        k->length += n;
        taken += n;
    }
    c->unsent_bytes += taken;
    touch(c);
    return taken;
}

size_t kb_conn_room(kb_conn *c)
{
    if (c->unsent_bytes < KB_L4_SEND_BUFFER)
        return KB_L4_SEND_BUFFER - c->unsent_bytes;
    c->want_room = 1;
    return 0;
}

size_t kb_conn_unsent(const kb_conn *c) { return c->unsent_bytes; }

const uint8_t *kb_conn_peek(const kb_conn *c, size_t *length)
{
    *length = c->parts ? c->parts->length : 0;
    return c->parts ? c->parts->data + c->parts->start : NULL;
}

const uint8_t *kb_conn_pullup(kb_conn *c, size_t wanted, size_t *length)
{
    if (c->parts && c->parts->next && c->parts->length < wanted) {
        size_t total = c->waiting < wanted ? c->waiting : wanted;
        part *whole = part_new(c->l4, total);
        if (!whole) {
            *length = 0;
            return NULL;
        }
        while (whole->length < total) {
            part *p = c->parts;
            uint32_t n = least(p->length, (uint32_t)total - whole->length);
            memcpy(whole->data + whole->length, p->data + p->start, n);
            whole->length += n;
            p->start += n;
            p->length -= n;
            if (!p->length) {
                c->parts = p->next;
                part_free(c->l4, p);
            }
        }
        whole->next = c->parts;
        if (!c->parts)
            c->parts_last = whole;
        c->parts = whole;
    }
    return kb_conn_peek(c, length);
}

void kb_conn_consume(kb_conn *c, size_t count)
{
    while (count && c->parts) {
        part *p = c->parts;
        uint32_t n = least((uint32_t)(count > KB_L4_PAYLOAD ? KB_L4_PAYLOAD : count), p->length);
        p->start += n;
        p->length -= n;
        c->waiting -= n;
        count -= n;
        c->consumed += n;
        if (!p->length) {
            c->parts = p->next;
            part_free(c->l4, p);
        }
    }
    if (c->consumed >= c->limit) { /* the reader keeps up */
        c->limit = least(2 * c->limit, LAST_WINDOW);
        c->consumed = 0;
    }
    uint32_t promised = before(c->expected, c->advertised) ? c->advertised - c->expected : 0;
    if (c->state == KB_ESTABLISHED && !c->peer_ended && window(c) - promised >= c->limit / 4) {
        c->ack_now = 1; /* the peer may be waiting for room: tell it when that is worth a segment */
        touch(c);
    }
}

size_t kb_conn_waiting(const kb_conn *c) { return c->waiting; }

int kb_conn_finished(const kb_conn *c) { return c->peer_ended; }

int kb_conn_eof(const kb_conn *c) { return c->peer_ended && !c->parts; }

void kb_conn_finish(kb_conn *c)
{
    if (c->fin_queued || c->state == KB_CLOSED || c->state == KB_RESET)
        return;
    c->fin_queued = 1;
    queue_control(c, KB_FIN);
}

void kb_conn_abort(kb_conn *c, const char *reason)
{
    if (c->state == KB_CLOSED || c->state == KB_RESET)
        return;
    send_bare(c, c->next, c->state == KB_SYN_SENT ? KB_RST : KB_RST | KB_ACK);
    end(c, KB_RESET, reason);
}

void kb_conn_keepalive(kb_conn *c, uint64_t idle)
{
    c->keepalive = idle;
    touch(c);
}

void kb_conn_release(kb_conn *c)
{
    kb_l4 *l4 = c->l4;
    c->owned = 0;
    c->ready = NULL;
    kb_conn_abort(c, "its owner is gone");
    if (c->state != KB_CLOSED) {
        destroy(c);
        return;
    }
    if (c->in_ended)
        return;
    heap_remove(l4, c);
    drop_parts(l4, &c->parts);
    c->waiting = 0;
    c->heard_at = l4->now;
    c->in_ended = 1;
    c->ended_next = NULL;
    if (l4->ended)
        l4->ended_last->ended_next = c;
    else
        l4->ended = c;
    l4->ended_last = c;
    l4->ended_count++;
    l4->counters.connections--;
}

void kb_conn_close(kb_conn *c, uint64_t now)
{
    c->owned = 0;
    c->ready = NULL;
    c->discard = 1;
    drop_parts(c->l4, &c->parts);
    c->parts_last = NULL;
    c->waiting = 0;
    c->linger_at = now + LINGER;
    kb_conn_finish(c);
    touch(c);
}
