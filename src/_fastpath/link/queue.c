/* The fair queue of a link; see queue.h. */
#include "link/queue.h"
#include "link/frame.h"

#include <stdlib.h>
#include <string.h>

static void append(kb_flows *list, kb_flow *f)
{
    f->next = NULL;
    if (list->tail)
        list->tail->next = f;
    else
        list->head = f;
    list->tail = f;
}

static kb_flow *shift(kb_flows *list)
{
    kb_flow *f = list->head;
    list->head = f->next;
    if (!list->head)
        list->tail = NULL;
    return f;
}

static void forget(kb_queue *q, kb_flow *f)
{
    kb_flow **at = &q->buckets[f->key % KB_BUCKETS];
    while (*at != f)
        at = &(*at)->chain;
    *at = f->chain;
    q->flows--;
    free(f);
}

static kb_buffer *pop(kb_queue *q, kb_flow *f)
{
    kb_buffer *b = f->head;
    if (b) {
        f->head = b->next;
        if (!f->head)
            f->tail = NULL;
        b->next = NULL;
        f->bytes -= b->length;
        q->bytes -= b->length;
    }
    return b;
}

static void discard(kb_buffer **dropped, kb_buffer *b)
{
    b->next = *dropped;
    *dropped = b;
}

static kb_flow *longest(kb_queue *q)
{
    kb_flow *found = NULL;
    for (int n = 0; n < 2; n++)
        for (kb_flow *f = (n ? &q->old : &q->fresh)->head; f; f = f->next)
            if (!found || f->bytes > found->bytes)
                found = f;
    return found;
}

void kb_queue_put(kb_queue *q, kb_buffer *b, uint32_t key, uint32_t now, size_t limit, kb_buffer **dropped)
{
    kb_flow *f = q->buckets[key % KB_BUCKETS];
    while (f && f->key != key)
        f = f->chain;
    if (!f && q->flows >= KB_FLOWS) {
        key = 0;
        for (f = q->buckets[0]; f && f->key; f = f->chain) {
        }
    }
    if (!f) {
        if (!(f = calloc(1, sizeof *f))) {
            discard(dropped, b);
            return;
        }
        f->key = key;
        f->deficit = KB_QUANTUM;
        f->chain = q->buckets[key % KB_BUCKETS];
        q->buckets[key % KB_BUCKETS] = f;
        q->flows++;
        append(&q->fresh, f);
    }
    b->next = NULL;
    b->at = now;
    if (f->tail)
        f->tail->next = b;
    else
        f->head = b;
    f->tail = b;
    f->bytes += b->length;
    q->bytes += b->length;
    if (b->length > f->largest)
        f->largest = b->length;
    while (q->bytes > limit)
        discard(dropped, pop(q, longest(q)));
}

void kb_queue_put_control(kb_queue *q, kb_buffer *b)
{
    b->next = NULL;
    if (q->control)
        q->control_tail->next = b;
    else
        q->control = b;
    q->control_tail = b;
    q->control_bytes += b->length;
}

static uint32_t root(uint64_t n)
{
    uint64_t r = 0, bit = (uint64_t)1 << 40;
    while (bit > n)
        bit >>= 2;
    for (; bit; bit >>= 2)
        if (n >= r + bit) {
            n -= r + bit;
            r = (r >> 1) + bit;
        } else {
            r >>= 1;
        }
    return (uint32_t)r;
}

static uint32_t later(uint32_t from, uint32_t count) { return from + KB_INTERVAL * 256u / root((uint64_t)count << 16); }

/* Has this flow's head waited too long, for long enough? */
static int too_late(kb_flow *f, const kb_buffer *b, uint32_t now)
{
    if (now - b->at < KB_TARGET || f->bytes < f->largest) { /* what is left is less than one packet: no standing queue */
        f->above = 0;
        return 0;
    }
    if (!f->above) {
        f->above = 1;
        f->first_above = now + KB_INTERVAL;
        return 0;
    }
    return (int32_t)(now - f->first_above) >= 0;
}

/* 1: marked instead of dropped (RFC 3168) */
static int mark(kb_queue *q, kb_buffer *b)
{
    int done = kb_frame_mark(b);
    q->marked += (uint32_t)done;
    return done;
}

static kb_buffer *take(kb_queue *q, kb_flow *f, uint32_t now, kb_buffer **dropped)
{
    kb_buffer *b = pop(q, f);
    if (!b) {
        f->dropping = f->above = 0;
        return NULL;
    }
    int late = too_late(f, b, now);
    if (f->dropping) {
        if (!late)
            f->dropping = 0;
        while (f->dropping && (int32_t)(now - f->drop_next) >= 0) {
            f->count++;
            f->drop_next = later(f->drop_next, f->count);
            if (mark(q, b))
                break;
            discard(dropped, b);
            if (!(b = pop(q, f))) {
                f->dropping = f->above = 0;
                return NULL;
            }
            if (!too_late(f, b, now))
                f->dropping = 0;
        }
    } else if (late) {
        if (!mark(q, b)) {
            discard(dropped, b);
            b = pop(q, f);
            if (b)
                too_late(f, b, now);
        }
        f->dropping = 1;
        uint32_t delta = f->count - f->last_count;
        f->count = delta > 1 && now - f->drop_next < 16 * KB_INTERVAL ? delta : 1;
        f->drop_next = later(now, f->count);
        f->last_count = f->count;
    }
    return b;
}

kb_buffer *kb_queue_get(kb_queue *q, uint32_t now, kb_buffer **dropped)
{
    kb_buffer *b = q->control;
    if (b) {
        q->control = b->next;
        q->control_bytes -= b->length;
        b->next = NULL;
        return b;
    }
    for (;;) {
        kb_flows *list = q->fresh.head ? &q->fresh : &q->old;
        kb_flow *f = list->head;
        if (!f)
            return NULL;
        if (f->deficit <= 0) {
            f->deficit += KB_QUANTUM;
            append(&q->old, shift(list));
            continue;
        }
        if ((b = take(q, f, now, dropped))) {
            f->deficit -= (int32_t)b->length;
            return b;
        }
        shift(list);
        if (list == &q->fresh && q->old.head)
            append(&q->old, f); /* one turn among the others, else it could always be new */
        else
            forget(q, f);
    }
}

void kb_queue_clear(kb_queue *q, kb_pool *pool)
{
    while (q->control) {
        kb_buffer *b = q->control;
        q->control = b->next;
        kb_buffer_free(pool, b);
    }
    for (int n = 0; n < 2; n++) {
        kb_flows *list = n ? &q->old : &q->fresh;
        while (list->head) {
            kb_flow *f = shift(list);
            for (kb_buffer *b; (b = pop(q, f));)
                kb_buffer_free(pool, b);
            free(f);
        }
    }
    memset(q, 0, sizeof *q);
}
