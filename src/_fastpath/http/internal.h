/* What the files of the proxies share, from below: conn.c (a connection, TCP or L4, with the same few calls), hosts.c (names that are not for us),
 * upstream.c (where requests go, with idle connections and accounts), share.c (how much of everything a client may have), session.c (one
 * client), handover.c (what waits for Python), refusal.c (answers of our own), request.c and answer.c (the halves of an exchange), exchange.c (its
 * steps), listener.c (clients that come), deadlines.c, proxy.c (all of it, and what Python calls). The rules are in proxy.h. */
#ifndef KUBEEDGE_HTTP_INTERNAL_H
#define KUBEEDGE_HTTP_INTERNAL_H

#define _GNU_SOURCE
#include "http/chunks.h"
#include "http/proxy.h"
#include "http/rewrite.h"
#include "l4/in_plane.h"

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
#define MAX_IN (128 * 1024)
#define DIRECT 4096                 /* bytes from which a piece goes to the socket without a copy */
#define MAX_UPSTREAMS 4096              /* upstreams at most */
#define MAX_ACCOUNTS 1024
#define UPSTREAM_EXPIRY 60000000u         /* us after which an upstream that is not certain goes */
#define SHORT 10000u                /* us after which an exchange that is kept short looks again */
#define LOOKUP_TIMEOUT 2000000u           /* us that a request waits until its upstream is known */

typedef struct session session;
typedef struct upstream upstream;
typedef void (*kb_proxy_ready)(session *s); /* there is something to read, to write or to end */

typedef struct proxy_conn {
    kb_watch watch;                 /* first: the loop knows us by it */
    kb_plane *plane;
    kb_conn *conn;                  /* L4, when not NULL */
    session *session;               /* who is told of news, by `ready`; NULL: idle in its upstream */
    kb_proxy_ready ready;
    uint8_t readable, writable, eof, broken, connecting, closed;
    kb_text in, out;
    size_t in_at, out_at;
    /* towards an upstream */
    upstream *upstream;
    struct proxy_conn *next;              /* in its idle list */
    uint64_t until;
    int target;
} proxy_conn;

typedef struct account {
    struct account *next;
    kb_account_counters counters;
    uint32_t upstreams, users;         /* that belong to it; sessions whose buffers it pays for */
    double tokens;
    uint64_t filled_at;
} account;

struct upstream {
    upstream *next;
    char name[KB_PROXY_NAME];
    account *account;
    uint32_t tenant, number, users, hash;
    uint8_t asked;
    uint64_t until;
    struct sockaddr_storage targets[KB_PROXY_TARGETS];
    int target_count, turn;
    proxy_conn *idle;
    uint32_t idle_count;
};

enum { READING, AWAITING_ANSWER, BODY, CLOSING, LOOKING_UP };
enum { EMPTY, SIZED, CHUNKED, UNTIL_END };

enum { KB_PROXY_NETWORK = 9 }; /* bytes: the version of IP, and an IPv4 address or half of one of IPv6 */

struct session {
    kb_proxy *proxy;
    session *previous, *next;
    proxy_conn *client, *server;
    kb_proxy_ready ready;           /* of both */
    upstream *upstream, *wanted;          /* of the exchange; not known yet */
    account *account;               /* who pays for `held` */
    uint64_t held, again_at;        /* bytes in buffers; us, when to go on without an event, 0: not at all */
    size_t turn;                    /* bytes that may still move before the others have their turn */
    uint32_t interim;
    uint8_t state, framing, head_only, close, keep, framed, fresh, begun;
    uint32_t head, prefix, prefix_length, directory_length, host, host_length; /* bytes, offsets in what the client has sent */
    uint64_t deadline, left;
    kb_chunks chunks;
    char peer[INET6_ADDRSTRLEN];
    uint8_t network[KB_PROXY_NETWORK]; /* what its connections count for */
};

typedef struct lookup {
    struct lookup *next;
    char name[KB_PROXY_NAME];
} lookup;

typedef struct handover {
    struct handover *next;
    int fd;
    uint8_t *data;
    size_t length;
} handover;

/* All proxies of a plane. */
typedef struct {
    kb_handler handler; /* first: the plane knows us by it */
    kb_proxy *first;
} proxy_group;

struct kb_proxy {
    kb_proxy *next;
    proxy_group *group;
    kb_plane *plane;
    kb_l4 *l4;
    kb_watch listener;
    uint8_t is_client, paused;
    uint32_t tenant;
    uint16_t port;
    kb_l4_accept fallback;
    void *fallback_context;
    kb_proxy_limits limits;
    session *sessions;
    upstream *upstreams;
    account *accounts;
    uint32_t upstream_count, account_count;
    handover *waiting, *waiting_last;
    uint32_t waiting_count;
    lookup *lookups, *lookups_last;
    int notify;
    kb_proxy_counters counters;
    kb_text text;                   /* of the head at hand */
    const char **hosts;             /* sorted; "*.x": all below x */
    size_t host_count;
};

enum { WAIT, GO_ON, OVER }; /* what a step of an exchange says; OVER: the session is no more */

/* The files below call only those before them, and text.c, chunks.c, head.c and rewrite.c; a test has the same order. */

/* conn.c */
void kb_proxy_on_l4_event(void *user, kb_conn *conn);
proxy_conn *kb_proxy_conn_tcp(kb_plane *plane, int fd);
proxy_conn *kb_proxy_conn_l4(kb_plane *plane, kb_conn *conn);
void kb_proxy_conn_close(proxy_conn *x, int hard);
int kb_proxy_conn_is_up(proxy_conn *x);
int kb_proxy_conn_is_broken(proxy_conn *x);
const uint8_t *kb_proxy_conn_peek(proxy_conn *x, size_t *length, size_t most);
void kb_proxy_conn_consume(proxy_conn *x, size_t count);
int kb_proxy_conn_at_eof(proxy_conn *x);
int kb_proxy_conn_is_gone(proxy_conn *x);
size_t kb_proxy_conn_room(proxy_conn *x);
size_t kb_proxy_unsent(const proxy_conn *x);
size_t kb_proxy_held(const proxy_conn *x);
void kb_proxy_conn_make_idle(proxy_conn *x);
void kb_proxy_conn_flush(proxy_conn *x);
int kb_proxy_conn_flushed(const proxy_conn *x);
void kb_proxy_conn_write(proxy_conn *x, const uint8_t *data, size_t length);

/* hosts.c */
int kb_proxy_has_host(const kb_proxy *proxy, const uint8_t *host, uint32_t length);
void kb_proxy_hosts_free(kb_proxy *proxy);

/* upstream.c */
void kb_proxy_drop_idle(upstream *p);
void kb_proxy_upstream_free(kb_proxy *proxy, upstream *p);
upstream *kb_proxy_upstream_find(kb_proxy *proxy, const char *name);
upstream *kb_proxy_upstream_new(kb_proxy *proxy, const char *name);
account *kb_proxy_account_of(kb_proxy *proxy, const char *name);
int kb_proxy_take_token(kb_proxy *proxy, account *a);
void kb_proxy_count_answer(session *s, int status);
proxy_conn *kb_proxy_open_upstream(session *s, upstream *p);
void kb_proxy_release_upstream(session *s, int keep);

/* share.c */
uint32_t kb_proxy_full(const kb_proxy *proxy);
void kb_proxy_charge(session *s, account *a);
void kb_proxy_weigh(session *s);
int kb_proxy_kept_short(session *s);
size_t kb_proxy_room_of(session *s);
int kb_proxy_in_turn(session *s, size_t moved);

/* session.c */
void kb_proxy_schedule(kb_proxy *proxy);
session *kb_proxy_session_new(kb_proxy *proxy, proxy_conn *client, kb_proxy_ready ready);
void kb_proxy_session_free(session *s);
void kb_proxy_session_resume(session *s);
void kb_proxy_session_end(session *s, int hard);

/* handover.c */
int kb_proxy_ask(kb_proxy *proxy, upstream *p);
void kb_proxy_hand_over(session *s);
void kb_proxy_handovers_free(kb_proxy *proxy);

/* refusal.c */
void kb_proxy_refuse(session *s, int status, const char *why);
void kb_proxy_refuse_excess(session *s, int status); /* 429: too many a second, 503: too many at once */

/* request.c, answer.c: the steps of an exchange */
int kb_proxy_read_request(session *s);
int kb_proxy_wait_for_upstream(session *s);
int kb_proxy_read_answer(session *s);
int kb_proxy_relay_body(session *s);

/* exchange.c */
void kb_proxy_drive(session *s);

/* listener.c */
void kb_proxy_on_accept(void *proxy, kb_conn *conn); /* a kb_l4_accept */
void kb_proxy_on_listener(kb_watch *watch, uint32_t events);

/* deadlines.c */
uint64_t kb_proxy_tick(proxy_group *group);

#endif
