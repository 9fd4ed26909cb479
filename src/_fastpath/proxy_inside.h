/* What the files of the proxies share: proxy.c (clients, places as Python knows them, deadlines), proxy_side.c (a connection, TCP or L4, with the
 * same few calls), proxy_place.c (where requests go, with idle connections and accounts), proxy_session.c (one client and the exchange
 * that it is in), proxy_share.c (how much of everything it may have). The rules are in proxy.h. */
#ifndef KUBEEDGE_PROXY_INSIDE_H
#define KUBEEDGE_PROXY_INSIDE_H

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
#define SHORT 10000u                /* us after which an exchange that is kept short looks again */
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
    uint32_t places, users;         /* that belong to it; sessions whose buffers it pays for */
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
    account *account;               /* who pays for `held` */
    uint64_t held, again_at;        /* bytes in buffers; us, when to go on without an event, 0: not at all */
    size_t turn;                    /* bytes that may still move before the others have their turn */
    uint32_t interim;
    uint8_t state, framing, head_only, close, keep, framed, fresh, begun;
    uint32_t head, prefix, prefix_length, directory_length, host, host_length; /* bytes, offsets in what the client has sent */
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
    uint32_t waiting_count;
    question *questions, *questions_last;
    int notify;
    kb_proxy_counters counters;
    kb_text text;                   /* of the head at hand */
};

/* proxy_side.c */
void web_on_conn(void *user, kb_conn *conn);
side *web_side_tcp(kb_plane *plane, int fd);
side *web_side_l4(kb_plane *plane, kb_conn *conn);
void web_text_free(kb_text *t);
void web_side_close(side *x, int hard);
int web_side_up(side *x);
int web_side_broken(side *x);
const uint8_t *web_view(side *x, size_t *length, size_t most);
void web_consume(side *x, size_t count);
int web_ended(side *x);
int web_gone(side *x);
size_t web_room(side *x);
size_t web_unsent(const side *x);
size_t web_held(const side *x);
void web_rest(side *x);
void web_flush(side *x);
int web_flushed(const side *x);
void web_put(side *x, const uint8_t *data, size_t length);

/* proxy_place.c */
void web_drop_idle(place *p);
void web_place_free(kb_proxy *proxy, place *p);
place *web_place_find(kb_proxy *proxy, const char *name);
place *web_place_new(kb_proxy *proxy, const char *name);
account *web_account_of(kb_proxy *proxy, const char *name);
int web_may_ask(kb_proxy *proxy, account *a);
side *web_open_place(session *s, place *p);
void web_give_back(session *s, int keep);

/* proxy_share.c */
uint32_t web_full(const kb_proxy *proxy);
void web_charge(session *s, account *a);
void web_weigh(session *s);
int web_kept_short(session *s);
size_t web_room_of(session *s);
int web_in_turn(session *s, size_t moved);

/* proxy_session.c */
void web_come_again(kb_proxy *proxy);
session *web_session_new(kb_proxy *proxy, side *client);
void web_unpark(session *s);
void web_session_end(session *s, int hard);
void web_hand_over(session *s);
void web_refuse(session *s, int status, const char *why);
void web_drive(session *s);

#endif
