/* See proxy.h. A `side` is a connection, TCP or L4, with the same few calls; a `session` is one client and the exchange it is in; a `place` is
 * where requests go, with its idle connections. */
#define _GNU_SOURCE
#include "proxy.h"
#include "http1.h"
#include "inside.h"
#include "l4_plane.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FIRST_IN 8192
#define MOST_IN (128 * 1024)
#define DIRECT 4096                 /* bytes from which a piece goes to the socket without a copy */
#define ADDRESSES 4096              /* places at most */
#define ACCOUNTS 1024
#define FORGOTTEN 60000000u         /* us after which a place that is not certain goes */
#define PATIENCE 2000000u           /* us that a request waits until its place is known */

typedef struct session session;
typedef struct place place;

typedef struct side {
    kb_watch watch;                 /* first: the loop knows us by it */
    kb_plane *plane;
    kb_conn *conn;                  /* L4, when not NULL */
    session *session;               /* NULL: idle in its place */
    uint8_t readable, writable, eof, broken, connecting, closed;
    kb_text in, out;
    size_t in_at, out_at;
    /* towards a place */
    place *place;
    struct side *next;              /* in its idle list */
    uint64_t until;
    int target;
} side;

typedef struct account {
    struct account *next;
    kb_account_counters counters;
    uint32_t places;
    double tokens;
    uint64_t filled_at;
} account;

struct place {
    place *next;
    char name[KB_PROXY_NAME];
    account *account;
    uint32_t tenant, number, users, hash;
    uint8_t asked;
    uint64_t until;
    struct sockaddr_storage targets[KB_PROXY_TARGETS];
    int target_count, turn;
    side *idle;
    uint32_t idle_count;
};

enum { READING, ASKED, BODY, CLOSING, PARKED };
enum { EMPTY, SIZED, CHUNKED, UNTIL_END };

struct session {
    kb_proxy *proxy;
    session *previous, *next;
    side *client, *server;
    place *place, *wanted;          /* of the exchange; not known yet */
    uint8_t state, framing, head_only, close, keep, framed, fresh, begun;
    uint32_t head, prefix, prefix_length, host, host_length; /* bytes, offsets in what the client has sent */
    uint64_t deadline, left;
    kb_chunks chunks;
    char peer[INET6_ADDRSTRLEN];
};

typedef struct question {
    struct question *next;
    char name[KB_PROXY_NAME];
} question;

typedef struct handover {
    struct handover *next;
    int fd;
    uint8_t *data;
    size_t length;
} handover;

struct kb_proxy {
    kb_proxy *next;
    kb_plane *plane;
    kb_watch listener;
    uint8_t front, paused;
    uint32_t tenant;
    uint16_t port;
    kb_l4_accept fallback;
    void *fallback_context;
    kb_proxy_limits limits;
    session *sessions;
    place *places;
    account *accounts;
    uint32_t place_count, account_count;
    handover *waiting, *waiting_last;
    question *questions, *questions_last;
    int notify;
    kb_proxy_counters counters;
    kb_text text;                   /* of the head at hand */
};

static void drive(session *s);

/* -- sides -------------------------------------------------------------------------------------------------------------------------- */

static void on_socket(kb_watch *watch, uint32_t events)
{
    side *x = (side *)watch;
    if (x->closed)
        return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        x->readable = 1;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        x->writable = 1;
    if (events & EPOLLERR)
        x->broken = 1;
    if (x->session)
        drive(x->session);
    else
        x->until = 0; /* an idle connection has something to say: its end, mostly; the tick closes it */
}

static void on_conn(void *user, kb_conn *conn)
{
    side *x = user;
    (void)conn;
    if (x->session)
        drive(x->session);
    else
        x->until = 0;
}

static side *side_tcp(kb_plane *plane, int fd)
{
    side *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->plane = plane;
    x->watch = (kb_watch){.fd = fd, .ready = on_socket};
    if (watch_add(plane, &x->watch, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) < 0) {
        free(x);
        return NULL;
    }
    return x;
}

static side *side_l4(kb_plane *plane, kb_conn *conn)
{
    side *x = calloc(1, sizeof *x);
    if (x) {
        x->plane = plane;
        x->watch.fd = -1;
        x->conn = conn;
    }
    return x;
}

static void text_free(kb_text *t)
{
    free(t->data);
    memset(t, 0, sizeof *t);
}

/* `hard`: the other end is to notice that this is no good end */
static void side_close(side *x, int hard)
{
    if (!x || x->closed)
        return;
    x->closed = 1;
    x->session = NULL;
    text_free(&x->in);
    text_free(&x->out);
    if (x->conn) {
        if (hard)
            kb_conn_release(x->conn);
        else
            kb_conn_close(x->conn, x->plane->now);
        x->conn = NULL;
        free(x);
        return;
    }
    if (hard) {
        struct linger none = {1, 0};
        setsockopt(x->watch.fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    }
    close(x->watch.fd);
    watch_bury(x->plane, &x->watch, x); /* this turn of the loop may still name it */
}

static int side_up(side *x)
{
    if (x->conn)
        return kb_conn_state_of(x->conn) == KB_ESTABLISHED;
    return !x->connecting;
}

static int side_broken(side *x)
{
    if (x->conn)
        return kb_conn_state_of(x->conn) == KB_RESET;
    if (x->connecting && x->writable) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(x->watch.fd, SOL_SOCKET, SO_ERROR, &error, &size);
        x->connecting = 0;
        if (error)
            x->broken = 1;
    }
    return x->broken;
}

static void fill(side *x, size_t most)
{
    while (x->readable && !x->eof && x->in.length - x->in_at < most) {
        if (x->in_at && x->in_at == x->in.length)
            x->in_at = x->in.length = 0;
        if (x->in.length == x->in.room) {
            if (x->in_at) {
                memmove(x->in.data, x->in.data + x->in_at, x->in.length - x->in_at);
                x->in.length -= x->in_at;
                x->in_at = 0;
            } else {
                size_t room = x->in.room ? 2 * x->in.room : FIRST_IN;
                uint8_t *data = room <= MOST_IN ? realloc(x->in.data, room) : NULL;
                if (!data)
                    return;
                x->in.data = data;
                x->in.room = room;
            }
        }
        size_t room = x->in.room - x->in.length;
        ssize_t got = recv(x->watch.fd, x->in.data + x->in.length, room, MSG_DONTWAIT);
        if (got > 0) {
            x->in.length += (size_t)got;
            continue;
        }
        if (got == 0)
            x->eof = 1;
        else if (errno == EAGAIN)
            x->readable = 0;
        else if (errno != EINTR)
            x->broken = x->eof = 1;
    }
}

static const uint8_t *view(side *x, size_t *length, size_t most)
{
    if (x->conn)
        return kb_conn_peek(x->conn, length);
    fill(x, most);
    *length = x->in.length - x->in_at;
    return x->in.data ? x->in.data + x->in_at : NULL;
}

static void consume(side *x, size_t count)
{
    if (x->conn) {
        kb_conn_consume(x->conn, count);
        return;
    }
    x->in_at += count;
    if (x->in_at == x->in.length && x->in.room > FIRST_IN * 4)
        x->in_at = x->in.length = 0;
}

static int ended(side *x)
{
    if (x->conn)
        return kb_conn_eof(x->conn) || kb_conn_state_of(x->conn) == KB_RESET;
    return x->eof && x->in.length == x->in_at;
}

/* A client that ends its side in the middle of an exchange has hung up, whatever it had sent before. */
static int gone(side *x) { return side_broken(x) || (x->conn ? kb_conn_finished(x->conn) : x->eof); }

static size_t room(side *x)
{
    if (x->conn)
        return kb_conn_room(x->conn);
    size_t waiting = x->out.length - x->out_at;
    return waiting < KB_PROXY_OUT ? KB_PROXY_OUT - waiting : 0;
}

static ssize_t push(side *x, const uint8_t *data, size_t length)
{
    ssize_t sent = send(x->watch.fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0)
        return sent;
    if (errno == EAGAIN || errno == EINTR)
        x->writable = errno == EINTR;
    else
        x->broken = 1;
    return 0;
}

static void flush(side *x)
{
    if (x->conn || x->closed || x->connecting)
        return;
    while (x->out_at < x->out.length && x->writable && !x->broken)
        x->out_at += (size_t)push(x, x->out.data + x->out_at, x->out.length - x->out_at);
    if (x->out_at == x->out.length)
        x->out_at = x->out.length = 0;
}

static int flushed(const side *x) { return x->conn || x->out_at == x->out.length; }

static void put(side *x, const uint8_t *data, size_t length)
{
    if (x->conn) {
        if (kb_conn_write(x->conn, data, length) < length)
            kb_conn_abort(x->conn, "no memory");
        return;
    }
    if (length >= DIRECT && x->writable && !x->connecting) {
        flush(x);
        while (length && flushed(x) && x->writable && !x->broken) {
            size_t sent = (size_t)push(x, data, length);
            data += sent;
            length -= sent;
        }
    }
    kb_add(&x->out, data, length);
    if (x->out.failed)
        x->broken = 1;
}

static void rest(side *x) /* it waits, and holds no buffer meanwhile */
{
    if (x->in.length == x->in_at) {
        text_free(&x->in);
        x->in_at = 0;
    }
    if (x->out.length == x->out_at) {
        text_free(&x->out);
        x->out_at = 0;
    }
}

/* -- places ------------------------------------------------------------------------------------------------------------------------- */

static void drop_idle(place *p)
{
    while (p->idle) {
        side *x = p->idle;
        p->idle = x->next;
        side_close(x, 0);
    }
    p->idle_count = 0;
}

static void place_free(kb_proxy *proxy, place *p)
{
    place **at = &proxy->places;
    while (*at && *at != p)
        at = &(*at)->next;
    if (*at)
        *at = p->next;
    proxy->place_count--;
    if (p->account)
        p->account->places--;
    drop_idle(p);
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
static place *place_find(kb_proxy *proxy, const char *name)
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

static place *place_new(kb_proxy *proxy, const char *name)
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
        if (a->places || a->counters.in_progress) {
            at = &a->next;
            continue;
        }
        *at = a->next;
        free(a);
        proxy->account_count--;
    }
}

static account *account_of(kb_proxy *proxy, const char *name)
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

static int may_ask(kb_proxy *proxy, account *a)
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
    side *x = side_tcp(proxy->plane, fd);
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
    side *x = side_l4(proxy->plane, NULL);
    if (!x)
        return NULL;
    x->conn = kb_l4_connect(proxy->plane->l4, p->tenant, p->number, proxy->port, proxy->plane->now, on_conn, x);
    if (!x->conn) {
        free(x);
        return NULL;
    }
    kb_conn_keepalive(x->conn, 60000000); /* a stream may be silent; a node that is gone must not */
    return x;
}

/* A connection to the place, an idle one if there is one. NULL: Python is to say what is wrong. */
static side *open_place(session *s, place *p)
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

static void give_back(session *s, int keep)
{
    side *x = s->server;
    place *p = s->place;
    kb_proxy *proxy = s->proxy;
    s->server = NULL;
    s->place = NULL;
    if (x) {
        size_t left;
        view(x, &left, MOST_IN);
        x->session = NULL;
        if (keep && !left && !ended(x) && !side_broken(x) && p->idle_count < proxy->limits.pooled && flushed(x)) {
            rest(x);
            x->until = proxy->plane->now + proxy->limits.kept;
            x->next = p->idle;
            p->idle = x;
            p->idle_count++;
        } else {
            side_close(x, 0); /* it is answered, or nobody waits: no harm in a polite end */
        }
    }
    if (p)
        place_unuse(p);
}

/* -- sessions ----------------------------------------------------------------------------------------------------------------------- */

static void come_again(kb_proxy *proxy)
{
    uint64_t at = proxy->plane->now + 1000000;
    if (at < proxy->plane->proxies_at)
        proxy->plane->proxies_at = at;
}

static session *session_new(kb_proxy *proxy, side *client)
{
    session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->proxy = proxy;
    s->client = client;
    client->session = s;
    s->deadline = proxy->plane->now + proxy->limits.idle;
    s->next = proxy->sessions;
    if (s->next)
        s->next->previous = s;
    proxy->sessions = s;
    proxy->counters.connections++;
    come_again(proxy);
    return s;
}

static void session_free(session *s)
{
    if (s->previous)
        s->previous->next = s->next;
    else
        s->proxy->sessions = s->next;
    if (s->next)
        s->next->previous = s->previous;
    s->proxy->counters.connections--;
    free(s);
}

static void unpark(session *s)
{
    if (s->wanted)
        s->wanted->users--;
    s->wanted = NULL;
}

static void session_end(session *s, int hard)
{
    unpark(s);
    give_back(s, 0);
    side_close(s->client, hard);
    session_free(s);
}

static void poke(kb_proxy *proxy)
{
    uint64_t one = 1;
    if (write(proxy->notify, &one, sizeof one) < 0) {
        /* it is set already */
    }
}

/* Python goes on with this connection, from the request at hand. */
static void hand_over(session *s)
{
    kb_proxy *proxy = s->proxy;
    side *client = s->client;
    unpark(s);
    give_back(s, 0);
    proxy->counters.handed_over++;
    if (client->conn) {
        kb_conn *conn = client->conn;
        client->conn = NULL;
        client->closed = 1;
        free(client);
        session_free(s);
        proxy->fallback(proxy->fallback_context, conn);
        return;
    }
    handover *h = calloc(1, sizeof *h);
    size_t length = client->in.length - client->in_at;
    int fd = h ? dup(client->watch.fd) : -1; /* ours leaves epoll and is closed with the side */
    uint8_t *data = malloc(length ? length : 1);
    if (fd < 0 || !data) {
        free(h);
        free(data);
        if (fd >= 0)
            close(fd);
        session_end(s, 1);
        return;
    }
    if (length)
        memcpy(data, client->in.data + client->in_at, length);
    watch_remove(proxy->plane, &client->watch);
    *h = (handover){NULL, fd, data, length};
    if (proxy->waiting)
        proxy->waiting_last->next = h;
    else
        proxy->waiting = h;
    proxy->waiting_last = h;
    poke(proxy);
    side_close(client, 0); /* the duplicate keeps the connection open */
    session_free(s);
}

static void count(session *s, int status)
{
    s->place->account->counters.status[status / 100 % 6]++;
    s->proxy->counters.requests++;
}

/* An answer of ours; as error_response in forward.py. Afterwards the connection ends. */
static void refuse(session *s, int status, const char *why)
{
    kb_text body = {0}, *head = &s->proxy->text;
    char where[KB_PROXY_NAME], *slash;
    snprintf(where, sizeof where, "%s", s->place->name);
    kb_add_string(&body, "{\"error\": \"");
    kb_add_string(&body, why);
    if (s->proxy->front && (slash = strchr(where, '/'))) {
        *slash = 0;
        kb_add_string(&body, "\", \"tenant\": \"");
        kb_add_string(&body, where);
        kb_add_string(&body, "\", \"node\": \"");
        kb_add_string(&body, slash + 1);
    } else {
        kb_add_string(&body, "\", \"service\": \"");
        kb_add_string(&body, where);
    }
    kb_add_string(&body, "\"}\n");
    head->length = 0;
    kb_add_string(head, "HTTP/1.1 ");
    kb_add_number(head, (uint64_t)status, 10);
    kb_add_string(head, status == 429 ? " Too Many Requests" : status == 503 ? " Service Unavailable" : " Gateway Timeout");
    kb_add_string(head, "\r\ncontent-type: application/json\r\ncache-control: no-store\r\nconnection: close\r\n");
    if (status != 504)
        kb_add_string(head, "retry-after: 1\r\n");
    kb_add_string(head, "content-length: ");
    kb_add_number(head, body.length, 10);
    kb_add_string(head, "\r\n\r\n");
    put(s->client, head->data, head->length);
    if (!s->head_only)
        put(s->client, body.data, body.length);
    text_free(&body);
    count(s, status);
    s->place->account->counters.refused++;
    give_back(s, 0);
    consume(s->client, s->head);
    s->state = CLOSING;
    s->deadline = s->proxy->plane->now + s->proxy->limits.head;
}

static void too_much(session *s, int status)
{
    const kb_proxy_limits *limits = &s->proxy->limits;
    char why[256];
    int length = snprintf(why, sizeof why, "%s %s has ", s->proxy->front ? "tenant" : "web service", s->place->account->counters.name);
    if (status == 429)
        snprintf(why + length, sizeof why - (size_t)length, "sent more than %g requests a second; try again later", limits->rate);
    else
        snprintf(why + length, sizeof why - (size_t)length, "%u requests in progress already; try again later", limits->concurrent);
    refuse(s, status, why);
}

enum { WAIT, GO_ON, OVER }; /* what a step says; OVER: the session is no more */

/* So much of a head: can it become a request that is for us? What cannot is not waited for. */
static int may_be_plain(const uint8_t *data, size_t length)
{
    return !memcmp(data, "GET ", length < 4 ? length : 4) || !memcmp(data, "HEAD ", length < 5 ? length : 5);
}

/* The request waits where it is until somebody says where its place is. */
static int park(session *s, place *p)
{
    kb_proxy *proxy = s->proxy;
    question *q = p && !p->asked ? calloc(1, sizeof *q) : NULL;
    if (!p || (!q && !p->asked)) {
        hand_over(s);
        return OVER;
    }
    if (q) {
        memcpy(q->name, p->name, sizeof q->name);
        if (proxy->questions)
            proxy->questions_last->next = q;
        else
            proxy->questions = q;
        proxy->questions_last = q;
        p->asked = 1;
        poke(proxy);
    }
    s->wanted = p;
    p->users++;
    s->state = PARKED;
    s->begun = 0;
    s->deadline = proxy->plane->now + PATIENCE;
    return WAIT;
}

static int wait_for_place(session *s)
{
    size_t more;
    view(s->client, &more, KB_HEAD_BYTES);
    if (!gone(s->client))
        return WAIT;
    session_end(s, 1);
    return OVER;
}

static int read_request(session *s)
{
    kb_proxy *proxy = s->proxy;
    side *client = s->client;
    uint64_t now = proxy->plane->now;
    kb_http_head head;
    kb_slice labels[3], rest_of;
    size_t length;
    if (!flushed(client))
        return WAIT;
    const uint8_t *data = view(client, &length, KB_HEAD_BYTES);
    if (!length) {
        if (ended(client) || side_broken(client)) {
            session_end(s, side_broken(client));
            return OVER;
        }
        rest(client);
        return WAIT;
    }
    int size = kb_parse_request(data, length, &head);
    if (size == 0 && !ended(client) && may_be_plain(data, length) && !(client->conn && kb_conn_waiting(client->conn) > length)) {
        if (!s->begun) {
            s->begun = 1;
            s->deadline = now + proxy->limits.head;
        }
        return WAIT;
    }
    if (size <= 0 || !kb_plain_request(&head) || kb_split_target(head.target, proxy->front ? 3 : 1, labels, &rest_of) < 0) {
        hand_over(s);
        return OVER;
    }
    char name[KB_PROXY_NAME];
    if (proxy->front)
        snprintf(name, sizeof name, "%.*s/%.*s", (int)labels[0].length, labels[0].at, (int)labels[1].length, labels[1].at);
    else
        snprintf(name, sizeof name, "%.*s", (int)labels[0].length, labels[0].at);
    place *p = place_find(proxy, name);
    if (!p || p->until <= now)
        return park(s, p ? p : place_new(proxy, name));
    s->place = p;
    p->users++;
    p->account->counters.in_progress++;
    s->head = (uint32_t)size;
    s->head_only = head.method.length == 4;
    s->close = head.close;
    s->begun = 0;
    s->prefix = (uint32_t)(head.target.at - data);
    s->prefix_length = proxy->front ? (uint32_t)(rest_of.at - head.target.at) : 0;
    s->host = s->host_length = 0;
    for (uint32_t i = 0; i < head.count; i++)
        if (head.fields[i].what == KB_F_HOST) {
            s->host = (uint32_t)(head.fields[i].value.at - data);
            s->host_length = head.fields[i].value.length;
        }
    if (!may_ask(proxy, p->account)) {
        too_much(s, 429);
        return GO_ON;
    }
    if (p->account->counters.in_progress > proxy->limits.concurrent) {
        too_much(s, 503);
        return GO_ON;
    }
    s->server = open_place(s, p);
    if (!s->server) {
        hand_over(s);
        return OVER;
    }
    proxy->text.length = 0;
    if (proxy->front)
        kb_client_request(&proxy->text, &head, s->peer, "http");
    else
        kb_service_request(&proxy->text, &head);
    if (proxy->text.failed) {
        session_end(s, 1);
        return OVER;
    }
    put(s->server, proxy->text.data, proxy->text.length);
    s->state = ASKED;
    s->deadline = now + (s->fresh ? proxy->limits.connect : proxy->limits.answer);
    return GO_ON;
}

/* The other side failed before it answered: once more, by Python, which says what is wrong if it fails again. */
static int repeat(session *s)
{
    s->proxy->counters.repeated++;
    hand_over(s);
    return OVER;
}

static int read_answer(session *s)
{
    kb_proxy *proxy = s->proxy;
    side *client = s->client, *server = s->server;
    kb_http_head head;
    size_t length;
    if (s->fresh && side_up(server)) {
        s->fresh = 0;
        s->deadline = proxy->plane->now + proxy->limits.answer;
    }
    if (side_broken(server))
        return repeat(s);
    flush(server);
    const uint8_t *data = view(server, &length, KB_HEAD_BYTES);
    int size = length ? kb_parse_response(data, length, &head) : 0;
    if (size == 0 && server->conn && kb_conn_waiting(server->conn) > length) {
        data = kb_conn_pullup(server->conn, KB_HEAD_BYTES, &length);
        size = data ? kb_parse_response(data, length, &head) : -1;
    }
    if (size < 0 || (size == 0 && ended(server)))
        return repeat(s);
    if (size == 0) {
        size_t more;
        view(client, &more, KB_HEAD_BYTES);
        if (gone(client)) {
            session_end(s, 1); /* nobody waits any more */
            return OVER;
        }
        return WAIT;
    }
    kb_text *text = &proxy->text;
    kb_slice prefix = {0}, host = {0};
    text->length = 0;
    if (head.status < 200) {
        if (head.status == 101)
            return repeat(s);
        kb_answer(text, &head, prefix, host, 0, 0);
        put(client, text->data, text->length);
        consume(server, (size_t)size);
        return GO_ON;
    }
    size_t asked;
    const uint8_t *request = view(client, &asked, 0);
    if (proxy->front)
        prefix = (kb_slice){request + s->prefix, s->prefix_length};
    host = (kb_slice){request + s->host, s->host_length};
    s->framing = s->head_only || head.status == 204 || head.status == 304 ? EMPTY : head.chunked ? CHUNKED : head.body >= 0 ? SIZED : UNTIL_END;
    s->framed = s->framing == CHUNKED || s->framing == UNTIL_END;
    s->left = head.body > 0 ? (uint64_t)head.body : 0;
    s->keep = head.minor == 1 && !head.close && s->framing != UNTIL_END;
    memset(&s->chunks, 0, sizeof s->chunks);
    kb_answer(text, &head, prefix, host, s->framed, s->close);
    if (text->failed) {
        session_end(s, 1);
        return OVER;
    }
    put(client, text->data, text->length);
    consume(server, (size_t)size);
    consume(client, s->head);
    count(s, head.status);
    s->state = BODY;
    s->deadline = proxy->plane->now + proxy->limits.stall;
    return GO_ON;
}

static void put_chunk(side *x, const uint8_t *data, size_t length)
{
    char size[24];
    int digits = snprintf(size, sizeof size, "%zx\r\n", length);
    put(x, (const uint8_t *)size, (size_t)digits);
    put(x, data, length);
    put(x, (const uint8_t *)"\r\n", 2);
}

static int answered(session *s, int keep)
{
    if (s->framed)
        put(s->client, (const uint8_t *)"0\r\n\r\n", 5);
    give_back(s, keep);
    s->state = s->close ? CLOSING : READING;
    s->deadline = s->proxy->plane->now + s->proxy->limits.idle;
    return GO_ON;
}

/* What is there of the body goes on, as far as the client takes it. */
static int relay(session *s)
{
    side *client = s->client, *server = s->server;
    account *a = s->place->account;
    if (s->framing == EMPTY || (s->framing == SIZED && !s->left))
        return answered(s, s->keep);
    size_t more;
    view(client, &more, KB_HEAD_BYTES);
    if (gone(client)) {
        session_end(s, 1);
        return OVER;
    }
    for (;;) {
        size_t length, skip = 0, body, free_bytes = room(client);
        if (!free_bytes)
            break;
        const uint8_t *data = view(server, &length, MOST_IN);
        if (!length) {
            if (!ended(server) && !side_broken(server)) {
                if (flushed(client))
                    s->deadline = UINT64_MAX; /* a stream may be silent for long */
                break;
            }
            if (s->framing == UNTIL_END && !side_broken(server))
                return answered(s, 0);
            session_end(s, 1); /* a part must not be taken for the whole */
            return OVER;
        }
        int over = 0;
        if (s->framing == CHUNKED) {
            over = kb_chunks_next(&s->chunks, data, length, &skip, &body);
            if (over < 0) {
                session_end(s, 1);
                return OVER;
            }
        } else {
            body = s->framing == SIZED && s->left < length ? (size_t)s->left : length;
        }
        if (body) {
            if (s->framed)
                put_chunk(client, data + skip, body);
            else
                put(client, data + skip, body);
            a->counters.bytes += body;
        }
        consume(server, skip + body);
        s->deadline = s->proxy->plane->now + s->proxy->limits.stall;
        if (s->framing == SIZED) {
            s->left -= body;
            over = !s->left;
        }
        if (over)
            return answered(s, s->keep);
    }
    return WAIT;
}

static int close_slowly(session *s)
{
    if (!flushed(s->client) && !side_broken(s->client))
        return WAIT;
    session_end(s, 0);
    return OVER;
}

static void drive(session *s)
{
    static int (*const steps[])(session *) = {read_request, read_answer, relay, close_slowly, wait_for_place};
    int said;
    flush(s->client);
    do {
        said = steps[s->state](s);
        if (said == OVER)
            return;
        if (s->state == READING || s->state == CLOSING || said == WAIT)
            flush(s->client);
    } while (said == GO_ON);
    if (s->server)
        flush(s->server);
    if (side_broken(s->client))
        session_end(s, 1);
}

/* -- clients ------------------------------------------------------------------------------------------------------------------------ */

static void on_accept(void *context, kb_conn *conn)
{
    kb_proxy *proxy = context;
    side *x = proxy->counters.connections < proxy->limits.connections ? side_l4(proxy->plane, conn) : NULL;
    session *s = x ? session_new(proxy, x) : NULL;
    if (!s) {
        free(x);
        return; /* whom nobody owns is reset */
    }
    kb_conn_own(conn, on_conn, x);
}

static void keep_alive(int fd)
{
    const int options[][3] = {{IPPROTO_TCP, TCP_NODELAY, 1}, {SOL_SOCKET, SO_KEEPALIVE, 1}, {IPPROTO_TCP, TCP_KEEPIDLE, 60}, {IPPROTO_TCP, TCP_KEEPINTVL, 15},
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

static uint32_t crowd(const kb_proxy *proxy, const char *peer)
{
    uint32_t count_of = 0;
    for (const session *s = proxy->sessions; s; s = s->next)
        count_of += !strcmp(s->peer, peer);
    return count_of;
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
                watch_remove(proxy->plane, watch); /* until the next tick */
                proxy->paused = 1;
                come_again(proxy);
            }
            return;
        }
        side *x = proxy->counters.connections < proxy->limits.connections ? side_tcp(proxy->plane, fd) : NULL;
        session *s = x ? session_new(proxy, x) : NULL;
        if (!s) {
            if (x)
                side_close(x, 1);
            else
                close(fd);
            continue;
        }
        keep_alive(fd);
        name_peer(s, &from);
        if (crowd(proxy, s->peer) > proxy->limits.per_client) {
            session_end(s, 1);
            continue;
        }
        x->readable = x->writable = 1;
        drive(s);
    }
}

/* -- the proxy ---------------------------------------------------------------------------------------------------------------------- */

static kb_proxy *proxy_new(kb_plane *plane, const kb_proxy_limits *limits)
{
    kb_proxy *proxy = calloc(1, sizeof *proxy);
    int notify = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!proxy || notify < 0 || !kb_plane_l4(plane)) {
        if (notify >= 0)
            close(notify);
        free(proxy);
        return NULL;
    }
    proxy->notify = notify;
    proxy->plane = plane;
    proxy->limits = *limits;
    proxy->listener.fd = -1;
    proxy->next = plane->proxies;
    plane->proxies = proxy;
    return proxy;
}

kb_proxy *kb_proxy_front(kb_plane *plane, int listener, const kb_proxy_limits *limits)
{
    kb_proxy *proxy = proxy_new(plane, limits);
    if (!proxy)
        return NULL;
    proxy->front = 1;
    proxy->port = 80;
    proxy->listener = (kb_watch){.fd = listener, .ready = on_listener};
    if (watch_add(plane, &proxy->listener, EPOLLIN) < 0) {
        proxy->listener.fd = -1;
        kb_proxy_close(proxy);
        return NULL;
    }
    return proxy;
}

kb_proxy *kb_proxy_back(kb_plane *plane, uint32_t tenant, uint16_t port, const kb_proxy_limits *limits)
{
    kb_proxy *proxy = proxy_new(plane, limits);
    if (!proxy)
        return NULL;
    proxy->tenant = tenant;
    proxy->port = port;
    if (kb_l4_divert(plane->l4, tenant, port, on_accept, proxy, &proxy->fallback, &proxy->fallback_context) < 0) {
        kb_proxy_close(proxy);
        return NULL;
    }
    return proxy;
}

int kb_proxy_fileno(kb_proxy *proxy) { return proxy->notify; }

static void quiet(kb_proxy *proxy)
{
    uint64_t told;
    if (!proxy->waiting && !proxy->questions && read(proxy->notify, &told, sizeof told) < 0) {
        /* nobody had poked it */
    }
}

int kb_proxy_asked(kb_proxy *proxy, char name[KB_PROXY_NAME])
{
    question *q = proxy->questions;
    if (!q) {
        quiet(proxy);
        return -1;
    }
    proxy->questions = q->next;
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
    *data = h->data;
    *length = h->length;
    free(h);
    return fd;
}

static place *learn(kb_proxy *proxy, const char *name, const char *account, double seconds)
{
    place *p = place_find(proxy, name);
    if (!p && !(p = place_new(proxy, name)))
        return NULL;
    if (!p->account) {
        if (!(p->account = account_of(proxy, account)))
            return NULL;
        p->account->places++;
    }
    p->until = proxy->plane->now + (uint64_t)(seconds * 1e6);
    return p;
}

/* Those who wait for the place go on, one way or the other. */
static void answer(kb_proxy *proxy, place *p, int known)
{
    p->asked = 0;
    for (session *s = proxy->sessions, *next; s; s = next) {
        next = s->next;
        if (s->wanted != p)
            continue;
        unpark(s);
        s->state = READING;
        s->deadline = proxy->plane->now + proxy->limits.idle;
        if (known)
            drive(s);
        else
            hand_over(s);
    }
}

int kb_proxy_learn_node(kb_proxy *proxy, const char *tenant, const char *node, uint32_t tenant_number, uint32_t number, double seconds)
{
    char name[KB_PROXY_NAME];
    snprintf(name, sizeof name, "%s/%s", tenant, node);
    place *p = learn(proxy, name, tenant, seconds);
    if (!p)
        return -1;
    if (p->number && (p->tenant != tenant_number || p->number != number))
        drop_idle(p);
    p->tenant = tenant_number;
    p->number = number;
    answer(proxy, p, 1);
    return 0;
}

int kb_proxy_learn_service(kb_proxy *proxy, const char *service, const struct sockaddr_storage *targets, int count_of, double seconds)
{
    place *p = count_of > 0 && count_of <= KB_PROXY_TARGETS ? learn(proxy, service, service, seconds) : NULL;
    if (!p)
        return -1;
    if (p->target_count != count_of || memcmp(p->targets, targets, (size_t)count_of * sizeof *targets))
        drop_idle(p);
    p->target_count = count_of;
    memcpy(p->targets, targets, (size_t)count_of * sizeof *targets);
    answer(proxy, p, 1);
    return 0;
}

void kb_proxy_deny(kb_proxy *proxy, const char *name)
{
    place *p = place_find(proxy, name);
    if (!p)
        return;
    p->until = 0;
    answer(proxy, p, 0);
    if (!p->users && !p->idle)
        place_free(proxy, p);
}

void kb_proxy_forget(kb_proxy *proxy)
{
    for (place *p = proxy->places; p; p = p->next)
        p->until = 0;
}

void kb_proxy_close(kb_proxy *proxy)
{
    kb_plane *plane = proxy->plane;
    kb_proxy **at = &plane->proxies;
    while (*at && *at != proxy)
        at = &(*at)->next;
    if (*at)
        *at = proxy->next;
    kb_l4_accept mine;
    void *me;
    if (!proxy->front && proxy->fallback)
        kb_l4_divert(plane->l4, proxy->tenant, proxy->port, proxy->fallback, proxy->fallback_context, &mine, &me);
    while (proxy->sessions)
        session_end(proxy->sessions, 1);
    while (proxy->places)
        place_free(proxy, proxy->places);
    for (account *a = proxy->accounts, *next; a; a = next) {
        next = a->next;
        free(a);
    }
    while (proxy->questions) {
        question *q = proxy->questions;
        proxy->questions = q->next;
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
            watch_remove(plane, &proxy->listener);
        close(proxy->listener.fd);
    }
    if (proxy->notify >= 0)
        close(proxy->notify);
    text_free(&proxy->text);
    proxy->listener.fd = -1;
    watch_bury(plane, &proxy->listener, proxy);
}

int kb_proxy_take(kb_proxy *proxy, const char *name)
{
    account *a = account_of(proxy, name);
    if (!a)
        return -1;
    if (!may_ask(proxy, a))
        return 429;
    if (a->counters.in_progress >= proxy->limits.concurrent)
        return 503;
    a->counters.in_progress++;
    return 0;
}

void kb_proxy_give(kb_proxy *proxy, const char *name)
{
    account *a = account_of(proxy, name);
    if (a && a->counters.in_progress)
        a->counters.in_progress--;
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
    case ASKED:
        if (s->proxy->front) {
            char node[KB_PROXY_NAME], *slash;
            snprintf(node, sizeof node, "%s", s->place->name);
            slash = strchr(node, '/');
            if (slash)
                *slash++ = 0;
            snprintf(why, sizeof why, "node %s of tenant %s did not answer in time", slash ? slash : "", node);
        } else {
            snprintf(why, sizeof why, "web service %s did not answer in time", s->place->name);
        }
        refuse(s, 504, why);
        drive(s);
        return;
    case PARKED:
        hand_over(s);
        return;
    case READING: /* nobody asks anything; a head that stays in pieces is Python's to complain about */
        if (s->begun)
            hand_over(s);
        else
            session_end(s, 0);
        return;
    default:
        session_end(s, 1);
    }
}

static void expire_idle(place *p, uint64_t now)
{
    for (side **at = &p->idle; *at;) {
        side *x = *at;
        if (x->until > now) {
            at = &x->next;
            continue;
        }
        *at = x->next;
        p->idle_count--;
        side_close(x, 0);
    }
}

uint64_t kb_proxies_tick(kb_plane *plane)
{
    int busy = 0;
    for (kb_proxy *proxy = plane->proxies; proxy; proxy = proxy->next) {
        if (proxy->paused) {
            proxy->paused = watch_add(plane, &proxy->listener, EPOLLIN) < 0;
            busy = 1;
        }
        for (session *s = proxy->sessions, *next; s; s = next) {
            next = s->next;
            if (s->deadline <= plane->now)
                expire(s);
        }
        for (place *p = proxy->places, *after; p; p = after) {
            after = p->next;
            expire_idle(p, plane->now);
            busy |= p->idle != NULL;
            if (p->until + FORGOTTEN < plane->now && !p->users && !p->idle && !p->asked)
                place_free(proxy, p);
        }
        busy |= proxy->sessions != NULL;
    }
    return busy ? plane->now + 1000000 : UINT64_MAX;
}

void kb_proxies_free(kb_plane *plane)
{
    while (plane->proxies)
        kb_proxy_close(plane->proxies);
}
