/* See link.h. */
#include "link/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COALESCE (8 * 1024) /* smaller frames share a record */

void kb_link_open(kb_link *l, kb_workspace *workspace, kb_transport *transport)
{
    l->workspace = workspace;
    l->transport = transport;
}

void kb_link_close(kb_link *l)
{
    if (!l->transport)
        return;
    l->transport->type->close(l->transport);
    l->transport = NULL;
    if (l->queue) {
        kb_queue_clear(l->queue, &l->workspace->pool);
        free(l->queue);
        l->queue = NULL;
    }
    kb_buffer_free(&l->workspace->pool, l->reader.frame);
    l->reader.frame = NULL;
}

void kb_link_release_buffers(kb_link *l)
{
    l->transport->type->release_buffers(l->transport);
    if (l->queue && !l->queue->bytes && !l->queue->control && !l->queue->flows) {
        free(l->queue);
        l->queue = NULL;
    }
}

/* -- sending -------------------------------------------------------------------------------------------------------------- */

size_t kb_link_queued(const kb_link *l) { return l->queue ? l->queue->bytes : 0; }

size_t kb_link_waiting(const kb_link *l)
{
    size_t unsent = l->transport ? l->transport->unsent : 0;
    return l->queue ? unsent + l->queue->bytes + l->queue->control_bytes : unsent;
}

int kb_link_can_send(const kb_link *l) { return !l->transport->unsent; }

static kb_queue *queue_of(kb_link *l)
{
    if (!l->queue)
        l->queue = calloc(1, sizeof *l->queue);
    return l->queue;
}

/* How many they were. */
static uint64_t discard(kb_workspace *w, kb_buffer *dropped)
{
    uint64_t count = 0;
    for (kb_buffer *b = dropped, *next; b; b = next, count++) {
        next = b->next;
        kb_buffer_free(&w->pool, b);
    }
    return count;
}

int kb_link_enqueue(kb_link *l, int kind, int tagged, uint32_t tenant, kb_buffer *b, size_t length, uint32_t flow, uint64_t now, size_t limit, int own)
{
    kb_queue *q = queue_of(l);
    size_t unsent = l->transport->unsent; /* what is encrypted and the socket has not taken counts, too */
    limit -= unsent < limit / 2 ? unsent : limit / 2;
    if (!q || (own && q->bytes > limit)) {
        l->queue_full++;
        kb_buffer_free(&l->workspace->pool, b);
        return -1;
    }
    kb_frame_seal(b, kind, length, tagged, tenant);
    kb_buffer *dropped = NULL;
    kb_queue_put(q, b, flow, (uint32_t)now, own ? SIZE_MAX : limit, &dropped);
    int kept = dropped != b;
    l->queue_full += discard(l->workspace, dropped);
    return kept ? 0 : -1;
}

int kb_link_enqueue_control(kb_link *l, const uint8_t *data, size_t length)
{
    kb_queue *q = queue_of(l);
    /* control may pass a full queue, but not without end: a link that takes nothing is closed by its silence */
    kb_buffer *b = q && q->control_bytes <= KB_QUEUE_BYTES ? kb_buffer_new(&l->workspace->pool, length) : NULL;
    if (!b) {
        l->queue_full++;
        return -1;
    }
    if (length)
        memcpy(b->data + KB_HEADROOM, data, length);
    kb_frame_seal(b, KB_CONTROL, length, 0, 0);
    kb_queue_put_control(q, b);
    return 0;
}

static int encrypt(kb_link *l, const uint8_t *data, size_t length)
{
    if (l->transport->type->write(l->transport, data, length) < 0)
        return -1;
    l->tx_bytes += length;
    return 0;
}

/* Encrypts frames until a batch is full or the queue is empty. */
static int fill(kb_link *l, uint64_t now)
{
    kb_workspace *w = l->workspace;
    size_t gathered = 0;
    int broken = 0;
    while (!broken && w->staged_length + gathered < l->transport->path.batch) {
        kb_buffer *dropped = NULL;
        kb_buffer *b = kb_queue_get(l->queue, (uint32_t)now, &dropped);
        l->delay_dropped += discard(w, dropped);
        l->marked += l->queue->marked;
        l->queue->marked = 0;
        if (!b)
            break;
        const uint8_t *frame = b->data + b->start;
        if (gathered && gathered + b->length > KB_RECORD) {
            broken = encrypt(l, w->plain, gathered);
            gathered = 0;
        }
        if (b->length < COALESCE) {
            memcpy(w->plain + gathered, frame, b->length);
            gathered += b->length;
        } else {
            if (gathered) { /* fill its record up with the beginning of this frame */
                size_t rest = KB_RECORD - gathered < b->length ? KB_RECORD - gathered : b->length;
                memcpy(w->plain + gathered, frame, rest);
                broken = encrypt(l, w->plain, gathered + rest) < 0 || encrypt(l, frame + rest, b->length - rest) < 0;
                gathered = 0;
            } else {
                broken = encrypt(l, frame, b->length);
            }
        }
        kb_buffer_free(&w->pool, b);
    }
    if (!broken && gathered)
        broken = encrypt(l, w->plain, gathered);
    return broken ? -1 : 0;
}

static int broken(char *error)
{
    snprintf(error, KB_ERROR, "%s", errno ? strerror(errno) : "the connection broke while sending");
    return -1;
}

int kb_link_flush(kb_link *l, uint64_t now, size_t most, char *error)
{
    kb_transport *t = l->transport;
    size_t total = 0;
    int more = 0;
    l->workspace->staged_length = 0;
    for (;;) {
        errno = 0;
        if (t->unsent) {
            int left = t->type->flush(t);
            if (left < 0)
                return broken(error);
            if (left)
                break;
        }
        if (total >= most) {
            more = 1;
            break;
        }
        if (!l->queue || (!l->queue->bytes && !l->queue->control))
            break;
        if (fill(l, now) < 0 || t->type->flush(t) < 0)
            return broken(error);
        total += t->path.batch;
        if (t->unsent)
            break;
    }
    t->type->inspect_path(t, now);
    return more;
}

/* -- receiving ------------------------------------------------------------------------------------------------------------ */

int kb_link_read(kb_link *l, int admitted, size_t *budget, kb_buffer **frame, char *error)
{
    kb_transport *t = l->transport;
    while (*budget) {
        uint8_t *into;
        size_t room = kb_reader_want(&l->reader, &into, l->workspace->plain, KB_RECORD);
        ssize_t n = t->type->read(t, into, room, error);
        if (n <= 0)
            return (int)n;
        *budget = (size_t)n < *budget ? *budget - (size_t)n : 0;
        l->rx_bytes += (uint64_t)n;
        int got = kb_reader_took(&l->reader, (size_t)n, admitted, &l->workspace->pool);
        if (got < 0) {
            kb_reader_explain(&l->reader, got, error, KB_ERROR);
            return -1;
        }
        if (got) {
            *frame = l->reader.frame;
            l->reader.frame = NULL;
            return 1;
        }
    }
    return 0;
}
