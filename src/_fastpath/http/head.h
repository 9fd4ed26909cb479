/* HTTP/1.1 heads for the fast path of the proxies (proxy.h): parsing what is plain. Pure functions of bytes.
 *
 * The parser is strict (RFC 9112): CRLF lines, token names, no folding, no control characters, one Host, one framing. What it does not take
 * is not refused but handed to the Python path, which knows all the answers; so being too strict costs time and never an error.
 */
#ifndef KUBEEDGE_HTTP_HEAD_H
#define KUBEEDGE_HTTP_HEAD_H

#include "http/text.h"

#define KB_HEAD_BYTES (16 * 1024)
#define KB_HEAD_FIELDS 96

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

#endif
