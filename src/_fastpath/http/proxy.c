/* The proxies of a plane, and what Python asks of them; proxy.h says what each call means. */
#include "http/internal.h"

void kb_proxy_close(kb_proxy *proxy)
{
    kb_plane *plane = proxy->plane;
    kb_proxy **at = &proxy->group->first;
    while (*at && *at != proxy)
        at = &(*at)->next;
    if (*at)
        *at = proxy->next;
    kb_l4_accept mine;
    void *me;
    if (!proxy->is_client && proxy->fallback)
        kb_l4_divert(proxy->l4, proxy->tenant, proxy->port, proxy->fallback, proxy->fallback_context, &mine, &me);
    while (proxy->sessions)
        kb_proxy_session_end(proxy->sessions, 1);
    while (proxy->upstreams)
        kb_proxy_upstream_free(proxy, proxy->upstreams);
    for (account *a = proxy->accounts, *next; a; a = next) {
        next = a->next;
        free(a);
    }
    kb_proxy_handovers_free(proxy);
    if (proxy->listener.fd >= 0)
        kb_watch_close(plane, &proxy->listener);
    if (proxy->notify >= 0)
        close(proxy->notify);
    kb_text_free(&proxy->text);
    kb_proxy_hosts_free(proxy);
    kb_watch_defer_free(plane, &proxy->listener, proxy);
}

static void work(kb_handler *h)
{
    if (kb_plane_now(h->plane) >= h->deadline)
        h->deadline = kb_proxy_tick((proxy_group *)h);
}

static void end(kb_handler *h)
{
    proxy_group *group = (proxy_group *)h;
    while (group->first)
        kb_proxy_close(group->first);
    free(group);
}

static const kb_handler_type proxy_type = {work, end};

static proxy_group *group_of(kb_plane *plane)
{
    proxy_group *group = (proxy_group *)kb_handler_find(plane, &proxy_type);
    if (!group && (group = calloc(1, sizeof *group)))
        kb_handler_add(plane, &group->handler, &proxy_type);
    return group;
}

/* -- the calls -------------------------------------------------------------------------------------------------------------------- */

static kb_proxy *proxy_new(kb_plane *plane, const kb_proxy_limits *limits)
{
    kb_proxy *proxy = calloc(1, sizeof *proxy);
    int notify = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    kb_l4 *l4 = kb_plane_l4(plane); /* first: it works after us, and so sends what we write in the same turn */
    proxy_group *group = l4 ? group_of(plane) : NULL;
    if (!proxy || notify < 0 || !group) {
        if (notify >= 0)
            close(notify);
        free(proxy);
        return NULL;
    }
    proxy->notify = notify;
    proxy->group = group;
    proxy->plane = plane;
    proxy->l4 = l4;
    proxy->limits = *limits;
    proxy->listener.fd = -1;
    proxy->next = group->first;
    group->first = proxy;
    return proxy;
}

kb_proxy *kb_client_proxy_new(kb_plane *plane, int listener, const kb_proxy_limits *limits)
{
    kb_proxy *proxy = proxy_new(plane, limits);
    if (!proxy)
        return NULL;
    proxy->is_client = 1;
    proxy->port = 80;
    proxy->listener = (kb_watch){.fd = listener, .ready = kb_proxy_on_listener};
    if (kb_watch_add(plane, &proxy->listener, EPOLLIN) < 0) {
        proxy->listener.fd = -1;
        kb_proxy_close(proxy);
        return NULL;
    }
    return proxy;
}

kb_proxy *kb_server_proxy_new(kb_plane *plane, uint32_t tenant, uint16_t port, const kb_proxy_limits *limits)
{
    kb_proxy *proxy = proxy_new(plane, limits);
    if (!proxy)
        return NULL;
    proxy->tenant = tenant;
    proxy->port = port;
    if (kb_l4_divert(proxy->l4, tenant, port, kb_proxy_on_accept, proxy, &proxy->fallback, &proxy->fallback_context) < 0) {
        kb_proxy_close(proxy);
        return NULL;
    }
    return proxy;
}

int kb_proxy_fileno(kb_proxy *proxy) { return proxy->notify; }

static upstream *learn(kb_proxy *proxy, const char *name, const char *account, double seconds)
{
    upstream *p = kb_proxy_upstream_find(proxy, name);
    if (!p && !(p = kb_proxy_upstream_new(proxy, name)))
        return NULL;
    if (!p->account) {
        if (!(p->account = kb_proxy_account_of(proxy, account)))
            return NULL;
        p->account->upstreams++;
    }
    p->until = kb_plane_now(proxy->plane) + (uint64_t)(seconds * 1e6);
    return p;
}

/* Those who wait for the upstream go on, one way or the other. */
static void answer(kb_proxy *proxy, upstream *p, int known)
{
    p->asked = 0;
    for (session *s = proxy->sessions, *next; s; s = next) {
        next = s->next;
        if (s->wanted != p)
            continue;
        kb_proxy_session_resume(s);
        s->state = READING;
        s->deadline = kb_plane_now(proxy->plane) + proxy->limits.idle;
        if (known)
            kb_proxy_drive(s);
        else
            kb_proxy_hand_over(s);
    }
}

int kb_proxy_learn_node(kb_proxy *proxy, const char *tenant, const char *node, uint32_t tenant_number, uint32_t number, double seconds)
{
    char name[KB_PROXY_NAME];
    snprintf(name, sizeof name, "%s/%s", tenant, node);
    upstream *p = learn(proxy, name, tenant, seconds);
    if (!p)
        return -1;
    if (p->number && (p->tenant != tenant_number || p->number != number))
        kb_proxy_drop_idle(p);
    p->tenant = tenant_number;
    p->number = number;
    answer(proxy, p, 1);
    return 0;
}

int kb_proxy_learn_service(kb_proxy *proxy, const char *service, const struct sockaddr_storage *targets, int count_of, double seconds)
{
    upstream *p = count_of > 0 && count_of <= KB_PROXY_TARGETS ? learn(proxy, service, service, seconds) : NULL;
    if (!p)
        return -1;
    if (p->target_count != count_of || memcmp(p->targets, targets, (size_t)count_of * sizeof *targets))
        kb_proxy_drop_idle(p);
    p->target_count = count_of;
    memcpy(p->targets, targets, (size_t)count_of * sizeof *targets);
    answer(proxy, p, 1);
    return 0;
}

void kb_proxy_lookup_failed(kb_proxy *proxy, const char *name)
{
    upstream *p = kb_proxy_upstream_find(proxy, name);
    if (!p)
        return;
    p->until = 0;
    answer(proxy, p, 0);
    if (!p->users && !p->idle)
        kb_proxy_upstream_free(proxy, p);
}

void kb_proxy_forget(kb_proxy *proxy)
{
    for (upstream *p = proxy->upstreams; p; p = p->next)
        p->until = 0;
}

int kb_proxy_take(kb_proxy *proxy, const char *name)
{
    account *a = kb_proxy_account_of(proxy, name);
    if (!a)
        return -1;
    if (!kb_proxy_take_token(proxy, a))
        return 429;
    if (a->counters.in_progress >= proxy->limits.concurrent)
        return 503;
    a->counters.in_progress++;
    *(proxy->is_client ? &a->counters.held : &proxy->counters.held) += KB_PROXY_SLOW;
    return 0;
}

void kb_proxy_give(kb_proxy *proxy, const char *name)
{
    account *a = kb_proxy_account_of(proxy, name);
    if (!a || !a->counters.in_progress)
        return;
    a->counters.in_progress--;
    *(proxy->is_client ? &a->counters.held : &proxy->counters.held) -= KB_PROXY_SLOW;
}

void kb_proxy_get_counters(const kb_proxy *proxy, kb_proxy_counters *counters) { *counters = proxy->counters; }

int kb_proxy_account(const kb_proxy *proxy, int index, kb_account_counters *counters)
{
    const account *a = proxy->accounts;
    while (a && index--)
        a = a->next;
    if (!a)
        return -1;
    *counters = a->counters;
    return 0;
}
