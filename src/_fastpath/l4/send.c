/* Segments of L4 on their way out: headers, windows, what may be sent now. */
#include "l4/internal.h"

#include <stdlib.h>
#include <string.h>

/* -- segments out ------------------------------------------------------------------------------------------------------------------- */

/* What we have promised is not taken back (RFC 9293, section 3.8.6.2.1). */
uint32_t kb_l4_window(const kb_conn *c)
{
    uint32_t limit = kb_l4_window_limit(c);
    uint32_t free_bytes = limit > c->waiting ? limit - (uint32_t)c->waiting : 0;
    uint32_t promised = before(c->expected, c->advertised) ? c->advertised - c->expected : 0;
    return most(free_bytes, promised);
}

/* The header, and with an acknowledgement what lies beyond a hole, so that it ends at `payload`. */
static uint8_t *head(kb_conn *c, uint8_t *payload, uint32_t sequence, uint8_t flags)
{
    uint32_t first[KB_L4_RANGES], end[KB_L4_RANGES], count = 0;
    uint32_t room = kb_l4_window(c);
    if (flags & KB_ACK) {
        for (part *p = c->out_of_order; p; p = p->next) {
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
    p[KB_L4_FLAGS_AT] = flags;
    p[KB_L4_RANGES_AT] = (uint8_t)count;
    for (uint32_t i = 0; i < count; i++) {
        put32(p + KB_L4_HEADER + 8 * i, first[i]);
        put32(p + KB_L4_HEADER + 8 * i + 4, end[i]);
    }
    return p;
}

int kb_l4_send_bytes(kb_l4 *l4, uint32_t tenant, uint32_t number, const uint8_t *data, size_t length)
{
    l4->counters.segments_out++;
    if (number != l4->self)
        return l4->below.send(l4->below.context, tenant, number, data, length);
    loopback *s = l4->loopback_count < MAX_LOOPBACK ? malloc(sizeof *s + length) : NULL;
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
    l4->loopback_count++;
    return 0;
}

void kb_l4_send_bare(kb_conn *c, uint32_t sequence, uint8_t flags)
{
    uint8_t room[KB_L4_HEAD];
    uint8_t *p = head(c, room + sizeof room, sequence, flags);
    kb_l4_send_bytes(c->l4, c->tenant, c->number, p, (size_t)(room + sizeof room - p));
}

static int transmit(kb_conn *c, chunk *k)
{
    uint8_t flags = k->flags | (c->state == KB_SYN_SENT ? 0 : KB_ACK);
    uint8_t *payload = k->data + KB_L4_HEAD;
    uint8_t *p = head(c, payload, k->sequence, flags);
    return kb_l4_send_bytes(c->l4, c->tenant, c->number, p, (size_t)(payload - p) + k->length);
}

void kb_l4_append(kb_conn *c, chunk *k)
{
    if (c->last)
        c->last->next = k;
    else
        c->first = k;
    c->last = k;
    if (!c->unsent)
        c->unsent = k;
}

void kb_l4_shrink(kb_conn *c, unsigned percent)
{
    c->threshold = most((uint32_t)((uint64_t)c->cwnd * percent / 100), LEAST_CWND);
    c->cwnd = c->threshold;
}

/* The queue below us is full, or a relay's grows: once a round trip (RFC 8511). */
void kb_l4_slow_down(kb_conn *c)
{
    if (c->slowed && before(c->una, c->slow_until))
        return;
    c->slowed = 1;
    c->slow_until = c->next;
    kb_l4_shrink(c, 85);
}

void kb_l4_set_timer(kb_conn *c, uint8_t kind, uint64_t at)
{
    c->timer_kind = kind;
    c->timer = at;
}

int kb_l4_in_flight(const kb_conn *c) { return c->first && c->first != c->unsent; }

void kb_l4_arm(kb_conn *c)
{
    uint64_t now = c->l4->now;
    if (kb_l4_in_flight(c)) {
        uint64_t rto = now + c->timeout;
        if (c->rack_at != KB_L4_NEVER) {
            kb_l4_set_timer(c, RACK, c->rack_at);
        } else if (c->srtt && !c->tlp_out && !c->lost_count && c->state == KB_ESTABLISHED) {
            uint64_t probe = now + 2 * c->srtt + 2000 + (c->flight_count == 1 ? DELAYED_ACK + 5000 : 0);
            if (probe < rto)
                kb_l4_set_timer(c, TLP, probe);
            else
                kb_l4_set_timer(c, RTO, rto);
        } else {
            kb_l4_set_timer(c, RTO, rto);
        }
    } else if (c->unsent) {
        kb_l4_set_timer(c, PROBE, now + c->timeout); /* the peer's window is closed */
    } else {
        kb_l4_set_timer(c, NONE, KB_L4_NEVER);
    }
}

static void held(kb_conn *c)
{
    kb_l4_slow_down(c);
    uint64_t wait = c->srtt / 4;
    kb_l4_set_timer(c, HELD, c->l4->now + (wait < 2000 ? 2000 : wait > 50000 ? 50000 : wait));
}

int kb_l4_again(kb_conn *c, chunk *k)
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
void kb_l4_output(kb_conn *c)
{
    uint64_t now = c->l4->now;
    int sent = 0;
    if (c->state == KB_CLOSED || c->state == KB_RESET)
        return;
    if (c->timer_kind == HELD && now < c->timer) {
        if (c->ack_now && c->state == KB_ESTABLISHED)
            kb_l4_send_bare(c, c->next, KB_ACK);
        return;
    }
    for (chunk *k = c->lost_count ? c->first : NULL; k && k != c->unsent && c->lost_count; k = k->next) {
        if (!k->lost)
            continue;
        if (c->flight_bytes && c->flight_bytes + weight(k) > c->cwnd)
            break;
        if (kb_l4_again(c, k) < 0) {
            held(c);
            return;
        }
        sent = 1;
    }
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
        if (!kb_l4_in_flight(c))
            c->progress_at = now; /* silence counts from here */
        c->unsent = k->next;
        c->next += weight(k);
        c->flight_bytes += weight(k);
        c->flight_count++;
        c->unsent_bytes -= k->length;
        sent = 1;
    }
    if (c->want_room && c->unsent_bytes < KB_L4_SEND_BUFFER / 2 && kb_l4_room(c)) {
        c->want_room = 0;
        kb_l4_tell(c);
    }
    if (c->ack_now && c->state == KB_ESTABLISHED)
        kb_l4_send_bare(c, c->next, KB_ACK);
    if (sent || c->timer_kind == HELD || c->timer_kind == NONE)
        kb_l4_arm(c);
}
