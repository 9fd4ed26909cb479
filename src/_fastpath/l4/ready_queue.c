/* See ready_queue.h. */
#include "l4/ready_queue.h"

#include <stdlib.h>
#include <unistd.h>

static void list_handle(kb_handle *h)
{
    kb_ready_queue *ready_queue = h->ready_queue;
    if (h->listed)
        return;
    h->listed = 1;
    h->next = NULL;
    if (ready_queue->head) {
        ready_queue->tail->next = h;
    } else {
        ready_queue->head = h;
        uint64_t one = 1;
        if (ready_queue->notify >= 0 && write(ready_queue->notify, &one, sizeof one) < 0) {
            /* it is set already */
        }
    }
    ready_queue->tail = h;
}

static void on_ready(void *user, kb_conn *conn)
{
    (void)conn;
    list_handle(user);
}

static kb_handle *handle_new(kb_ready_queue *ready_queue)
{
    kb_handle *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->ready_queue = ready_queue;
    h->older = ready_queue->newest;
    if (h->older)
        h->older->newer = h;
    ready_queue->newest = h;
    return h;
}

static void handle_drop(kb_handle *h)
{
    if (h->newer)
        h->newer->older = h->older;
    else
        h->ready_queue->newest = h->older;
    if (h->older)
        h->older->newer = h->newer;
    free(h);
}

void kb_ready_queue_accept(void *context, kb_conn *conn)
{
    kb_ready_queue *ready_queue = context;
    int in_pace = kb_conn_in_pace(conn, ready_queue->pace_of_node, ready_queue->pace_of_tenant);
    kb_handle *h = in_pace ? handle_new(ready_queue) : NULL;
    if (!h) {
        kb_conn_release(conn); /* it may have had an owner, who has let go of it */
        return;
    }
    h->conn = conn;
    h->fresh = 1;
    kb_conn_own(conn, on_ready, h);
    list_handle(h);
}

kb_handle *kb_ready_queue_connect(kb_ready_queue *ready_queue, kb_l4 *l4, uint32_t tenant, uint32_t peer, uint16_t port, uint64_t now)
{
    kb_handle *h = handle_new(ready_queue);
    if (!h)
        return NULL;
    h->conn = kb_l4_connect(l4, tenant, peer, port, now, on_ready, h);
    if (!h->conn) {
        handle_drop(h);
        return NULL;
    }
    return h;
}

kb_handle *kb_ready_queue_next(kb_ready_queue *ready_queue)
{
    kb_handle *h = ready_queue->head;
    if (h) {
        ready_queue->head = h->next;
        h->listed = 0;
        return h;
    }
    uint64_t count;
    if (ready_queue->notify >= 0 && read(ready_queue->notify, &count, sizeof count) < 0) {
        /* nobody had poked it */
    }
    return NULL;
}

void kb_handle_free(kb_handle *h)
{
    kb_ready_queue *ready_queue = h->ready_queue;
    kb_handle *previous = NULL;
    for (kb_handle *at = h->listed ? ready_queue->head : NULL; at; previous = at, at = at->next)
        if (at == h) {
            if (previous)
                previous->next = h->next;
            else
                ready_queue->head = h->next;
            if (ready_queue->tail == h)
                ready_queue->tail = previous;
            break;
        }
    kb_conn_release(h->conn);
    handle_drop(h);
}

void kb_ready_queue_clear(kb_ready_queue *ready_queue)
{
    while (ready_queue->newest)
        kb_handle_free(ready_queue->newest);
}
