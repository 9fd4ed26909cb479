/* Upstreams: where requests go, their idle connections, and the accounts that limits are counted on. */
#include "http/internal.h"

void kb_proxy_drop_idle(upstream *p)
{
    while (p->idle) {
        proxy_conn *x = p->idle;
        p->idle = x->next;
        kb_proxy_conn_close(x, 0);
    }
    p->idle_count = 0;
}

void kb_proxy_upstream_free(kb_proxy *proxy, upstream *p)
{
    upstream **at = &proxy->upstreams;
    while (*at && *at != p)
        at = &(*at)->next;
    if (*at)
        *at = p->next;
    proxy->upstream_count--;
    if (p->account)
        p->account->upstreams--;
    kb_proxy_drop_idle(p);
    free(p);
}

static void upstream_unuse(upstream *p)
{
    p->users--;
    p->account->counters.in_progress--;
}

static uint32_t hash_of(const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    while (*name)
        hash = (hash ^ (uint8_t)*name++) * 16777619u;
    return hash;
}

/* What is used often is found first. */
upstream *kb_proxy_upstream_find(kb_proxy *proxy, const char *name)
{
    uint32_t hash = hash_of(name);
    upstream **at = &proxy->upstreams;
    while (*at && ((*at)->hash != hash || strcmp((*at)->name, name)))
        at = &(*at)->next;
    upstream *p = *at;
    if (p && p != proxy->upstreams) {
        *at = p->next;
        p->next = proxy->upstreams;
        proxy->upstreams = p;
    }
    return p;
}

upstream *kb_proxy_upstream_new(kb_proxy *proxy, const char *name)
{
    upstream *p = proxy->upstream_count < MAX_UPSTREAMS && strlen(name) < KB_PROXY_NAME ? calloc(1, sizeof *p) : NULL;
    if (!p)
        return NULL;
    snprintf(p->name, sizeof p->name, "%s", name);
    p->hash = hash_of(name);
    p->next = proxy->upstreams;
    proxy->upstreams = p;
    proxy->upstream_count++;
    return p;
}

/* Unauthenticated clients may ask for any tenant: names that no session uses are forgotten. */
static void trim_accounts(kb_proxy *proxy)
{
    for (account **at = &proxy->accounts; *at;) {
        account *a = *at;
        if (a->upstreams || a->users || a->counters.in_progress) {
            at = &a->next;
            continue;
        }
        *at = a->next;
        free(a);
        proxy->account_count--;
    }
}

account *kb_proxy_account_of(kb_proxy *proxy, const char *name)
{
    account *a = proxy->accounts;
    while (a && strcmp(a->counters.name, name))
        a = a->next;
    if (!a && proxy->account_count >= MAX_ACCOUNTS)
        trim_accounts(proxy);
    if (!a && (a = calloc(1, sizeof *a))) {
        proxy->account_count++;
        snprintf(a->counters.name, sizeof a->counters.name, "%s", name);
        a->tokens = proxy->limits.burst;
        a->filled_at = kb_plane_now(proxy->plane);
        a->next = proxy->accounts;
        proxy->accounts = a;
    }
    return a;
}

int kb_proxy_take_token(kb_proxy *proxy, account *a)
{
    if (proxy->limits.rate <= 0)
        return 1;
    uint64_t now = kb_plane_now(proxy->plane);
    a->tokens += (double)(now - a->filled_at) * proxy->limits.rate / 1e6;
    a->filled_at = now;
    if (a->tokens > proxy->limits.burst)
        a->tokens = proxy->limits.burst;
    if (a->tokens < 1)
        return 0;
    a->tokens -= 1;
    return 1;
}

void kb_proxy_count_answer(session *s, int status)
{
    s->upstream->account->counters.status[status / 100 % 6]++;
    s->proxy->counters.requests++;
}

static proxy_conn *reuse(upstream *p, int target)
{
    for (proxy_conn **at = &p->idle; *at; at = &(*at)->next) {
        proxy_conn *x = *at;
        if (x->target != target || !x->until)
            continue;
        *at = x->next;
        p->idle_count--;
        return x;
    }
    return NULL;
}

static proxy_conn *open_service(kb_proxy *proxy, upstream *p, int target)
{
    const struct sockaddr_storage *address = &p->targets[target];
    socklen_t size = address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0)
        return NULL;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int waiting = connect(fd, (const struct sockaddr *)address, size) < 0;
    if (waiting && errno != EINPROGRESS) {
        close(fd);
        return NULL;
    }
    proxy_conn *x = kb_proxy_conn_tcp(proxy->plane, fd);
    if (!x) {
        close(fd);
        return NULL;
    }
    x->connecting = (uint8_t)waiting;
    x->writable = !waiting;
    return x;
}

static proxy_conn *open_node(kb_proxy *proxy, upstream *p)
{
    proxy_conn *x = kb_proxy_conn_l4(proxy->plane, NULL);
    if (!x)
        return NULL;
    x->conn = kb_l4_connect(proxy->l4, p->tenant, p->number, proxy->port, kb_plane_now(proxy->plane), kb_proxy_on_l4_event, x);
    if (!x->conn) {
        free(x);
        return NULL;
    }
    kb_conn_keepalive(x->conn, 60000000); /* a stream may be silent; a node that is gone must not */
    return x;
}

/* A connection to the upstream, an idle one if there is one. NULL: Python is to say what is wrong. */
proxy_conn *kb_proxy_open_upstream(session *s, upstream *p)
{
    kb_proxy *proxy = s->proxy;
    int target = proxy->is_client ? 0 : p->turn++ % p->target_count;
    p->turn %= 1 << 20;
    proxy_conn *x = reuse(p, target);
    s->fresh = !x;
    if (x)
        proxy->counters.reused++;
    else
        x = proxy->is_client ? open_node(proxy, p) : open_service(proxy, p, target);
    if (x) {
        x->session = s;
        x->ready = s->ready;
        x->upstream = p;
        x->target = target;
    }
    return x;
}

void kb_proxy_release_upstream(session *s, int keep)
{
    proxy_conn *x = s->server;
    upstream *p = s->upstream;
    kb_proxy *proxy = s->proxy;
    s->server = NULL;
    s->upstream = NULL;
    if (x) {
        size_t left;
        kb_proxy_conn_peek(x, &left, MAX_IN);
        x->session = NULL;
        if (keep && !left && !kb_proxy_conn_at_eof(x) && !kb_proxy_conn_is_broken(x) && p->idle_count < proxy->limits.pooled && kb_proxy_conn_flushed(x)) {
            kb_proxy_conn_make_idle(x);
            x->until = kb_plane_now(proxy->plane) + proxy->limits.kept;
            x->next = p->idle;
            p->idle = x;
            p->idle_count++;
        } else {
            kb_proxy_conn_close(x, 0); /* it is answered, or no client waits: an orderly close does no harm */
        }
    }
    if (p)
        upstream_unuse(p);
}
