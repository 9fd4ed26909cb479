/* Places where requests go, their idle connections, and the accounts that limits are counted on. */
#include "proxy_inside.h"

/* -- places ------------------------------------------------------------------------------------------------------------------------- */

void web_drop_idle(place *p)
{
    while (p->idle) {
        side *x = p->idle;
        p->idle = x->next;
        web_side_close(x, 0);
    }
    p->idle_count = 0;
}

void web_place_free(kb_proxy *proxy, place *p)
{
    place **at = &proxy->places;
    while (*at && *at != p)
        at = &(*at)->next;
    if (*at)
        *at = p->next;
    proxy->place_count--;
    if (p->account)
        p->account->places--;
    web_drop_idle(p);
    free(p);
}

static void place_unuse(place *p)
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
place *web_place_find(kb_proxy *proxy, const char *name)
{
    uint32_t hash = hash_of(name);
    place **at = &proxy->places;
    while (*at && ((*at)->hash != hash || strcmp((*at)->name, name)))
        at = &(*at)->next;
    place *p = *at;
    if (p && p != proxy->places) {
        *at = p->next;
        p->next = proxy->places;
        proxy->places = p;
    }
    return p;
}

place *web_place_new(kb_proxy *proxy, const char *name)
{
    place *p = proxy->place_count < ADDRESSES && strlen(name) < KB_PROXY_NAME ? calloc(1, sizeof *p) : NULL;
    if (!p)
        return NULL;
    snprintf(p->name, sizeof p->name, "%s", name);
    p->hash = hash_of(name);
    p->next = proxy->places;
    proxy->places = p;
    proxy->place_count++;
    return p;
}

/* Strangers may ask for any tenant: names that nobody needs now go. */
static void trim_accounts(kb_proxy *proxy)
{
    for (account **at = &proxy->accounts; *at;) {
        account *a = *at;
        if (a->places || a->users || a->counters.in_progress) {
            at = &a->next;
            continue;
        }
        *at = a->next;
        free(a);
        proxy->account_count--;
    }
}

account *web_account_of(kb_proxy *proxy, const char *name)
{
    account *a = proxy->accounts;
    while (a && strcmp(a->counters.name, name))
        a = a->next;
    if (!a && proxy->account_count >= ACCOUNTS)
        trim_accounts(proxy);
    if (!a && (a = calloc(1, sizeof *a))) {
        proxy->account_count++;
        snprintf(a->counters.name, sizeof a->counters.name, "%s", name);
        a->tokens = proxy->limits.burst;
        a->filled_at = proxy->plane->now;
        a->next = proxy->accounts;
        proxy->accounts = a;
    }
    return a;
}

int web_may_ask(kb_proxy *proxy, account *a)
{
    if (proxy->limits.rate <= 0)
        return 1;
    uint64_t now = proxy->plane->now;
    a->tokens += (double)(now - a->filled_at) * proxy->limits.rate / 1e6;
    a->filled_at = now;
    if (a->tokens > proxy->limits.burst)
        a->tokens = proxy->limits.burst;
    if (a->tokens < 1)
        return 0;
    a->tokens -= 1;
    return 1;
}

static side *reuse(place *p, int target)
{
    for (side **at = &p->idle; *at; at = &(*at)->next) {
        side *x = *at;
        if (x->target != target || !x->until)
            continue;
        *at = x->next;
        p->idle_count--;
        return x;
    }
    return NULL;
}

static side *open_service(kb_proxy *proxy, place *p, int target)
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
    side *x = web_side_tcp(proxy->plane, fd);
    if (!x) {
        close(fd);
        return NULL;
    }
    x->connecting = (uint8_t)waiting;
    x->writable = !waiting;
    return x;
}

static side *open_node(kb_proxy *proxy, place *p)
{
    side *x = web_side_l4(proxy->plane, NULL);
    if (!x)
        return NULL;
    x->conn = kb_l4_connect(proxy->plane->l4, p->tenant, p->number, proxy->port, proxy->plane->now, web_on_conn, x);
    if (!x->conn) {
        free(x);
        return NULL;
    }
    kb_conn_keepalive(x->conn, 60000000); /* a stream may be silent; a node that is gone must not */
    return x;
}

/* A connection to the place, an idle one if there is one. NULL: Python is to say what is wrong. */
side *web_open_place(session *s, place *p)
{
    kb_proxy *proxy = s->proxy;
    int target = proxy->front ? 0 : p->turn++ % p->target_count;
    p->turn %= 1 << 20;
    side *x = reuse(p, target);
    s->fresh = !x;
    if (x)
        proxy->counters.reused++;
    else
        x = proxy->front ? open_node(proxy, p) : open_service(proxy, p, target);
    if (x) {
        x->session = s;
        x->place = p;
        x->target = target;
    }
    return x;
}

void web_give_back(session *s, int keep)
{
    side *x = s->server;
    place *p = s->place;
    kb_proxy *proxy = s->proxy;
    s->server = NULL;
    s->place = NULL;
    if (x) {
        size_t left;
        web_view(x, &left, MOST_IN);
        x->session = NULL;
        if (keep && !left && !web_ended(x) && !web_side_broken(x) && p->idle_count < proxy->limits.pooled && web_flushed(x)) {
            web_rest(x);
            x->until = proxy->plane->now + proxy->limits.kept;
            x->next = p->idle;
            p->idle = x;
            p->idle_count++;
        } else {
            web_side_close(x, 0); /* it is answered, or nobody waits: no harm in a polite end */
        }
    }
    if (p)
        place_unuse(p);
}
