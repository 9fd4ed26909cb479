/* What Python and other C code may ask of the data plane; plane.h says what each call means. */
#include "plane/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

/* -- for C code in the thread --------------------------------------------------------------------------------------------------- */

void kb_lock(kb_plane *plane)
{
    kb_plane_enter(plane);
    plane->now = kb_microseconds();
}

void kb_unlock(kb_plane *plane)
{
    kb_plane_leave(plane);
    kb_wake(plane);
}

void kb_unlock_quietly(kb_plane *plane) { kb_plane_leave(plane); }

uint64_t kb_plane_now(const kb_plane *plane) { return plane->now; }

uint32_t kb_plane_number(const kb_plane *plane) { return plane->number; }

int kb_plane_send_segment(kb_plane *plane, uint32_t tenant_number, uint32_t number, const uint8_t *data, size_t length)
{
    return kb_forward_segment(plane, tenant_number, number, data, length);
}

void kb_receive_segments(kb_plane *plane, kb_segment_receiver receiver, void *context)
{
    plane->receiver = receiver;
    plane->receiver_context = context;
}

void kb_handler_add(kb_plane *plane, kb_handler *h, const kb_handler_type *type)
{
    *h = (kb_handler){type, plane->handlers, plane, KB_NEVER};
    plane->handlers = h;
}

kb_handler *kb_handler_find(const kb_plane *plane, const kb_handler_type *type)
{
    kb_handler *h = plane->handlers;
    while (h && h->type != type)
        h = h->next;
    return h;
}

/* -- for Python ----------------------------------------------------------------------------------------------------------------- */

int kb_next_event(kb_plane *plane, kb_event *event)
{
    kb_plane_enter(plane);
    int taken = kb_event_take(plane, event);
    kb_plane_leave(plane);
    return taken;
}

int kb_add_tun(kb_plane *plane, int fd, uint32_t tenant_number, int vnet_hdr, int uso, char *error)
{
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) {
        snprintf(error, 256, "TUN: %s", strerror(errno));
        return -1;
    }
    kb_lock(plane);
    tenant *t = kb_tenant_of(plane, tenant_number, 1);
    if (t && t->tun >= 0)
        snprintf(error, 256, "tenant number %u has a TUN already", tenant_number);
    port *p = t && t->tun < 0 ? kb_port_new(plane, fd, TUN, error) : NULL;
    int id = -1;
    if (p) {
        p->tenant = tenant_number;
        p->vnet_hdr = vnet_hdr != 0;
        p->uso = uso != 0;
        p->up = p->admitted = 1;
        p->number = plane->number;
        id = p->id;
        if (kb_port_poll(plane, p, EPOLLIN) < 0) {
            snprintf(error, 256, "TUN: %s", strerror(errno));
            kb_port_discard(plane, p);
            id = -1;
        } else {
            t->tun = id;
        }
    } else if (!error[0]) {
        snprintf(error, 256, "tenant number %u", tenant_number);
    }
    kb_plane_leave(plane);
    return id;
}

int kb_add_link(kb_plane *plane, int fd, kb_tls *tls, const char *server_name, const char *congestion, char *error)
{
    kb_lock(plane);
    port *p = kb_port_new(plane, fd, LINK, error);
    int id = -1;
    if (p) {
        id = p->id;
        int opened = kb_port_open_link(plane, p, fd, tls, server_name, congestion, error);
        if (opened == 0 && kb_port_poll(plane, p, EPOLLIN | EPOLLOUT) < 0) {
            snprintf(error, 256, "link: %s", strerror(errno));
            opened = -1;
        }
        if (opened < 0) {
            kb_link_close(&p->link);
            kb_port_discard(plane, p);
            id = -1;
        } else {
            plane->handshakes++;
            kb_port_set_deadline_list(plane, p, HANDSHAKING);
            kb_limit_handshakes(plane, p);
        }
    }
    kb_unlock(plane); /* the handshake's deadline needs a timeout */
    return id;
}

int kb_admit(kb_plane *plane, int id, uint32_t tenant_number, uint32_t number, const kb_prefix *prefixes, int count)
{
    if (number >= KB_MAX_NUMBER || count < 0 || count > KB_MAX_PREFIXES)
        return -1;
    kb_prefix *copy = NULL;
    if (count) {
        if (!(copy = malloc((size_t)count * sizeof *copy)))
            return -1;
        memcpy(copy, prefixes, (size_t)count * sizeof *copy);
    }
    int result = -1;
    kb_lock(plane);
    port *p = kb_port_of(plane, id);
    tenant *t = p && p->kind == LINK ? kb_tenant_of(plane, tenant_number, 1) : NULL;
    node *n = t ? kb_node_of(t, number, 1) : NULL;
    if (n && number != plane->number) {
        kb_port_forget_number(plane, p); /* of an earlier admission */
        if (n->link_count == KB_MAX_LINKS_PER_NODE) { /* the oldest gives way; it stays open until Python drops it */
            memmove(n->links, n->links + 1, (KB_MAX_LINKS_PER_NODE - 1) * sizeof *n->links);
            n->link_count--;
        }
        free(p->prefixes);
        p->prefixes = copy;
        p->prefix_count = count;
        copy = NULL;
        size_t queued = kb_link_queued(&p->link);
        kb_count_queued(plane, p, queued, 0);
        p->tenant = tenant_number;
        p->number = number;
        p->admitted = 1;
        p->peer = 0;
        kb_count_queued(plane, p, 0, queued);
        n->links[n->link_count++] = id;
        result = 0;
    }
    kb_plane_leave(plane);
    free(copy);
    return result;
}

int kb_admit_peer(kb_plane *plane, int id)
{
    kb_lock(plane);
    port *p = kb_port_of(plane, id);
    int result = p && p->kind == LINK ? 0 : -1;
    if (!result) {
        kb_port_forget_number(plane, p);
        free(p->prefixes);
        p->prefixes = NULL;
        p->prefix_count = 0;
        size_t queued = kb_link_queued(&p->link);
        kb_count_queued(plane, p, queued, 0);
        p->tenant = p->number = 0;
        p->admitted = p->peer = 1;
        kb_count_queued(plane, p, 0, queued);
    }
    kb_plane_leave(plane);
    return result;
}

int kb_add_next_hop(kb_plane *plane, uint32_t tenant_number, uint32_t number, int id)
{
    kb_lock(plane);
    port *p = kb_port_of(plane, id);
    tenant *t = p && p->peer ? kb_tenant_of(plane, tenant_number, 1) : NULL;
    node *n = t && number != plane->number ? kb_node_of(t, number, 1) : NULL;
    int result = -1;
    if (n) {
        n->next_hop_count = kb_ids_without(n->next_hops, n->next_hop_count, id);
        if (n->next_hop_count < KB_MAX_NEXT_HOPS) {
            n->next_hops[n->next_hop_count++] = id;
            result = 0;
        }
    }
    kb_plane_leave(plane);
    return result;
}

void kb_remove_next_hops(kb_plane *plane, uint32_t tenant_number, uint32_t number)
{
    kb_lock(plane);
    tenant *t = kb_tenant_of(plane, tenant_number, 0);
    node *n = t ? kb_node_of(t, number, 0) : NULL;
    if (n)
        n->next_hop_count = 0;
    kb_plane_leave(plane);
}

int kb_add_route(kb_plane *plane, uint32_t tenant_number, const kb_prefix *prefix, uint32_t number, uint16_t mtu)
{
    if (prefix->bits > (prefix->v6 ? 128 : 32) || number >= KB_MAX_NUMBER)
        return -1;
    kb_lock(plane);
    tenant *t = kb_tenant_of(plane, tenant_number, 1);
    int result = t ? kb_trie_add(prefix->v6 ? t->v6 : t->v4, prefix->address, prefix->bits, (int)number, mtu) : -1;
    kb_plane_leave(plane);
    return result;
}

int kb_remove_route(kb_plane *plane, uint32_t tenant_number, const kb_prefix *prefix)
{
    if (prefix->bits > (prefix->v6 ? 128 : 32))
        return -1;
    kb_lock(plane);
    tenant *t = kb_tenant_of(plane, tenant_number, 0);
    if (t)
        kb_trie_remove(prefix->v6 ? t->v6 : t->v4, prefix->address, prefix->bits, 0);
    kb_plane_leave(plane);
    return t ? 0 : -1;
}

int kb_lookup(kb_plane *plane, uint32_t tenant_number, const kb_prefix *address)
{
    kb_lock(plane);
    tenant *t = kb_tenant_of(plane, tenant_number, 0);
    const kb_trie *route = t ? kb_trie_lookup(address->v6 ? t->v6 : t->v4, address->address, address->v6 ? 128 : 32) : NULL;
    int found = route ? route->number : -1;
    kb_plane_leave(plane);
    return found;
}

int kb_set_source(kb_plane *plane, uint32_t tenant_number, const kb_prefix *address, int tun)
{
    kb_lock(plane);
    tenant *t = kb_tenant_of(plane, tenant_number, 1);
    if (t && address->v6) {
        memcpy(t->source6[tun != 0], address->address, 16);
        t->has6[tun != 0] = 1;
    } else if (t) {
        memcpy(t->source4[tun != 0], address->address, 4);
        t->has4[tun != 0] = 1;
    }
    kb_plane_leave(plane);
    return t ? 0 : -1;
}

int kb_send(kb_plane *plane, int id, int kind, const uint8_t *data, size_t length)
{
    if ((kind != KB_CONTROL && kind != KB_SEGMENT) || kb_check_frame(kind, length) < 0)
        return -1;
    kb_lock(plane);
    port *p = kb_port_of(plane, id);
    int result = -1;
    if (p && p->kind == LINK && kind == KB_CONTROL) {
        result = kb_port_enqueue_control(plane, p, data, length);
    } else if (p && p->kind == LINK && !p->peer) {
        kb_buffer *b = kb_buffer_new(&plane->workspace.pool, length);
        if (b) {
            memcpy(b->data + KB_HEADROOM, data, length);
            result = kb_port_enqueue(plane, p, kind, p->tenant, b, length, kb_segment_flow(data, length), 1);
            p->counters.tx_segments += result == 0;
        }
    }
    kb_unlock(plane);
    return result;
}

int kb_send_segment(kb_plane *plane, uint32_t tenant_number, uint32_t number, const uint8_t *data, size_t length)
{
    kb_lock(plane);
    int result = kb_forward_segment(plane, tenant_number, number, data, length);
    kb_unlock(plane);
    return result;
}

int kb_drop(kb_plane *plane, int id, const char *reason)
{
    kb_lock(plane);
    port *p = kb_port_of(plane, id);
    int found = p ? 0 : -1;
    if (p) {
        if (p->kind == LINK)
            kb_port_flush(plane, p); /* what says why, if the socket takes it at once */
        kb_port_down(plane, p, reason);
    }
    kb_plane_leave(plane);
    return found;
}

/* What a link has counted by itself, and what is known of its path. */
static void add_link_counters(const kb_link *l, kb_counters *c)
{
    c->rx_bytes += l->rx_bytes;
    c->tx_bytes += l->tx_bytes;
    c->queue_full += l->queue_full;
    c->delay_dropped += l->delay_dropped;
    c->marked += l->marked;
    if (!l->transport)
        return;
    c->queued = kb_link_waiting(l);
    c->rtt = l->transport->path.rtt;
    c->min_rtt = l->transport->path.min_rtt;
    c->rate = l->transport->path.rate;
    c->lowat = l->transport->path.lowat;
}

int kb_get_counters(kb_plane *plane, int id, kb_counters *counters)
{
    kb_plane_enter(plane);
    port *p = kb_port_of(plane, id);
    if (p) {
        *counters = p->counters;
        add_link_counters(&p->link, counters);
    }
    kb_plane_leave(plane);
    return p ? 0 : -1;
}

int kb_congestion(kb_plane *plane, int id, char *congestion, char *problem)
{
    static const kb_path none;
    kb_plane_enter(plane);
    port *p = kb_port_of(plane, id);
    if (p) {
        const kb_path *path = p->kind == LINK ? &p->link.transport->path : &none;
        memcpy(congestion, path->congestion, sizeof path->congestion);
        memcpy(problem, path->problem, sizeof path->problem);
    }
    kb_plane_leave(plane);
    return p ? 0 : -1;
}
