/* Clients that come, upstreams that Python names, deadlines; see proxy.h. */
#include "http/internal.h"

/* -- clients ------------------------------------------------------------------------------------------------------------------------ */

static void on_accept(void *context, kb_conn *conn)
{
    kb_proxy *proxy = context;
    proxy_conn *x = kb_proxy_full(proxy) ? NULL : kb_proxy_conn_l4(proxy->plane, conn);
    session *s = x ? kb_proxy_session_new(proxy, x) : NULL;
    if (!s) {
        free(x);
        return; /* whom nobody owns is reset */
    }
    kb_conn_own(conn, kb_proxy_on_l4_event, x);
}

static void keep_alive(int fd)
{
    const int options[][3] = {{IPPROTO_TCP, TCP_NODELAY, 1},
                              {SOL_SOCKET, SO_KEEPALIVE, 1},
                              {IPPROTO_TCP, TCP_KEEPIDLE, 60},
                              {IPPROTO_TCP, TCP_KEEPINTVL, 15},
                              {IPPROTO_TCP, TCP_KEEPCNT, 4}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        setsockopt(fd, options[i][0], options[i][1], &options[i][2], sizeof(int));
}

static void name_peer(session *s, const struct sockaddr_storage *from)
{
    const void *address = &((const struct sockaddr_in *)from)->sin_addr;
    if (from->ss_family == AF_INET6) {
        const struct in6_addr *six = &((const struct sockaddr_in6 *)from)->sin6_addr;
        address = six;
    }
    if (!inet_ntop(from->ss_family, address, s->peer, sizeof s->peer))
        snprintf(s->peer, sizeof s->peer, "unknown");
}

/* Connections count for the client's network: an IPv4 address, also when IPv6 carries it; of IPv6 the /64, in which one customer has as
 * many addresses as he likes. kubeedge.kit.client_network has the same rule. */
static void find_network(uint8_t network[KB_PROXY_NETWORK], const struct sockaddr_storage *from)
{
    const struct in6_addr *six = &((const struct sockaddr_in6 *)from)->sin6_addr;
    memset(network, 0, KB_PROXY_NETWORK);
    network[0] = 4;
    if (from->ss_family != AF_INET6)
        memcpy(network + 1, &((const struct sockaddr_in *)from)->sin_addr, 4);
    else if (IN6_IS_ADDR_V4MAPPED(six))
        memcpy(network + 1, six->s6_addr + 12, 4);
    else {
        network[0] = 6;
        memcpy(network + 1, six->s6_addr, 8);
    }
}

static uint32_t connections_of(const kb_proxy *proxy, const uint8_t network[KB_PROXY_NETWORK])
{
    uint32_t count_of = 0;
    for (const session *s = proxy->sessions; s; s = s->next)
        count_of += !memcmp(s->network, network, KB_PROXY_NETWORK);
    return count_of;
}

/* The connections of one network. */
typedef struct {
    session *idle; /* the one that has waited for a request for longest */
    uint32_t count, idle_count;
} tally;

static tally *tally_of(tally *table, size_t mask, const session *s)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < KB_PROXY_NETWORK; i++)
        hash = (hash ^ s->network[i]) * 16777619u;
    size_t at = hash & mask;
    /* `idle` of a network that has no idle one is any of its connections: it names the network */
    while (table[at].count && memcmp(table[at].idle->network, s->network, KB_PROXY_NETWORK))
        at = (at + 1) & mask;
    return &table[at];
}

/* For a newcomer when all are taken: an idle connection of the network that has the most of these, if that has more than his own would have.
 * NULL: nobody gives way. One pass over all, whatever their networks are: newcomers may come fast. */
static session *to_displace(const kb_proxy *proxy, const uint8_t newcomer[KB_PROXY_NETWORK])
{
    size_t size = 64;
    while (size < 2 * (size_t)proxy->counters.connections)
        size *= 2;
    tally *table = calloc(size, sizeof *table), *most = NULL;
    if (!table)
        return NULL;
    for (session *s = proxy->sessions; s; s = s->next) {
        tally *of = tally_of(table, size - 1, s);
        if (!of->count++)
            of->idle = s;
        if (s->state != READING || !kb_proxy_conn_flushed(s->client))
            continue;
        if (!of->idle_count++ || s->deadline < of->idle->deadline)
            of->idle = s;
        if (!most || of->idle_count > most->idle_count)
            most = of;
    }
    session *found = most && most->count > connections_of(proxy, newcomer) + 1 ? most->idle : NULL;
    free(table);
    return found;
}

static int make_room(kb_proxy *proxy, const uint8_t newcomer[KB_PROXY_NETWORK])
{
    session *s = kb_proxy_full(proxy) ? to_displace(proxy, newcomer) : NULL;
    if (s)
        kb_proxy_session_end(s, 0);
    return !kb_proxy_full(proxy);
}

static void on_listener(kb_watch *watch, uint32_t events)
{
    kb_proxy *proxy = (kb_proxy *)((char *)watch - offsetof(kb_proxy, listener));
    (void)events;
    for (int n = 0; n < 64; n++) {
        struct sockaddr_storage from;
        socklen_t size = sizeof from;
        int fd = accept4(watch->fd, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                kb_watch_remove(proxy->plane, watch); /* until the next tick */
                proxy->paused = 1;
                kb_proxy_schedule(proxy);
            }
            return;
        }
        uint8_t network[KB_PROXY_NETWORK];
        find_network(network, &from);
        proxy_conn *x = make_room(proxy, network) ? kb_proxy_conn_tcp(proxy->plane, fd) : NULL;
        session *s = x ? kb_proxy_session_new(proxy, x) : NULL;
        if (!s) {
            if (x)
                kb_proxy_conn_close(x, 1);
            else
                close(fd);
            continue;
        }
        keep_alive(fd);
        name_peer(s, &from);
        memcpy(s->network, network, sizeof network);
        if (connections_of(proxy, network) > proxy->limits.per_client) {
            kb_proxy_session_end(s, 1);
            continue;
        }
        x->readable = x->writable = 1;
        kb_proxy_drive(s);
    }
}

static proxy_group *group_of(kb_plane *plane);

/* -- the proxy ---------------------------------------------------------------------------------------------------------------------- */

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
    proxy->listener = (kb_watch){.fd = listener, .ready = on_listener};
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
    if (kb_l4_divert(proxy->l4, tenant, port, on_accept, proxy, &proxy->fallback, &proxy->fallback_context) < 0) {
        kb_proxy_close(proxy);
        return NULL;
    }
    return proxy;
}

int kb_proxy_fileno(kb_proxy *proxy) { return proxy->notify; }

static void quiet(kb_proxy *proxy)
{
    uint64_t told;
    if (!proxy->waiting && !proxy->lookups && read(proxy->notify, &told, sizeof told) < 0) {
        /* nobody had poked it */
    }
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
    if (proxy->listener.fd >= 0) {
        if (!proxy->paused)
            kb_watch_remove(plane, &proxy->listener);
        close(proxy->listener.fd);
    }
    if (proxy->notify >= 0)
        close(proxy->notify);
    kb_text_free(&proxy->text);
    proxy->listener.fd = -1;
    kb_watch_defer_free(plane, &proxy->listener, proxy);
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

/* -- deadlines ---------------------------------------------------------------------------------------------------------------------- */

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
    case READING: /* nobody asks anything; a head that stays in pieces is Python's to complain about */
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

/* us, when to look at the clock again */
static uint64_t tick(proxy_group *group)
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

static void work(kb_handler *h)
{
    if (kb_plane_now(h->plane) >= h->deadline)
        h->deadline = tick((proxy_group *)h);
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
