/* Events for Python: a queue, and an eventfd that is readable while it holds something. */
#include "plane/internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -1: there is no room (only for what may be lost) */
int kb_emit(kb_plane *plane, int type, port *p, int kind, uint32_t tenant_number, uint32_t source, const void *data, size_t length)
{
    size_t cost = length + sizeof(event_node);
    tenant *t = kb_tenant_of(plane, tenant_number, 1); /* links that are not admitted, and other relays, share the first */
    if (!t)
        return -1;
    if (type == KB_EVENT_FRAME || type == KB_EVENT_SEGMENT) {
        int control = type == KB_EVENT_FRAME;
        size_t own = KB_EVENTS_LINK_BYTES + (control ? KB_EVENTS_CONTROL_BYTES : 0), all = control ? 2 * KB_EVENTS_BYTES : KB_EVENTS_BYTES;
        if (p->event_bytes + cost > own || t->event_bytes + cost > kb_share_of(all, plane->event_bytes, KB_EVENTS_LINK_BYTES + KB_EVENTS_CONTROL_BYTES)) {
            p->counters.events_full++;
            return -1;
        }
    }
    event_node *added = calloc(1, sizeof *added);
    if (!added)
        return -1;
    if (length) {
        if (!(added->event.data = malloc(length))) {
            free(added);
            return -1;
        }
        memcpy(added->event.data, data, length);
    }
    added->event.type = type;
    added->event.port = p->id;
    added->event.kind = kind;
    added->event.tenant = tenant_number;
    added->event.source = source;
    added->event.length = (uint32_t)length;
    plane->event_bytes += cost;
    t->event_bytes += cost;
    p->event_bytes += cost;
    if (plane->events_tail)
        plane->events_tail->next = added;
    else
        plane->events_head = added;
    plane->events_tail = added;
    uint64_t one = 1;
    if (write(plane->notify, &one, sizeof one) < 0) {
        /* the counter is at its limit: it is readable all the same */
    }
    return 0;
}

int kb_event_take(kb_plane *plane, kb_event *event)
{
    event_node *first = plane->events_head;
    if (!first) {
        uint64_t count;
        if (read(plane->notify, &count, sizeof count) < 0) {
            /* it was not set */
        }
        return 0;
    }
    plane->events_head = first->next;
    if (!plane->events_head)
        plane->events_tail = NULL;
    size_t cost = first->event.length + sizeof *first;
    port *p = kb_port_of(plane, first->event.port);
    plane->event_bytes -= cost;
    kb_tenant_of(plane, first->event.tenant, 0)->event_bytes -= cost;
    if (p)
        p->event_bytes -= cost;
    *event = first->event;
    free(first);
    return 1;
}

void kb_events_clear(kb_plane *plane)
{
    kb_event event;
    while (kb_event_take(plane, &event))
        free(event.data);
}
