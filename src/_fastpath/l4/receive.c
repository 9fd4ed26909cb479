/* Segments of L4 that come in: handshake, data in order and beyond holes, resets. */
#include "l4/internal.h"

#include <stdlib.h>
#include <string.h>

/* -- segments in -------------------------------------------------------------------------------------------------------------------- */

static void queue_part(kb_conn *c, part *p)
{
    p->next = NULL;
    if (c->parts)
        c->parts_last->next = p;
    else
        c->parts = p;
    c->parts_last = p;
    c->waiting += p->length;
    c->expected += p->length;
    kb_l4_tell(c);
}

static int deliver(kb_conn *c, const uint8_t *data, uint32_t length)
{
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
            part *p = kb_l4_part_new(c, most(length - used, LEAST_ROOM));
            if (!p) {
                kb_l4_tell(c);
                return -1; /* what is missing is sent again */
            }
            memcpy(p->data, data + used, length - used);
            p->length = length - used;
            queue_part(c, p);
        }
        kb_l4_tell(c);
    } else {
        c->expected += length;
    }
    return 0;
}

static void close_holes(kb_conn *c)
{
    while (c->out_of_order && !before(c->expected, c->out_of_order->sequence)) {
        part *p = c->out_of_order;
        uint32_t known = c->expected - p->sequence;
        c->out_of_order = p->next;
        c->out_of_order_count--;
        c->ack_now = 1;
        if (known < p->length && (p->length - known < LEAST_ROOM || c->discard)) {
            if (deliver(c, p->data + known, p->length - known) < 0) { /* the peer knows that we have it: it must not be lost */
                p->sequence = c->expected;
                memmove(p->data, p->data + known, p->length - known);
                p->length -= known;
                p->next = c->out_of_order;
                c->out_of_order = p;
                c->out_of_order_count++;
                return;
            }
            kb_l4_part_free(c, p);
        } else if (known < p->length) {
            p->start = known;
            p->length -= known;
            queue_part(c, p);
        } else {
            kb_l4_part_free(c, p);
        }
    }
}

/* Only what is not there yet: pieces never overlap, so all of them together are not more than the window. */
static void keep_beyond(kb_conn *c, uint32_t start, const uint8_t *data, uint32_t length)
{
    part **at = &c->out_of_order;
    uint32_t end = start + length;
    while (before(start, end)) {
        while (*at && !before(start, (*at)->sequence + (*at)->length))
            at = &(*at)->next;
        part *next = *at;
        if (next && !before(start, next->sequence)) { /* it begins inside */
            uint32_t known = next->sequence + next->length - start;
            if (known >= end - start)
                return;
            data += known;
            start += known;
            continue;
        }
        uint32_t count = (next && before(next->sequence, end) ? next->sequence : end) - start;
        part *p = c->out_of_order_count < MAX_OUT_OF_ORDER && kb_l4_may_keep_beyond(c, sizeof *p + count) ? kb_l4_part_new(c, count) : NULL;
        if (!p)
            return;
        memcpy(p->data, data, count);
        p->sequence = start;
        p->length = count;
        p->next = next;
        *at = p;
        c->out_of_order_count++;
        data += count;
        start += count;
    }
}

/* For what comes in order. What lies beyond a hole goes first (RFC 2018, section 8): it would wait for what there is no room for. */
static int make_room(kb_conn *c, uint32_t length)
{
    if (!kb_l4_may_keep(c, length) && c->out_of_order) {
        kb_l4_drop_parts(c, &c->out_of_order);
        c->out_of_order_count = 0;
    }
    return kb_l4_may_keep(c, length);
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
        if (start - c->expected + length > promised || (start == c->expected && !make_room(c, length)) || (c->has_fin && before(c->fin_at, start + length))) {
            c->ack_now = 1; /* no room: the sender asks again */
            return;
        }
        if (start == c->expected) {
            int hole = c->out_of_order != NULL;
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
        kb_l4_tell(c);
    }
    if (c->unacked >= 2)
        c->ack_now = 1;
    else if (c->unacked && c->ack_at == KB_L4_NEVER)
        c->ack_at = l4->now + DELAYED_ACK;
}

int kb_l4_parse(const uint8_t *data, size_t length, segment *s)
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
    kb_l4_send_bytes(l4, tenant, number, p, sizeof p);
}

listener *kb_l4_listening(const kb_l4 *l4, uint32_t tenant, uint16_t port)
{
    listener *l = l4->listeners[kb_l4_mix(tenant, port) % LISTENERS];
    while (l && (l->tenant != tenant || l->port != port))
        l = l->chain;
    return l;
}

void kb_l4_queue_control(kb_conn *c, uint8_t flags)
{
    chunk *k = kb_l4_chunk_new(c, 0);
    if (!k) {
        kb_l4_end(c, KB_RESET, "no memory");
        return;
    }
    k->flags = flags;
    kb_l4_append(c, k);
    kb_l4_touch(c);
}

void kb_l4_begin(kb_l4 *l4, uint32_t tenant, uint32_t number, const segment *s)
{
    kb_conn *c = NULL;
    int itself = number == l4->self && s->source == s->destination; /* both ends would be one connection, that answers its own answers */
    if ((s->flags & (KB_SYN | KB_ACK | KB_RST)) == KB_SYN && !itself && kb_l4_listening(l4, tenant, s->destination))
        c = kb_l4_conn_new(l4, tenant, number, s->destination, s->source, 1);
    if (!c) {
        refuse(l4, tenant, number, s);
        return;
    }
    c->state = KB_SYN_RECEIVED;
    c->initial = c->next = c->una = c->highest = l4->below.random(l4->below.context);
    c->expected = c->advertised = s->sequence + 1;
    c->peer_edge = c->initial + 1 + s->window;
    c->rack_at = KB_L4_NEVER;
    kb_l4_queue_control(c, KB_SYN);
}

static void on_reset(kb_conn *c, const segment *s)
{
    if (c->state == KB_SYN_SENT) {
        if (s->flags & KB_ACK && s->acknowledgement == c->initial + 1)
            kb_l4_end(c, KB_RESET, "refused by the peer");
    } else if (c->peer_ended && c->fin_queued && !c->unsent && c->flight_count <= 1) {
        kb_l4_end(c, KB_CLOSED, ""); /* the peer has forgotten us after its last acknowledgement was lost */
    } else if (s->sequence - c->expected <= LAST_WINDOW) {
        kb_l4_end(c, KB_RESET, "reset by the peer"); /* only one that is in place (RFC 5961 in short) */
    }
}

void kb_l4_conn_receive(kb_conn *c, const segment *s)
{
    kb_l4 *l4 = c->l4;
    c->heard_at = l4->now;
    if (c->state == KB_CLOSED || c->state == KB_RESET) {
        if (c->state == KB_CLOSED && !(s->flags & KB_RST) && (s->length || s->flags & KB_FIN))
            kb_l4_send_bare(c, c->next, KB_ACK); /* our last acknowledgement was lost */
        return;
    }
    kb_l4_touch(c);
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
        kb_l4_tell(c);
    } else if (s->flags & KB_SYN) { /* the peer did not hear our answer */
        if (c->state == KB_SYN_RECEIVED && kb_l4_in_flight(c))
            kb_l4_again(c, c->first);
        else
            c->ack_now = 1;
        return;
    }
    if (s->flags & KB_ACK) {
        kb_l4_on_ack(c, s);
        if (c->state == KB_SYN_RECEIVED && c->una != c->initial) {
            c->state = KB_ESTABLISHED;
            kb_l4_not_opening(c);
            c->fresh = 1;
        }
    }
    if (c->state == KB_ESTABLISHED) {
        if (s->length || s->flags & KB_FIN)
            on_data(c, s);
        else if (s->sequence == c->expected - 1)
            c->ack_now = 1; /* the peer asks whether we are there, or for room (RFC 9293, section 3.8.4) */
    }
    kb_l4_check_end(c);
}
