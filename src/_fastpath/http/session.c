/* Sessions: one client each, from its connection to its end. The exchange that it is in: exchange.c. */
#include "http/internal.h"

void kb_proxy_schedule(kb_proxy *proxy)
{
    uint64_t at = kb_plane_now(proxy->plane) + 1000000;
    if (at < proxy->group->handler.deadline)
        proxy->group->handler.deadline = at;
}

session *kb_proxy_session_new(kb_proxy *proxy, proxy_conn *client, kb_proxy_ready ready)
{
    session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->proxy = proxy;
    s->client = client;
    s->ready = client->ready = ready;
    client->session = s;
    s->deadline = kb_plane_now(proxy->plane) + proxy->limits.idle;
    s->next = proxy->sessions;
    if (s->next)
        s->next->previous = s;
    proxy->sessions = s;
    proxy->counters.connections++;
    kb_proxy_schedule(proxy);
    return s;
}

/* Its connection belongs to another session by now, or is closed. */
void kb_proxy_session_free(session *s)
{
    kb_proxy_charge(s, NULL);
    if (s->previous)
        s->previous->next = s->next;
    else
        s->proxy->sessions = s->next;
    if (s->next)
        s->next->previous = s->previous;
    s->proxy->counters.connections--;
    free(s);
}

void kb_proxy_session_resume(session *s)
{
    if (s->wanted)
        s->wanted->users--;
    s->wanted = NULL;
}

void kb_proxy_session_end(session *s, int hard)
{
    kb_proxy_session_resume(s);
    kb_proxy_release_upstream(s, 0);
    kb_proxy_conn_close(s->client, hard);
    kb_proxy_session_free(s);
}
