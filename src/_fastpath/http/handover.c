/* What waits for Python: connections that it goes on with, and upstreams that it is asked for. */
#include "http/internal.h"

static void poke(kb_proxy *proxy)
{
    uint64_t one = 1;
    if (write(proxy->notify, &one, sizeof one) < 0) {
        /* it is set already */
    }
}

static void quiet(kb_proxy *proxy)
{
    uint64_t told;
    if (!proxy->waiting && !proxy->lookups && read(proxy->notify, &told, sizeof told) < 0) {
        /* nobody had poked it */
    }
}

/* Asks for an upstream, once. -1: no memory */
int kb_proxy_ask(kb_proxy *proxy, upstream *p)
{
    if (p->asked)
        return 0;
    lookup *q = calloc(1, sizeof *q);
    if (!q)
        return -1;
    memcpy(q->name, p->name, sizeof q->name);
    if (proxy->lookups)
        proxy->lookups_last->next = q;
    else
        proxy->lookups = q;
    proxy->lookups_last = q;
    p->asked = 1;
    poke(proxy);
    return 0;
}

int kb_proxy_next_lookup(kb_proxy *proxy, char name[KB_PROXY_NAME])
{
    lookup *q = proxy->lookups;
    if (!q) {
        quiet(proxy);
        return -1;
    }
    proxy->lookups = q->next;
    memcpy(name, q->name, KB_PROXY_NAME);
    free(q);
    return 0;
}

/* Python goes on with this connection, from the request at hand. */
void kb_proxy_hand_over(session *s)
{
    kb_proxy *proxy = s->proxy;
    proxy_conn *client = s->client;
    kb_proxy_session_resume(s);
    kb_proxy_release_upstream(s, 0);
    proxy->counters.handed_over++;
    if (client->conn) {
        kb_conn *conn = client->conn;
        client->conn = NULL;
        client->closed = 1;
        free(client);
        kb_proxy_session_free(s);
        proxy->fallback(proxy->fallback_context, conn);
        return;
    }
    handover *h = calloc(1, sizeof *h);
    size_t length = client->in.length - client->in_at;
    int fd = h ? dup(client->watch.fd) : -1; /* ours leaves epoll and is closed with the proxy_conn */
    uint8_t *data = malloc(length ? length : 1);
    if (fd < 0 || !data) {
        free(h);
        free(data);
        if (fd >= 0)
            close(fd);
        kb_proxy_session_end(s, 1);
        return;
    }
    if (length)
        memcpy(data, client->in.data + client->in_at, length);
    *h = (handover){NULL, fd, data, length};
    if (proxy->waiting)
        proxy->waiting_last->next = h;
    else
        proxy->waiting = h;
    proxy->waiting_last = h;
    proxy->waiting_count++;
    poke(proxy);
    kb_proxy_conn_close(client, 0); /* the duplicate keeps the connection open */
    kb_proxy_session_free(s);
}

int kb_proxy_next(kb_proxy *proxy, uint8_t **data, size_t *length)
{
    handover *h = proxy->waiting;
    if (!h) {
        quiet(proxy);
        return -1;
    }
    int fd = h->fd;
    proxy->waiting = h->next;
    proxy->waiting_count--;
    *data = h->data;
    *length = h->length;
    free(h);
    return fd;
}

void kb_proxy_handovers_free(kb_proxy *proxy)
{
    while (proxy->lookups) {
        lookup *q = proxy->lookups;
        proxy->lookups = q->next;
        free(q);
    }
    while (proxy->waiting) {
        handover *h = proxy->waiting;
        proxy->waiting = h->next;
        close(h->fd);
        free(h->data);
        free(h);
    }
}
