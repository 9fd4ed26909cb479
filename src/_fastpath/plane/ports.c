/* Ports and tenants: ids, lists of ports with work left, the end of a port, nodes and their links, events for Python. */
#include "plane/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* -- events for Python ---------------------------------------------------------------------------------------------------- */

/* Dynamic thresholds, as in l4/budget.c: one tenant alone gets half, and below its reserve none is refused. */
size_t kb_share_of(size_t all, size_t used, size_t reserve) { return all > used && all - used > reserve ? all - used : reserve; }

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

/* -- ports ------------------------------------------------------------------------------------------------------------------ */

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

uint8_t kb_ids_without(int *ids, uint8_t count, int id)
{
    uint8_t kept = 0;
    for (uint8_t i = 0; i < count; i++)
        if (ids[i] != id)
            ids[kept++] = ids[i];
    return kept;
}

/* No flow goes to this port any more. A peer may stand at many nodes; it goes seldom enough to look at them all. */
void kb_port_forget_number(kb_plane *plane, port *p)
{
    if (!p->admitted)
        return;
    if (p->peer) {
        for (uint32_t i = 0; i < plane->tenant_capacity; i++)
            for (uint32_t n = 0; plane->tenants[i] && n < plane->tenants[i]->numbers; n++) {
                node *at = &plane->tenants[i]->nodes[n];
                at->next_hop_count = kb_ids_without(at->next_hops, at->next_hop_count, p->id);
            }
        return;
    }
    tenant *t = p->tenant < plane->tenant_capacity ? plane->tenants[p->tenant] : NULL;
    if (!t)
        return;
    if (p->kind == TUN && t->tun == p->id)
        t->tun = -1;
    if (p->kind == LINK && p->number < t->numbers)
        t->nodes[p->number].link_count = kb_ids_without(t->nodes[p->number].links, t->nodes[p->number].link_count, p->id);
}

void kb_port_close(kb_plane *plane, port *p)
{
    plane->ports[p->id & 0xffff] = NULL;
    plane->vacant[plane->vacant_count++] = p->id & 0xffff;
    kb_port_set_deadline_list(plane, p, -1);
    if (p->kind == LINK && !p->up)
        plane->handshakes--;
    if (p->kind == LINK)
        kb_port_close_link(plane, p);
    free(p->prefixes);
    p->prefixes = NULL;
    close(p->fd);
    p->down = 1;
    p->deferred_next = plane->deferred;
    plane->deferred = p;
}

/* Takes back what port_new gave; the descriptor stays the caller's. */
void kb_port_discard(kb_plane *plane, port *p)
{
    plane->ports[p->id & 0xffff] = NULL;
    plane->vacant[plane->vacant_count++] = p->id & 0xffff;
    free(p);
}

void kb_port_down(kb_plane *plane, port *p, const char *reason)
{
    if (p->down)
        return;
    kb_port_forget_number(plane, p);
    kb_emit(plane, KB_EVENT_DOWN, p, 0, p->tenant, 0, reason, strlen(reason));
    kb_port_close(plane, p);
}

static void drop_listed(port **head, port **tail, int where)
{
    port *kept_head = NULL, *kept_tail = NULL;
    for (port *p = *head, *next; p; p = next) {
        next = where == TO_FLUSH ? p->flush_next : p->read_next;
        if (p->down) {
            p->listed &= (uint8_t)~where;
            continue;
        }
        if (where == TO_FLUSH)
            p->flush_next = NULL;
        else
            p->read_next = NULL;
        if (!kept_head)
            kept_head = p;
        else if (where == TO_FLUSH)
            kept_tail->flush_next = p;
        else
            kept_tail->read_next = p;
        kept_tail = p;
    }
    *head = kept_head;
    *tail = kept_tail;
}

/* Frees ports that went down: now nobody on the stack looks at them any more. */
void kb_free_deferred(kb_plane *plane)
{
    drop_listed(&plane->flush_head, &plane->flush_tail, TO_FLUSH);
    drop_listed(&plane->read_head, &plane->read_tail, TO_READ);
    while (plane->deferred) {
        port *p = plane->deferred;
        plane->deferred = p->deferred_next;
        free(p);
    }
}

tenant *kb_tenant_of(kb_plane *plane, uint32_t number, int create)
{
    if (number >= KB_MAX_TENANTS)
        return NULL;
    if (number >= plane->tenant_capacity) {
        if (!create)
            return NULL;
        uint32_t capacity = plane->tenant_capacity ? plane->tenant_capacity : 4;
        while (capacity <= number)
            capacity *= 2;
        tenant **tenants = realloc(plane->tenants, capacity * sizeof *tenants);
        if (!tenants)
            return NULL;
        memset(tenants + plane->tenant_capacity, 0, (capacity - plane->tenant_capacity) * sizeof *tenants);
        plane->tenants = tenants;
        plane->tenant_capacity = capacity;
    }
    if (!plane->tenants[number] && create) {
        tenant *t = calloc(1, sizeof *t);
        if (t) {
            t->tun = -1;
            t->v4 = kb_trie_new();
            t->v6 = kb_trie_new();
        }
        if (!t || !t->v4 || !t->v6) {
            if (t) {
                kb_trie_free(t->v4);
                kb_trie_free(t->v6);
            }
            free(t);
            return NULL;
        }
        plane->tenants[number] = t;
    }
    return plane->tenants[number];
}

node *kb_node_of(tenant *t, uint32_t number, int create)
{
    if (number >= KB_MAX_NUMBER)
        return NULL;
    if (number >= t->numbers) {
        if (!create)
            return NULL;
        uint32_t numbers = t->numbers ? t->numbers : 16;
        while (numbers <= number)
            numbers *= 2;
        node *nodes = realloc(t->nodes, numbers * sizeof *nodes);
        if (!nodes)
            return NULL;
        memset(nodes + t->numbers, 0, (numbers - t->numbers) * sizeof *nodes);
        t->nodes = nodes;
        t->numbers = numbers;
    }
    return &t->nodes[number];
}
