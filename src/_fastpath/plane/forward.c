/* Where packets and segments go: by the tenant's routes to a node, to one of its links, to our TUN, to another relay, or back to the
 * sender as an ICMP error. */
#include "plane/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One of several ports for a flow: the highest of their hashes (rendezvous), so that only the flows of a port that goes move. */
static port *pinned(kb_plane *plane, const int *ids, uint8_t count, uint32_t flow)
{
    int best = -1;
    uint32_t highest = 0;
    if (count == 1)
        return kb_port_of(plane, ids[0]);
    for (uint8_t i = 0; i < count; i++) {
        uint32_t weight = kb_mix(flow, (uint32_t)ids[i]);
        if (best < 0 || weight > highest) {
            best = ids[i];
            highest = weight;
        }
    }
    return best < 0 ? NULL : kb_port_of(plane, best);
}

/* The port for a flow to a node: our own TUN, one of its links, or a relay that has one. An edge node reaches all others through number 0. */
static port *port_for(kb_plane *plane, tenant *t, uint32_t number, uint32_t flow, const port *from)
{
    if (number == plane->number)
        return t->tun < 0 ? NULL : kb_port_of(plane, t->tun);
    node *n = kb_node_of(t, number, 0);
    if (plane->number && (!n || (!n->link_count && !n->next_hop_count)))
        n = kb_node_of(t, 0, 0);
    if (!n)
        return NULL;
    if (n->link_count)
        return pinned(plane, n->links, n->link_count, flow);
    return from && from->peer ? NULL : pinned(plane, n->next_hops, n->next_hop_count, flow); /* from relay to relay only once */
}

/* Would it go back to where it comes from? */
static int same_node(const port *a, const port *b)
{
    return a == b || (a->kind == LINK && b->kind == LINK && !a->peer && !b->peer && a->tenant == b->tenant && a->number == b->number);
}

/* -- the TUN -------------------------------------------------------------------------------------------------------------- */

static void write_tun(port *p, uint8_t *frame, size_t length)
{
    ssize_t n = p->vnet_hdr ? write(p->fd, frame, length) : write(p->fd, frame + KB_VNET, length - KB_VNET);
    if (n < 0) {
        p->counters.tun_full++;
        return;
    }
    p->counters.tx_packets++;
    p->counters.tx_bytes += (uint64_t)n;
}

static void write_segment(void *context, uint8_t *frame, size_t length) { write_tun(context, frame, length); }

static void deliver_tun(port *p, uint8_t *frame, size_t length)
{
    if (kb_is_gso(frame) && (!p->vnet_hdr || (!p->uso && kb_is_uso(frame)))) {
        if (kb_segment_gso(frame, length, 1, write_segment, p) < 0)
            p->counters.bad_header++;
        return;
    }
    if (!p->vnet_hdr)
        kb_complete_checksum(frame, length);
    write_tun(p, frame, length);
}

/* -- ICMP errors ---------------------------------------------------------------------------------------------------------- */

static int may_send_error(kb_plane *plane, port *p)
{
    uint64_t step = 1000000 / ICMP_PER_SECOND;
    if (!p->icmp_at) {
        p->icmp_at = plane->now;
        p->icmp_tokens = ICMP_BURST;
    }
    uint64_t earned = (plane->now - p->icmp_at) / step;
    if (earned) {
        p->icmp_at += earned * step;
        p->icmp_tokens = p->icmp_tokens + earned > ICMP_BURST ? ICMP_BURST : p->icmp_tokens + (uint32_t)earned;
    }
    if (!p->icmp_tokens)
        return 0;
    p->icmp_tokens--;
    return 1;
}

/* Tells the sender, on the way that its packet came, what happened to it. */
static void send_error(kb_plane *plane, port *from, uint32_t tenant_number, const uint8_t *frame, size_t length, int what, uint32_t mtu)
{
    static const uint8_t nobody4[4] = {192, 0, 0, 8}; /* RFC 7600: of routers without an address */
    static const uint8_t nobody6[16] = {0xfe, 0x80, [15] = 1};
    tenant *t = kb_tenant_of(plane, tenant_number, 0);
    int v6 = frame[KB_VNET] >> 4 == 6, inward = from->kind == TUN;
    const uint8_t *source = v6 ? (t && t->has6[inward] ? t->source6[inward] : nobody6) : t && t->has4[inward] ? t->source4[inward] : nobody4;
    if (!kb_icmp_may_answer(frame, length) || !may_send_error(plane, from))
        return;
    kb_buffer *b = kb_buffer_new(&plane->workspace.pool, KB_ICMP_BYTES);
    if (!b)
        return;
    uint8_t *answer = b->data + KB_HEADROOM;
    size_t size = kb_icmp_error(frame, length, what, mtu, source, answer);
    from->counters.icmp_sent++;
    if (from->kind == TUN) {
        deliver_tun(from, answer, size);
        kb_buffer_free(&plane->workspace.pool, b);
        return;
    }
    if (kb_port_enqueue(plane, from, KB_PACKET, tenant_number, b, size, kb_mix(get32(answer + KB_VNET + 16), (uint32_t)what), 0) == 0)
        from->counters.tx_packets++;
}

/* -- packets -------------------------------------------------------------------------------------------------------------- */

typedef struct {
    kb_plane *plane;
    port *to;
    uint32_t tenant, flow;
} way;

/* A piece of a super-packet that is too large for a slow path */
static void queue_piece(void *context, uint8_t *frame, size_t length)
{
    way *w = context;
    kb_buffer *b = kb_buffer_new(&w->plane->workspace.pool, length);
    if (!b)
        return;
    memcpy(b->data + KB_HEADROOM, frame, length);
    if (kb_port_enqueue(w->plane, w->to, KB_PACKET, w->tenant, b, length, w->flow, 0) == 0)
        w->to->counters.tx_packets++;
}

/* Networks behind a route may have a smaller MTU: connections are told when they begin, and packets that are too large are answered
 * with the size that fits. 0: it may go on. */
static int keep_to_mtu(kb_plane *plane, port *from, tenant *t, uint32_t tenant_number, uint8_t *frame, size_t length, const kb_packet *packet,
                       const kb_trie *route)
{
    uint32_t mtu = route->mtu;
    if (packet->syn) {
        const kb_trie *back = kb_trie_lookup(packet->v6 ? t->v6 : t->v4, packet->source, packet->v6 ? 128 : 32);
        if (back && back->mtu && (!mtu || back->mtu < mtu))
            mtu = back->mtu;
        if (mtu)
            kb_clamp_mss(frame, length, mtu);
    }
    if (!route->mtu || packet->unit <= route->mtu || !packet->whole)
        return 0;
    from->counters.too_big++;
    send_error(plane, from, tenant_number, frame, length, KB_TOO_BIG, route->mtu);
    return -1;
}

/* A packet of a tenant that came from `from`, already checked. Takes the buffer. */
static void forward(kb_plane *plane, port *from, uint32_t tenant_number, kb_buffer *b, size_t length, const kb_packet *packet)
{
    uint8_t *frame = b->data + KB_HEADROOM;
    tenant *t = kb_tenant_of(plane, tenant_number, 0);
    const kb_trie *route = t ? kb_trie_lookup(packet->v6 ? t->v6 : t->v4, packet->destination, packet->v6 ? 128 : 32) : NULL;
    port *to = route ? port_for(plane, t, (uint32_t)route->number, packet->flow, from) : NULL;
    uint32_t burst = to && to->kind == LINK ? to->link.transport->path.burst : 0;
    if (!route || (to && same_node(to, from))) {
        from->counters.no_route++;
        send_error(plane, from, tenant_number, frame, length, KB_NO_ROUTE, 0);
    } else if (!to) {
        from->counters.no_link++;
        send_error(plane, from, tenant_number, frame, length, KB_NO_LINK, 0);
    } else if (from->kind == LINK && to->kind == LINK && kb_decrement_ttl(frame + KB_VNET) < 0) {
        from->counters.ttl_exceeded++;
        send_error(plane, from, tenant_number, frame, length, KB_TTL_EXCEEDED, 0);
    } else if ((route->mtu || packet->syn) && keep_to_mtu(plane, from, t, tenant_number, frame, length, packet, route) < 0) {
        /* answered */
    } else if (to->kind == TUN) {
        deliver_tun(to, frame, length);
    } else if (burst && length > burst && kb_is_gso(frame)) {
        way w = {plane, to, tenant_number, packet->flow};
        unsigned pieces = burst / packet->unit;
        if (kb_segment_gso(frame, length, pieces ? pieces : 1, queue_piece, &w) < 0)
            from->counters.bad_header++;
    } else {
        if (kb_port_enqueue(plane, to, KB_PACKET, tenant_number, b, length, packet->flow, 0) == 0)
            to->counters.tx_packets++;
        return;
    }
    kb_buffer_free(&plane->workspace.pool, b);
}

void kb_forward_tun(kb_plane *plane, port *p)
{
    size_t total = 0;
    for (int n = 0; n < 256 && total < TUN_BYTES; n++) {
        if (!plane->scratch && !(plane->scratch = kb_buffer_new(&plane->workspace.pool, KB_MAX_PACKET_BYTES)))
            return;
        uint8_t *frame = plane->scratch->data + KB_HEADROOM;
        size_t skip = p->vnet_hdr ? 0 : KB_VNET;
        ssize_t got = read(p->fd, frame + skip, KB_MAX_PACKET_BYTES - skip);
        if (got < 0 && (errno == EAGAIN || errno == EINTR || errno == EIO))
            return; /* nothing there, or the interface is down: both pass */
        if (got <= 0) {
            char reason[96];
            snprintf(reason, sizeof reason, "the TUN device is gone: %s", got ? strerror(errno) : "end of file");
            kb_port_down(plane, p, reason);
            return;
        }
        size_t length = (size_t)got + skip;
        if (skip)
            memset(frame, 0, KB_VNET);
        total += length;
        p->counters.rx_packets++;
        p->counters.rx_bytes += (uint64_t)got;
        kb_packet packet;
        if (kb_check_packet(frame, length, &packet) < 0) {
            p->counters.bad_header++;
            continue;
        }
        /* a large packet travels in the buffer that it was read into; a small one would waste it */
        kb_buffer *b = plane->scratch;
        if (length > 16384) {
            plane->scratch = NULL;
        } else {
            if (!(b = kb_buffer_new(&plane->workspace.pool, length)))
                return;
            memcpy(b->data + KB_HEADROOM, frame, length);
        }
        forward(plane, p, p->tenant, b, length, &packet);
    }
}

static int source_allowed(const port *p, const kb_packet *packet)
{
    if (!p->prefix_count)
        return 1;
    for (int i = 0; i < p->prefix_count; i++)
        if (kb_prefix_contains(&p->prefixes[i], packet->source, packet->v6))
            return 1;
    return 0;
}

/* -- segments ------------------------------------------------------------------------------------------------------------- */

/* Segments for ourselves pass here, all of them. */
static void segment_for_us(kb_plane *plane, port *p, uint32_t tenant_number, uint32_t source, const uint8_t *data, size_t length)
{
    if (plane->receiver)
        plane->receiver(plane->receiver_context, tenant_number, source, data, length, plane->now);
    else
        kb_emit(plane, KB_EVENT_SEGMENT, p, KB_SEGMENT, tenant_number, source, data, length);
}

static void forward_segment(kb_plane *plane, port *p, uint32_t tenant_number, kb_buffer *b, size_t length)
{
    const uint8_t *payload = b->data + KB_HEADROOM;
    uint32_t destination = kb_segment_destination(payload), source = kb_segment_source(payload);
    p->counters.rx_segments++;
    tenant *t = kb_tenant_of(plane, tenant_number, 0);
    if (p->prefix_count && source != p->number) {
        p->counters.bad_source++;
    } else if (destination == plane->number) {
        segment_for_us(plane, p, tenant_number, source, payload + KB_SEGMENT_ADDRESS, length - KB_SEGMENT_ADDRESS);
    } else {
        uint32_t flow = kb_segment_flow(payload, length);
        port *to = t ? port_for(plane, t, destination, flow, p) : NULL;
        if (to && to->kind == LINK && !same_node(to, p)) {
            if (kb_port_enqueue(plane, to, KB_SEGMENT, tenant_number, b, length, flow, 0) == 0)
                to->counters.tx_segments++;
            return;
        }
        p->counters.no_route++;
    }
    kb_buffer_free(&plane->workspace.pool, b);
}

int kb_forward_segment(kb_plane *plane, uint32_t tenant_number, uint32_t number, const uint8_t *data, size_t length)
{
    if (length > KB_MAX_SEGMENT_BYTES - KB_SEGMENT_ADDRESS || number == plane->number)
        return -1;
    tenant *t = kb_tenant_of(plane, tenant_number, 0);
    kb_buffer *b = t ? kb_buffer_new(&plane->workspace.pool, KB_SEGMENT_ADDRESS + length) : NULL;
    if (!b)
        return -1;
    uint8_t *payload = b->data + KB_HEADROOM;
    kb_segment_put_address(payload, number, plane->number);
    if (length)
        memcpy(payload + KB_SEGMENT_ADDRESS, data, length);
    uint32_t flow = kb_segment_flow(payload, KB_SEGMENT_ADDRESS + length);
    port *to = port_for(plane, t, number, flow, NULL);
    if (!to || to->kind != LINK) {
        kb_buffer_free(&plane->workspace.pool, b);
        return -1;
    }
    if (kb_port_enqueue(plane, to, KB_SEGMENT, tenant_number, b, KB_SEGMENT_ADDRESS + length, flow, 1) < 0)
        return -1;
    to->counters.tx_segments++;
    return 0;
}

/* -- frames --------------------------------------------------------------------------------------------------------------- */

/* What was read from the link of p. Takes the buffer. */
static void forward_frame(kb_plane *plane, port *p, kb_buffer *b)
{
    kb_frame f = kb_reader_frame(&p->link.reader, b);
    if (f.kind == KB_CONTROL) {
        if (!p->admitted && ++p->early > KB_EARLY_CONTROL_FRAMES)
            kb_port_down(plane, p, "too many control frames before admission");
        else if (kb_emit(plane, KB_EVENT_FRAME, p, f.kind, p->tenant, 0, f.payload, f.length) < 0)
            kb_port_down(plane, p, "control frames come faster than they are read");
        kb_buffer_free(&plane->workspace.pool, b);
        return;
    }
    if (f.tagged != p->peer) {
        kb_port_down(plane, p, f.tagged ? "a frame between relays from a link that leads to none" : "a frame without its tenant from a relay");
        kb_buffer_free(&plane->workspace.pool, b);
        return;
    }
    uint32_t tenant_number = f.tagged ? f.tenant : p->tenant;
    if (f.kind == KB_SEGMENT) {
        forward_segment(plane, p, tenant_number, b, f.length);
        return;
    }
    kb_packet packet;
    p->counters.rx_packets++;
    if (kb_check_packet(f.payload, f.length, &packet) < 0) {
        p->counters.bad_header++;
    } else if (!source_allowed(p, &packet)) {
        p->counters.bad_source++;
    } else {
        forward(plane, p, tenant_number, b, f.length, &packet);
        return;
    }
    kb_buffer_free(&plane->workspace.pool, b);
}

void kb_forward_link(kb_plane *plane, port *p)
{
    size_t budget = READ_BYTES;
    kb_buffer *frame;
    while (!p->down && (frame = kb_port_read(plane, p, &budget)))
        forward_frame(plane, p, frame);
}
