/* The table of ports, whose ids are not reused soon, and the lists of ports with work left. */
#include "plane/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

port *kb_port_of(kb_plane *plane, int id)
{
    int slot = id & 0xffff;
    if (id < 0 || slot >= plane->port_capacity || !plane->ports[slot] || plane->ports[slot]->id != id)
        return NULL;
    return plane->ports[slot];
}

static int more_slots(kb_plane *plane)
{
    int before = plane->port_capacity, capacity = before ? before * 2 : 16;
    if (capacity > 65536)
        return -1;
    port **ports = realloc(plane->ports, (size_t)capacity * sizeof *ports);
    if (ports)
        plane->ports = ports;
    uint16_t *generations = realloc(plane->generations, (size_t)capacity * sizeof *generations);
    if (generations)
        plane->generations = generations;
    int *vacant = realloc(plane->vacant, (size_t)capacity * sizeof *vacant);
    if (vacant)
        plane->vacant = vacant;
    if (!ports || !generations || !vacant)
        return -1;
    memset(ports + before, 0, (size_t)(capacity - before) * sizeof *ports);
    memset(generations + before, 0, (size_t)(capacity - before) * sizeof *generations);
    for (int slot = capacity - 1; slot >= before; slot--)
        vacant[plane->vacant_count++] = slot;
    plane->port_capacity = capacity;
    return 0;
}

port *kb_port_new(kb_plane *plane, int fd, int kind, char *error)
{
    port *p = plane->vacant_count || more_slots(plane) == 0 ? calloc(1, sizeof *p) : NULL;
    if (!p) {
        snprintf(error, 256, plane->vacant_count ? "no memory for a port" : "more than 65536 ports, or no memory");
        return NULL;
    }
    int slot = plane->vacant[--plane->vacant_count];
    /* ids are not reused soon: a stale one must not name another link */
    plane->generations[slot] = (uint16_t)((plane->generations[slot] + 1) & 0x7fff);
    p->id = plane->generations[slot] << 16 | slot;
    p->plane = plane;
    p->fd = fd;
    p->kind = kind;
    plane->ports[slot] = p;
    return p;
}

int kb_port_poll(kb_plane *plane, port *p, uint32_t events)
{
    struct epoll_event e = {.events = events, .data = {.u64 = (uint64_t)(uint32_t)p->id}};
    int op = p->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (p->events == events || p->down)
        return 0;
    p->events = events;
    return epoll_ctl(plane->epoll, op, p->fd, &e);
}

/* To the end of a list of ports with work left */
void kb_port_enlist(kb_plane *plane, port *p, int where)
{
    if (p->listed & where || p->down)
        return;
    p->listed |= (uint8_t)where;
    if (where == TO_FLUSH) {
        p->flush_next = NULL;
        if (plane->flush_head)
            plane->flush_tail->flush_next = p;
        else
            plane->flush_head = p;
        plane->flush_tail = p;
    } else {
        p->read_next = NULL;
        if (plane->read_head)
            plane->read_tail->read_next = p;
        else
            plane->read_head = p;
        plane->read_tail = p;
    }
}

/* Lists whose oldest entry is the first; an entry that is kept again goes to the end. */
void kb_port_set_deadline_list(kb_plane *plane, port *p, int list)
{
    if (p->list == (uint8_t)(list + 1) && (list < 0 || plane->now - p->since < 1000000u))
        return;
    if (p->list) {
        int from = p->list - 1;
        *(p->previous ? &p->previous->next : &plane->lists[from]) = p->next;
        *(p->next ? &p->next->previous : &plane->lists_tail[from]) = p->previous;
        p->list = 0;
    }
    if (list < 0 || p->down)
        return;
    p->since = plane->now;
    p->next = NULL;
    p->previous = plane->lists_tail[list];
    *(p->previous ? &p->previous->next : &plane->lists[list]) = p;
    plane->lists_tail[list] = p;
    p->list = (uint8_t)(list + 1);
}

/* Takes back what port_new gave; the descriptor stays the caller's. */
void kb_port_discard(kb_plane *plane, port *p)
{
    plane->ports[p->id & 0xffff] = NULL;
    plane->vacant[plane->vacant_count++] = p->id & 0xffff;
    free(p);
}
