/* Clients that come, and who of them gives way when there are too many. */
#include "http/internal.h"

void kb_proxy_on_accept(void *context, kb_conn *conn)
{
    kb_proxy *proxy = context;
    proxy_conn *x = kb_proxy_full(proxy) ? NULL : kb_proxy_conn_l4(proxy->plane, conn);
    session *s = x ? kb_proxy_session_new(proxy, x, kb_proxy_drive) : NULL;
    if (!s) {
        free(x);
        return; /* a connection without an owner is reset */
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
} network_usage;

static network_usage *usage_of(network_usage *table, size_t mask, const session *s)
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

/* For a new connection from `network` when all are taken: an idle connection of the network that has the most of these, if that has more than
 * `network` would have. NULL: none gives way. One pass over all, whatever their networks are: connections may arrive fast. */
static session *to_displace(const kb_proxy *proxy, const uint8_t network[KB_PROXY_NETWORK])
{
    size_t size = 64;
    while (size < 2 * (size_t)proxy->counters.connections)
        size *= 2;
    network_usage *table = calloc(size, sizeof *table), *most = NULL;
    if (!table)
        return NULL;
    for (session *s = proxy->sessions; s; s = s->next) {
        network_usage *of = usage_of(table, size - 1, s);
        if (!of->count++)
            of->idle = s;
        if (s->state != READING || !kb_proxy_conn_flushed(s->client))
            continue;
        if (!of->idle_count++ || s->deadline < of->idle->deadline)
            of->idle = s;
        if (!most || of->idle_count > most->idle_count)
            most = of;
    }
    session *found = most && most->count > connections_of(proxy, network) + 1 ? most->idle : NULL;
    free(table);
    return found;
}

static int make_room(kb_proxy *proxy, const uint8_t network[KB_PROXY_NETWORK])
{
    session *s = kb_proxy_full(proxy) ? to_displace(proxy, network) : NULL;
    if (s)
        kb_proxy_session_end(s, 0);
    return !kb_proxy_full(proxy);
}

void kb_proxy_on_listener(kb_watch *watch, uint32_t events)
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
        session *s = x ? kb_proxy_session_new(proxy, x, kb_proxy_drive) : NULL;
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
