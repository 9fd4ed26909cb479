/* See l4_plane.h. */
#include "l4_plane.h"
#include "inside.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static int below_send(void *context, uint32_t tenant, uint32_t number, const uint8_t *data, size_t length)
{
    return kb_locked_send_segment(context, tenant, number, data, length);
}

static uint32_t below_random(void *context)
{
    (void)context;
    uint32_t value = 0;
    if (getrandom(&value, sizeof value, GRND_NONBLOCK) != sizeof value)
        value = (uint32_t)microseconds();
    return value;
}

kb_l4 *kb_plane_l4(kb_plane *plane)
{
    if (!plane->l4) {
        kb_l4_below below = {plane, below_send, below_random};
        plane->l4 = kb_l4_new(plane->number, &below, KB_L4_BUDGET);
    }
    return plane->l4;
}

static void list_handle(kb_handle *h)
{
    kb_desk *desk = h->desk;
    if (h->listed)
        return;
    h->listed = 1;
    h->next = NULL;
    if (desk->head) {
        desk->tail->next = h;
    } else {
        desk->head = h;
        uint64_t one = 1;
        if (desk->notify >= 0 && write(desk->notify, &one, sizeof one) < 0) {
            /* it is set already */
        }
    }
    desk->tail = h;
}

static void on_ready(void *user, kb_conn *conn)
{
    (void)conn;
    list_handle(user);
}

static kb_handle *handle_new(kb_desk *desk)
{
    kb_handle *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->desk = desk;
    h->older = desk->newest;
    if (h->older)
        h->older->newer = h;
    desk->newest = h;
    return h;
}

static void handle_drop(kb_handle *h)
{
    if (h->newer)
        h->newer->older = h->older;
    else
        h->desk->newest = h->older;
    if (h->older)
        h->older->newer = h->newer;
    free(h);
}

kb_handle *kb_desk_adopt(kb_desk *desk, kb_conn *conn)
{
    kb_handle *h = handle_new(desk);
    if (!h)
        return NULL;
    h->conn = conn;
    h->fresh = 1;
    kb_conn_own(conn, on_ready, h);
    list_handle(h);
    return h;
}

void kb_desk_accept(void *desk, kb_conn *conn) { kb_desk_adopt(desk, conn); }

kb_handle *kb_desk_connect(kb_desk *desk, kb_l4 *l4, uint32_t tenant, uint32_t peer, uint16_t port, uint64_t now)
{
    kb_handle *h = handle_new(desk);
    if (!h)
        return NULL;
    h->conn = kb_l4_connect(l4, tenant, peer, port, now, on_ready, h);
    if (!h->conn) {
        handle_drop(h);
        return NULL;
    }
    return h;
}

kb_handle *kb_desk_next(kb_desk *desk)
{
    kb_handle *h = desk->head;
    if (h) {
        desk->head = h->next;
        h->listed = 0;
        return h;
    }
    uint64_t count;
    if (desk->notify >= 0 && read(desk->notify, &count, sizeof count) < 0) {
        /* nobody had poked it */
    }
    return NULL;
}

void kb_handle_free(kb_handle *h)
{
    kb_desk *desk = h->desk;
    kb_handle *previous = NULL;
    for (kb_handle *at = h->listed ? desk->head : NULL; at; previous = at, at = at->next)
        if (at == h) {
            if (previous)
                previous->next = h->next;
            else
                desk->head = h->next;
            if (desk->tail == h)
                desk->tail = previous;
            break;
        }
    kb_conn_release(h->conn);
    handle_drop(h);
}

void kb_desk_clear(kb_desk *desk)
{
    while (desk->newest)
        kb_handle_free(desk->newest);
}
