/* See in_plane.h. */
#include "l4/in_plane.h"

#include <stdlib.h>
#include <sys/random.h>

typedef struct {
    kb_handler handler; /* first: the plane knows us by it */
    kb_l4 *l4;
} plane_l4;

static int below_send(void *plane, uint32_t tenant, uint32_t number, const uint8_t *data, size_t length)
{
    return kb_plane_send_segment(plane, tenant, number, data, length);
}

static uint32_t below_random(void *plane)
{
    (void)plane;
    uint32_t value = 0;
    if (getrandom(&value, sizeof value, GRND_NONBLOCK) != sizeof value)
        value = (uint32_t)kb_microseconds();
    return value;
}

static void receive(void *l4, uint32_t tenant, uint32_t source, const uint8_t *data, size_t length, uint64_t now)
{
    kb_l4_receive(l4, tenant, source, data, length, now);
}

static void work(kb_handler *h) { h->deadline = kb_l4_work(((plane_l4 *)h)->l4, kb_plane_now(h->plane)); }

static void end(kb_handler *h)
{
    kb_l4_free(((plane_l4 *)h)->l4);
    free(h);
}

static const kb_handler_type l4_type = {work, end};

static plane_l4 *find(const kb_plane *plane) { return (plane_l4 *)kb_handler_find(plane, &l4_type); }

kb_l4 *kb_plane_l4(kb_plane *plane)
{
    plane_l4 *of = find(plane);
    if (of)
        return of->l4;
    kb_l4_below below = {plane, below_send, below_random};
    of = calloc(1, sizeof *of);
    if (!of || !(of->l4 = kb_l4_new(kb_plane_number(plane), &below, KB_L4_BUDGET))) {
        free(of);
        return NULL;
    }
    kb_handler_add(plane, &of->handler, &l4_type);
    kb_receive_segments(plane, receive, of->l4);
    return of->l4;
}

void kb_unlock_l4(kb_plane *plane)
{
    const plane_l4 *of = find(plane);
    int is_due = of && kb_l4_next(of->l4) < of->handler.deadline;
    kb_unlock_quietly(plane);
    if (is_due)
        kb_wake(plane);
}
