/* Acknowledgements: what they say about the path, what is lost, when a connection is over. */
#include "l4/internal.h"

#include <stdlib.h>
#include <string.h>

/* -- the end ------------------------------------------------------------------------------------------------------------------------ */

void kb_l4_end(kb_conn *c, kb_conn_state state, const char *error)
{
    if (c->state == KB_CLOSED || c->state == KB_RESET)
        return;
    if (c->ack_now && state == KB_CLOSED)
        kb_l4_send_bare(c, c->next, KB_ACK);
    c->state = (uint8_t)state;
    c->error = error;
    c->timer = c->ack_at = c->linger_at = KB_L4_NEVER;
    c->timer_kind = NONE;
    c->ack_now = 0;
    kb_l4_not_opening(c);
    kb_l4_drop_sending(c);
    kb_l4_drop_parts(c, &c->out_of_order);
    c->out_of_order_count = 0;
    kb_l4_tell(c);
}

void kb_l4_check_end(kb_conn *c)
{
    if (c->fin_acked && c->peer_ended)
        kb_l4_end(c, KB_CLOSED, "");
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

void kb_l4_lose(kb_conn *c, chunk *k)
{
    k->lost = 1;
    c->lost_count++;
    c->flight_bytes -= weight(k);
}

/* The peer no longer has what it had reported beyond a hole (RFC 2018, section 8). */
void kb_l4_forget_received(kb_conn *c)
{
    for (chunk *k = c->first; k && k != c->unsent; k = k->next)
        if (k->received) {
            k->received = 0;
            k->lost = 1; /* it counts as being in flight no more */
            c->sacked--;
            c->lost_count++;
            if (!k->again) { /* its time is no measure of the path (Karn) */
                k->again = 1;
                c->agains++;
            }
        }
}

/* What was sent before something that has arrived, and is late by more than the reordering that was seen, is lost. */
void kb_l4_detect_loss(kb_conn *c)
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
            kb_l4_lose(c, k);
            found = 1;
        } else if (at < c->rack_at) {
            c->rack_at = at;
        }
    }
    if (found && !c->recovering) {
        c->recovering = 1;
        c->recover = c->next;
        kb_l4_shrink(c, 70);
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

void kb_l4_on_ack(kb_conn *c, const segment *s)
{
    uint64_t now = c->l4->now;
    if (before(c->next, s->acknowledgement) || before(s->acknowledgement, c->una))
        return;
    int limited = (uint64_t)c->flight_bytes * 2 >= c->cwnd, opened = before(c->peer_edge, s->acknowledgement + s->window);
    uint32_t acked = 0;
    int newly = 0;
    if (opened)
        c->peer_edge = s->acknowledgement + s->window;
    while (kb_l4_in_flight(c)) {
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
        kb_l4_chunk_free(c, k);
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
        kb_l4_slow_down(c);
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
    kb_l4_detect_loss(c);
    if (acked || newly || opened || c->rack_at != KB_L4_NEVER) {
        if (c->timer_kind != HELD)
            kb_l4_arm(c);
    }
}
