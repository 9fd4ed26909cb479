/* What is over after a time: sessions, idle connections, upstreams that no session uses. */
#include "http/internal.h"

static void expire(session *s)
{
    char why[2 * KB_PROXY_NAME];
    switch (s->state) {
    case AWAITING_ANSWER:
        if (s->proxy->is_client) {
            char node[KB_PROXY_NAME], *slash;
            snprintf(node, sizeof node, "%s", s->upstream->name);
            slash = strchr(node, '/');
            if (slash)
                *slash++ = 0;
            snprintf(why, sizeof why, "node %s of tenant %s did not answer in time", slash ? slash : "", node);
        } else {
            snprintf(why, sizeof why, "web service %s did not answer in time", s->upstream->name);
        }
        kb_proxy_refuse(s, 504, why);
        kb_proxy_drive(s);
        return;
    case LOOKING_UP:
        kb_proxy_hand_over(s);
        return;
    case READING: /* there is no request; a head that stays in pieces Python answers with an error */
        if (s->begun)
            kb_proxy_hand_over(s);
        else
            kb_proxy_session_end(s, 0);
        return;
    default:
        kb_proxy_session_end(s, 1);
    }
}

static void expire_idle(upstream *p, uint64_t now)
{
    for (proxy_conn **at = &p->idle; *at;) {
        proxy_conn *x = *at;
        if (x->until > now) {
            at = &x->next;
            continue;
        }
        *at = x->next;
        p->idle_count--;
        kb_proxy_conn_close(x, 0);
    }
}

uint64_t kb_proxy_tick(proxy_group *group)
{
    kb_plane *plane = group->handler.plane;
    uint64_t now = kb_plane_now(plane);
    int busy = 0;
    uint64_t again_at = UINT64_MAX;
    for (kb_proxy *proxy = group->first; proxy; proxy = proxy->next) {
        if (proxy->paused) {
            proxy->paused = kb_watch_add(plane, &proxy->listener, EPOLLIN) < 0;
            busy = 1;
        }
        for (session *s = proxy->sessions, *next; s; s = next) {
            next = s->next;
            if (s->deadline <= now)
                expire(s);
            else if (s->again_at && s->again_at <= now)
                kb_proxy_drive(s);
        }
        for (session *s = proxy->sessions; s; s = s->next) {
            kb_proxy_weigh(s); /* L4 sends without a word */
            if (s->again_at && s->again_at < again_at)
                again_at = s->again_at;
        }
        for (upstream *p = proxy->upstreams, *after; p; p = after) {
            after = p->next;
            expire_idle(p, now);
            busy |= p->idle != NULL;
            if (p->until + UPSTREAM_EXPIRY < now && !p->users && !p->idle && !p->asked)
                kb_proxy_upstream_free(proxy, p);
        }
        busy |= proxy->sessions != NULL;
    }
    uint64_t look = busy ? now + 1000000 : UINT64_MAX;
    return again_at < look ? again_at : look;
}
