/* Buffers, tables and the heap of timers of L4; see l4.h. */
#include "l4/internal.h"

#include <stdlib.h>
#include <string.h>

/* -- memory, tables, the heap ------------------------------------------------------------------------------------------------------- */

chunk *kb_l4_chunk_new(kb_conn *c, size_t room)
{
    size_t size = sizeof(chunk) + KB_L4_HEAD + room;
    chunk *k = malloc(size);
    if (!k)
        return NULL;
    memset(k, 0, sizeof *k);
    k->room = (uint32_t)room;
    c->sending += size;
    kb_l4_charge(c, size);
    return k;
}

void kb_l4_chunk_free(kb_conn *c, chunk *k)
{
    size_t size = sizeof *k + KB_L4_HEAD + k->room;
    c->sending -= size;
    kb_l4_discharge(c, size);
    free(k);
}

part *kb_l4_part_new(kb_conn *c, size_t room)
{
    size_t size = sizeof(part) + room;
    part *p = malloc(size);
    if (!p)
        return NULL;
    memset(p, 0, sizeof *p);
    p->room = (uint32_t)room;
    c->receiving += size;
    kb_l4_charge(c, size);
    return p;
}

void kb_l4_part_free(kb_conn *c, part *p)
{
    size_t size = sizeof *p + p->room;
    c->receiving -= size;
    kb_l4_discharge(c, size);
    free(p);
}

static uint32_t bucket_of(uint32_t tenant, uint32_t number, uint16_t local, uint16_t remote)
{
    return kb_l4_mix(tenant ^ number << 12, (uint32_t)local << 16 | remote) % HASH;
}

kb_conn *kb_l4_find(const kb_l4 *l4, uint32_t tenant, uint32_t number, uint16_t local, uint16_t remote)
{
    kb_conn *c = l4->table[bucket_of(tenant, number, local, remote)];
    while (c && (c->tenant != tenant || c->number != number || c->local != local || c->remote != remote))
        c = c->chain;
    return c;
}

static void heap_set(kb_l4 *l4, uint32_t i, kb_conn *c)
{
    l4->heap[i] = c;
    c->heap_index = (int32_t)i;
}

static void heap_up(kb_l4 *l4, uint32_t i)
{
    kb_conn *c = l4->heap[i];
    while (i && l4->heap[(i - 1) / 2]->deadline > c->deadline) {
        heap_set(l4, i, l4->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_set(l4, i, c);
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
        heap_set(l4, i, l4->heap[child]);
        i = child;
    }
    heap_set(l4, i, c);
}

void kb_l4_heap_remove(kb_l4 *l4, kb_conn *c)
{
    if (c->heap_index < 0)
        return;
    uint32_t i = (uint32_t)c->heap_index;
    kb_conn *moved = l4->heap[--l4->heap_count];
    c->heap_index = -1;
    if (moved == c)
        return;
    heap_set(l4, i, moved);
    heap_up(l4, i);
    heap_down(l4, (uint32_t)moved->heap_index);
}

void kb_l4_touch(kb_conn *c)
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

void kb_l4_tell(kb_conn *c)
{
    c->changed = 1;
    kb_l4_touch(c);
}

/* The heap may know an earlier time than the connection needs: it is asked then, and goes back. */
void kb_l4_schedule(kb_conn *c)
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
        heap_set(l4, l4->heap_count, c);
        l4->heap_count++;
    }
    c->deadline = at;
    heap_up(l4, (uint32_t)c->heap_index);
}

kb_conn *kb_l4_conn_new(kb_l4 *l4, uint32_t tenant, uint32_t number, uint16_t local, uint16_t remote, int opening)
{
    if (l4->counters.connections + l4->ended_count + 1 > l4->heap_room) {
        uint32_t room = l4->heap_room ? 2 * l4->heap_room : 64;
        kb_conn **heap = realloc(l4->heap, room * sizeof *heap);
        if (!heap)
            return NULL;
        l4->heap = heap;
        l4->heap_room = room;
    }
    peer *who = kb_l4_peer_of(l4, tenant, number);
    if (!who)
        return NULL;
    kb_conn *c = kb_l4_may_connect(l4, who) && (!opening || kb_l4_may_open(l4, who)) ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        kb_l4_peer_forget(l4, who);
        return NULL;
    }
    c->l4 = l4;
    c->who = who;
    kb_l4_count(c, 1);
    if (opening) {
        c->opening = 1;
        kb_l4_count_opening(c, 1);
    }
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

void kb_l4_drop_sending(kb_conn *c)
{
    for (chunk *k = c->first, *next; k; k = next) {
        next = k->next;
        kb_l4_chunk_free(c, k);
    }
    c->first = c->last = c->unsent = NULL;
    c->flight_bytes = c->flight_count = c->lost_count = c->sacked = c->agains = 0;
    c->unsent_bytes = 0;
}

void kb_l4_drop_parts(kb_conn *c, part **list)
{
    for (part *p = *list, *next; p; p = next) {
        next = p->next;
        kb_l4_part_free(c, p);
    }
    *list = NULL;
}

void kb_l4_not_opening(kb_conn *c)
{
    if (!c->opening)
        return;
    c->opening = 0;
    kb_l4_count_opening(c, -1);
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
void kb_l4_destroy(kb_conn *c)
{
    kb_l4 *l4 = c->l4;
    if (c->dead)
        return;
    unlink_conn(c);
    kb_l4_heap_remove(l4, c);
    kb_l4_drop_sending(c);
    kb_l4_drop_parts(c, &c->parts);
    kb_l4_drop_parts(c, &c->out_of_order);
    kb_l4_not_opening(c);
    kb_l4_count(c, -1);
    kb_l4_peer_forget(l4, c->who);
    if (c->in_ended)
        l4->ended_count--;
    else
        l4->counters.connections--;
    c->dead = 1;
    if (!c->listed && !c->in_ended)
        free(c);
}
