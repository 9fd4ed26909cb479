/* The links among the ports: budgets of tenants, lists of work. What a link does by itself is in link/link.c, where its frames go in forward.c. */
#include "plane/internal.h"

#include <errno.h>
#include <string.h>

int kb_port_open_link(kb_plane *plane, port *p, int fd, kb_tls *tls, const char *server_name, const char *congestion, char *error)
{
    kb_transport *transport = kb_tls_open(&plane->workspace, fd, tls, server_name, congestion, plane->now, error);
    if (!transport)
        return -1;
    kb_link_open(&p->link, &plane->workspace, transport);
    return 0;
}

/* -- sending -------------------------------------------------------------------------------------------------------------- */

/* Bytes that may wait for a link. All links of a tenant together have a bound too; beyond it each has an eighth of its own. A link to a relay
 * carries many tenants. */
static size_t queue_limit(kb_plane *plane, const port *to)
{
    const tenant *t = to->peer ? NULL : kb_tenant_of(plane, to->tenant, 0);
    return t && t->queued > kb_share_of(KB_QUEUES_BYTES, plane->queued, KB_QUEUE_BYTES) ? KB_QUEUE_BYTES / 8 : KB_QUEUE_BYTES;
}

static void enlist_to_flush(kb_plane *plane, port *to)
{
    if (kb_link_can_send(&to->link))
        kb_port_enlist(plane, to, TO_FLUSH);
}

int kb_port_enqueue(kb_plane *plane, port *to, int kind, uint32_t tenant_number, kb_buffer *b, size_t length, uint32_t flow, int own)
{
    size_t before = kb_link_queued(&to->link);
    int result = kb_link_enqueue(&to->link, kind, to->peer, tenant_number, b, length, flow, plane->now, queue_limit(plane, to), own);
    kb_count_queued(plane, to, before, kb_link_queued(&to->link));
    enlist_to_flush(plane, to);
    return result;
}

int kb_port_enqueue_control(kb_plane *plane, port *to, const uint8_t *data, size_t length)
{
    int result = kb_link_enqueue_control(&to->link, data, length);
    enlist_to_flush(plane, to);
    return result;
}

/* Waits for what the transport waits for. */
static void poll_link(kb_plane *plane, port *p)
{
    if (kb_port_poll(plane, p, p->link.transport->want) < 0)
        kb_port_down(plane, p, strerror(errno));
}

void kb_port_flush(kb_plane *plane, port *p)
{
    char error[KB_ERROR];
    if (!p->up || p->down)
        return;
    size_t before = kb_link_queued(&p->link);
    int more = kb_link_flush(&p->link, plane->now, FLUSH_BYTES, error);
    kb_count_queued(plane, p, before, kb_link_queued(&p->link));
    if (more < 0) {
        kb_port_down(plane, p, error);
        return;
    }
    if (more)
        kb_port_enlist(plane, p, TO_FLUSH);
    kb_port_set_deadline_list(plane, p, WARM);
    poll_link(plane, p);
}

/* -- receiving ------------------------------------------------------------------------------------------------------------ */

kb_buffer *kb_port_read(kb_plane *plane, port *p, size_t *budget)
{
    char error[KB_ERROR];
    kb_buffer *frame;
    int got = kb_link_read(&p->link, p->admitted, budget, &frame, error);
    if (got > 0)
        return frame;
    if (got < 0) {
        kb_port_down(plane, p, error);
        return NULL;
    }
    if (!*budget)
        kb_port_enlist(plane, p, TO_READ); /* TLS may hold what epoll does not see */
    kb_port_set_deadline_list(plane, p, WARM);
    poll_link(plane, p);
    return NULL;
}

void kb_port_handshake(kb_plane *plane, port *p)
{
    char error[KB_ERROR], identity[KB_IDENTITY];
    kb_transport *transport = p->link.transport;
    int done = transport->type->handshake(transport, plane->now, identity, error);
    if (done < 0) {
        kb_port_down(plane, p, error);
        return;
    }
    if (done) {
        p->up = 1;
        plane->handshakes--;
        kb_port_set_deadline_list(plane, p, WARM);
        kb_emit(plane, KB_EVENT_UP, p, 0, 0, 0, identity, strlen(identity));
        kb_port_enlist(plane, p, TO_FLUSH);
        kb_port_enlist(plane, p, TO_READ); /* the first frame may have come with the handshake */
    }
    poll_link(plane, p);
}
