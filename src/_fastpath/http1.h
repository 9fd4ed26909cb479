/* HTTP/1.1 heads for the fast path of the proxies (proxy.c): parsing what is plain, and the rewriting that kubebus/http/headers.py explains. Pure
 * functions of bytes.
 *
 * The parser is strict (RFC 9112): CRLF lines, token names, no folding, no control characters, one Host, one framing. What it does not take
 * is not refused but handed to the Python path, which knows all the answers; so being too strict costs time and never an error.
 */
#ifndef KUBEEDGE_HTTP1_H
#define KUBEEDGE_HTTP1_H

#include <stddef.h>
#include <stdint.h>

#define KB_HEAD_BYTES (16 * 1024)
#define KB_HEAD_FIELDS 96

typedef struct {
    const uint8_t *at;
    uint32_t length;
} kb_slice;

enum {
    KB_F_OTHER,
    KB_F_HOP,
    KB_F_CONNECTION,
    KB_F_CODING,
    KB_F_LENGTH,
    KB_F_HOST,
    KB_F_EXPECT,
    KB_F_UPGRADE,
    KB_F_FORWARDED,
    KB_F_LOCATION,
    KB_F_COOKIE,
    KB_F_TOKEN,
    KB_F_REFRESH,
    KB_F_WORKER,
    KB_F_ORIGIN,
    KB_F_RESOURCE
}; /* ORIGIN: what it says holds for all services of the host; RESOURCE: names another URL (WebDAV) */

typedef struct {
    kb_slice name, value;
    uint8_t what;
} kb_field;

typedef struct {
    kb_slice method, target, reason;
    kb_slice directory;        /* of the request that this answers: the Path of a cookie that has none; empty: the browser's business */
    int status, minor;
    int64_t body;              /* content-length; -1: none */
    uint8_t chunked, close, keep, odd; /* odd: Connection names something else, or there is an Upgrade, an Expect or a RESOURCE */
    uint8_t hosts;
    uint32_t count;
    kb_field fields[KB_HEAD_FIELDS];
} kb_http_head;

/* Bytes of the head, 0: it is not whole yet, -1: not plain HTTP/1.x. Slices point into `data`. */
int kb_parse_request(const uint8_t *data, size_t length, kb_http_head *head);
int kb_parse_response(const uint8_t *data, size_t length, kb_http_head *head);
int kb_plain_request(const kb_http_head *head); /* GET or HEAD without a body, an upgrade or an expectation */

/* /<tenant>/<node>/<service>/<rest>, or with count 1 /<service>/<rest>: labels, and the rest, "" when there is none. 0, or -1. */
int kb_split_target(kb_slice target, int count, kb_slice *labels, kb_slice *rest);

typedef struct {
    uint8_t *data;
    size_t length, room;
    int failed;                /* no memory */
} kb_text;

void kb_add(kb_text *text, const void *data, size_t length);
void kb_add_string(kb_text *text, const char *string);
void kb_add_slice(kb_text *text, kb_slice slice);
void kb_add_number(kb_text *text, uint64_t number, unsigned base);

/* The request for a node: /<service>/<rest>, who asked and under which address. */
void kb_client_request(kb_text *out, const kb_http_head *head, const char *client, const char *proto);
/* The request for a service: its own path. */
void kb_service_request(kb_text *out, const kb_http_head *head);
/* The answer. `prefix` "": none to add. `framed`: the body will come in chunks of our own. `close`: nothing comes after it. */
void kb_answer(kb_text *out, const kb_http_head *head, kb_slice prefix, kb_slice host, int framed, int close);

/* A body in chunks (RFC 9112, section 7.1). */
typedef struct {
    uint64_t left;             /* bytes of the chunk at hand */
    uint8_t state, digits, seen;
    uint32_t skipped;          /* bytes of the extension at hand, or of all trailers */
} kb_chunks;

/* Looks at `length` bytes: how many to skip and then how many are body, in *skip and *body. 1: the body is over after *skip, 0: go on, -1: broken.
 * Progress is made while length > 0. */
int kb_chunks_next(kb_chunks *c, const uint8_t *data, size_t length, size_t *skip, size_t *body);

#endif
