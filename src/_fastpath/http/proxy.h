/* The fast path of the proxies for published web services (kubebus/http): GET and HEAD without a body, for upstreams that Python names when they
 * are wanted, in the data plane's thread.
 *
 *     client ── TCP ── client proxy ══ L4 port 80 ══ server proxy ── TCP ── service
 *
 * What is not plain (another method, an upgrade, an upstream that is not known here, a head in pieces) is handed to Python with nothing lost, and the
 * rest of that connection with it; so is a request whose other side failed before it answered, which may be repeated (RFC 9110, section
 * 9.2.2). So the rules live in Python, once. Here are the limits, too, which count what passes here.
 *
 * Memory: a connection that waits for a request holds no buffer; one with an exchange holds at most KB_PROXY_OUT bytes for each slow
 * side beside one piece that is on its way (MAX_IN). All that one tenant's exchanges hold is counted: beyond `memory` each of them gets
 * KB_PROXY_LEAST bytes and waits for its reader.
 *
 * Time: an exchange moves KB_PROXY_TURN bytes, then the others of the plane have their turn.
 */
#ifndef KUBEEDGE_HTTP_PROXY_H
#define KUBEEDGE_HTTP_PROXY_H

#include "plane/plane.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define KB_PROXY_OUT (256 * 1024)
#define KB_PROXY_LEAST (64 * 1024)
#define KB_PROXY_TURN (512 * 1024)
#define KB_PROXY_SLOW (256 * 1024) /* what an exchange of the slow path is counted as */
#define KB_PROXY_TARGETS 16
#define KB_PROXY_NAME 160

typedef struct kb_proxy kb_proxy;

typedef struct {
    uint32_t connections;           /* of clients */
    uint32_t per_client;            /* of them from one address */
    uint32_t concurrent;            /* requests at once of one account: a tenant (client proxy), a service (server proxy) */
    uint32_t pooled;                /* idle connections to one upstream */
    uint32_t interim, interim_most; /* interim answers to one request: that are passed on; after which it has failed */
    uint64_t memory;                /* bytes that the exchanges of one tenant hold before they are kept short */
    double rate, burst;             /* requests a second of one account; 0: as many as there are */
    uint64_t connect, answer, idle, head, stall, kept; /* us: see ProxyLimits and Limits */
} kb_proxy_limits;

typedef struct {
    char name[64];
    uint64_t in_progress, bytes, status[6], refused, held; /* bytes: of bodies towards clients; status: by its first digit; held: in buffers */
} kb_account_counters;

typedef struct {
    uint64_t connections, requests, handed_over, repeated, reused, held; /* held: bytes in buffers, of a proxy in front of L4 */
} kb_proxy_counters;

/* All with the plane's lock held. A proxy dies with its plane. */
kb_proxy *kb_client_proxy_new(kb_plane *plane, int listener, const kb_proxy_limits *limits); /* owns the descriptor when it returns one */
kb_proxy *kb_server_proxy_new(kb_plane *plane, uint32_t tenant, uint16_t port, const kb_proxy_limits *limits); /* in front of who listens there now */
int kb_proxy_fileno(kb_proxy *proxy);                         /* readable while connections or lookups wait for Python */
int kb_proxy_next(kb_proxy *proxy, uint8_t **data, size_t *length); /* a descriptor and what was read from it; -1: none. The caller's. */
/* An upstream: "tenant/node" of a client proxy, "service" of a server proxy. It is known for `seconds` or until it is forgotten. */
int kb_proxy_learn_node(kb_proxy *proxy, const char *tenant, const char *node, uint32_t tenant_number, uint32_t number, double seconds);
int kb_proxy_learn_service(kb_proxy *proxy, const char *service, const struct sockaddr_storage *targets, int count, double seconds);
int kb_proxy_next_lookup(kb_proxy *proxy, char name[KB_PROXY_NAME]); /* an upstream that is wanted: learn it, or deny it. 0, or -1: none */
void kb_proxy_lookup_failed(kb_proxy *proxy, const char *name);        /* who waits for it is Python's */
void kb_proxy_forget(kb_proxy *proxy);                        /* no upstream is certain any more: each is asked for again */
int kb_proxy_set_hosts(kb_proxy *proxy, const char *names, size_t length); /* each with a line feed: requests for them are Python's. 0; -1: no memory */
void kb_proxy_close(kb_proxy *proxy);                         /* its connections are reset */
void kb_proxy_get_counters(const kb_proxy *proxy, kb_proxy_counters *counters);
int kb_proxy_take(kb_proxy *proxy, const char *account);      /* for the slow path, the same limits: 0, 429 or 503; -1: no memory */
void kb_proxy_give(kb_proxy *proxy, const char *account);     /* after a 0 */
int kb_proxy_account(const kb_proxy *proxy, int index, kb_account_counters *counters); /* 0, or -1: there are no more */

#endif
