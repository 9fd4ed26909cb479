/* The endpoint: all connections of a node, their timers and callbacks; l4.h has the rules. */
#include "l4/internal.h"

#include <stdlib.h>
#include <string.h>

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
    if (c->first->received)
        kb_l4_forget_received(c);
    for (chunk *k = c->first; k && k != c->unsent; k = k->next)
        if (!k->received && !k->lost)
            kb_l4_lose(c, k);
    kb_l4_set_timer(c, NONE, KB_L4_NEVER); /* output sends the first again and arms it */
}

static void probe_tail(kb_conn *c)
{
    chunk *tail = NULL;
    for (chunk *k = c->first; k && k != c->unsent; k = k->next)
        if (!k->received && !k->lost)
            tail = k;
    c->tlp_out = 1;
    if (tail)
        kb_l4_again(c, tail);
    kb_l4_arm(c);
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
            kb_l4_send_bare(c, c->next - 1, KB_ACK);
        }
    }
    if (now < c->timer)
        return;
    if (now - c->progress_at >= GIVE_UP && (kb_l4_in_flight(c) || c->timer_kind == HELD)) {
        kb_conn_abort(c, "no acknowledgement within 60 s");
        return;
    }
    switch (c->timer_kind) {
    case RACK:
        kb_l4_detect_loss(c);
        kb_l4_arm(c);
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
        kb_l4_send_bare(c, c->next - 1, KB_ACK);
        kb_l4_arm(c);
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
            kb_l4_destroy(c); /* which leaves the memory to us */
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
            kb_l4_destroy(l4->table[i]);
    kb_l4_peers_free(l4);
    for (kb_conn *c = l4->dirty, *next; c; c = next) {
        next = c->dirty_next;
        free(c);
    }
    for (uint32_t i = 0; i < LISTENERS; i++)
        for (listener *l = l4->listeners[i], *next; l; l = next) {
            next = l->chain;
            free(l);
        }
    for (loopback *s = l4->loop, *next; s; s = next) {
        next = s->next;
        free(s);
    }
    free(l4->heap);
    free(l4);
}

int kb_l4_listen(kb_l4 *l4, uint32_t tenant, uint16_t port, kb_l4_accept accept, void *context)
{
    if (kb_l4_listening(l4, tenant, port))
        return -1;
    listener *l = malloc(sizeof *l);
    if (!l)
        return -2;
    listener **at = &l4->listeners[kb_l4_mix(tenant, port) % LISTENERS];
    *l = (listener){*at, tenant, port, accept, context};
    *at = l;
    return 0;
}

void kb_l4_unlisten(kb_l4 *l4, uint32_t tenant, uint16_t port)
{
    listener **at = &l4->listeners[kb_l4_mix(tenant, port) % LISTENERS];
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
    listener *l = kb_l4_listening(l4, tenant, port);
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
    for (uint32_t tries = 0; tries <= 65535 - FIRST_EPHEMERAL; tries++) {
        uint16_t local = (uint16_t)l4->port;
        l4->port = l4->port < 65535 ? l4->port + 1 : FIRST_EPHEMERAL;
        if (kb_l4_find(l4, tenant, number, local, port))
            continue;
        kb_conn *c = kb_l4_conn_new(l4, tenant, number, local, port, 0);
        if (!c)
            return NULL;
        c->state = KB_SYN_SENT;
        c->owned = 1;
        c->ready = ready;
        c->user = user;
        c->initial = c->next = c->una = c->highest = c->peer_edge = l4->below.random(l4->below.context);
        c->rack_at = KB_L4_NEVER;
        kb_l4_queue_control(c, KB_SYN);
        return c;
    }
    return NULL;
}

void kb_l4_receive(kb_l4 *l4, uint32_t tenant, uint32_t number, const uint8_t *data, size_t length, uint64_t now)
{
    segment s;
    l4->now = now;
    l4->counters.segments_in++;
    if (kb_l4_parse(data, length, &s) < 0) {
        l4->counters.refused++;
        return;
    }
    kb_conn *c = kb_l4_find(l4, tenant, number, s.destination, s.source);
    if (c && c->in_ended && (s.flags & (KB_SYN | KB_ACK)) == KB_SYN) {
        kb_l4_destroy(c); /* the same name for something new */
        c = NULL;
    }
    if (c)
        kb_l4_conn_receive(c, &s);
    else
        kb_l4_begin(l4, tenant, number, &s);
}

static void run(kb_l4 *l4, kb_conn *c)
{
    if (c->fresh) {
        c->fresh = 0;
        listener *l = kb_l4_listening(l4, c->tenant, c->local);
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
    kb_l4_output(c);
    if (!c->owned && (c->state == KB_CLOSED || c->state == KB_RESET))
        kb_conn_release(c);
    else
        kb_l4_schedule(c);
}

uint64_t kb_l4_work(kb_l4 *l4, uint64_t now)
{
    l4->now = now;
    for (int turns = 0; turns < 4096; turns++) {
        if (l4->heap_count && l4->heap[0]->deadline <= now) {
            kb_conn *c = l4->heap[0];
            kb_l4_heap_remove(l4, c);
            on_timer(c);
            kb_l4_touch(c);
        }
        if (l4->loop) {
            loopback *s = l4->loop;
            l4->loop = s->next;
            l4->loopback_count--;
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
                kb_l4_touch(c);
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
                kb_conn_abort(c, "the peer was restarted");
}

void kb_l4_get_counters(const kb_l4 *l4, kb_l4_counters *counters) { *counters = l4->counters; }
