/* What the owner of a connection may ask of it; l4.h says what each call means. */
#include "l4/internal.h"

#include <stdlib.h>
#include <string.h>

/* -- the owner's calls -------------------------------------------------------------------------------------------------------------- */

void kb_conn_own(kb_conn *c, kb_conn_ready ready, void *user)
{
    c->owned = 1;
    c->ready = ready;
    c->user = user;
    kb_l4_tell(c);
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
            k = kb_l4_may_write(c) ? kb_l4_chunk_new(c, room) : NULL;
            if (!k)
                break;
            kb_l4_append(c, k);
        }
        uint32_t n = least((uint32_t)(length - taken > KB_L4_PAYLOAD ? KB_L4_PAYLOAD : length - taken), k->room - k->length);
        memcpy(k->data + KB_L4_HEAD + k->length, data + taken, n);
        k->length += n;
        taken += n;
    }
    c->unsent_bytes += taken;
    kb_l4_touch(c);
    return taken;
}

size_t kb_conn_room(kb_conn *c)
{
    size_t room = kb_l4_room(c);
    if (!room)
        c->want_room = 1;
    return room;
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
        part *whole = kb_l4_part_new(c, total);
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
                kb_l4_part_free(c, p);
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
            kb_l4_part_free(c, p);
        }
    }
    if (c->consumed >= c->limit) { /* the reader keeps up */
        c->limit = least(2 * c->limit, LAST_WINDOW);
        c->consumed = 0;
    }
    uint32_t promised = before(c->expected, c->advertised) ? c->advertised - c->expected : 0;
    if (c->state == KB_ESTABLISHED && !c->peer_ended && kb_l4_window(c) - promised >= c->limit / 4) {
        c->ack_now = 1; /* the peer may be waiting for room: tell it when that is worth a segment */
        kb_l4_touch(c);
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
    kb_l4_queue_control(c, KB_FIN);
}

void kb_conn_abort(kb_conn *c, const char *reason)
{
    if (c->state == KB_CLOSED || c->state == KB_RESET)
        return;
    kb_l4_send_bare(c, c->next, c->state == KB_SYN_SENT ? KB_RST : KB_RST | KB_ACK);
    kb_l4_end(c, KB_RESET, reason);
}

void kb_conn_keepalive(kb_conn *c, uint64_t idle)
{
    c->keepalive = idle;
    kb_l4_touch(c);
}

void kb_conn_release(kb_conn *c)
{
    kb_l4 *l4 = c->l4;
    c->owned = 0;
    c->ready = NULL;
    kb_conn_abort(c, "its owner is gone");
    if (c->state != KB_CLOSED) {
        kb_l4_destroy(c);
        return;
    }
    if (c->in_ended)
        return;
    kb_l4_heap_remove(l4, c);
    kb_l4_drop_parts(c, &c->parts);
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
    kb_l4_drop_parts(c, &c->parts);
    c->parts_last = NULL;
    c->waiting = 0;
    c->linger_at = now + LINGER;
    kb_conn_finish(c);
    kb_l4_touch(c);
}
