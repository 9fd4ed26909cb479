/* sources: http/head.c http/rewrite.c http/chunks.c http/text.c
 *
 * Heads of requests and answers, their rewriting, and chunked bodies. Slices lie inside the input; what is plain is so again after the first
 * rewriting, with one line less of nobody's business; a body in pieces is the body in one. */
#include "http/chunks.h"
#include "http/rewrite.h"

#include <stdlib.h>
#include <string.h>

#define REQUIRE(what) \
    do {              \
        if (!(what))  \
            abort();  \
    } while (0)

static void inside(kb_slice s, const uint8_t *data, size_t size)
{
    if (s.length)
        REQUIRE(s.at >= data && s.at + s.length <= data + size);
}

static void check(const kb_http_head *h, const uint8_t *data, size_t size)
{
    inside(h->method, data, size);
    inside(h->target, data, size);
    inside(h->reason, data, size);
    REQUIRE(h->count <= KB_HEAD_FIELDS);
    for (uint32_t i = 0; i < h->count; i++) {
        inside(h->fields[i].name, data, size);
        inside(h->fields[i].value, data, size);
        REQUIRE(h->fields[i].name.length && !memchr(h->fields[i].value.at, '\n', h->fields[i].value.length));
    }
}

static void request(const uint8_t *data, size_t size)
{
    kb_http_head head, again;
    kb_slice labels[3], rest;
    kb_text out = {0}, last = {0};
    int length = kb_parse_request(data, size, &head);
    REQUIRE(length <= (int)size);
    if (length <= 0)
        return;
    check(&head, data, (size_t)length);
    if (!kb_plain_request(&head) || kb_split_target(head.target, 3, labels, &rest) < 0)
        return;
    kb_client_request(&out, &head, "192.0.2.1", "http");
    int second = kb_parse_request(out.data, out.length, &again);
    if (head.count + 5 <= KB_HEAD_FIELDS && out.length < KB_HEAD_BYTES) {
        REQUIRE(second == (int)out.length && kb_plain_request(&again));
        REQUIRE(!kb_split_target(again.target, 1, labels, &rest));
        kb_service_request(&last, &again);
        REQUIRE(kb_parse_request(last.data, last.length, &head) == (int)last.length && kb_plain_request(&head));
    }
    free(out.data);
    free(last.data);
}

static void answer(const uint8_t *data, size_t size)
{
    static const uint8_t prefix[] = "/t/n/s", host[] = "a.example";
    kb_http_head head, again;
    kb_text out = {0};
    int length = kb_parse_response(data, size, &head);
    REQUIRE(length <= (int)size);
    if (length <= 0)
        return;
    check(&head, data, (size_t)length);
    kb_answer(&out, &head, (kb_slice){prefix, 6}, (kb_slice){host, 9}, head.chunked, 1);
    if (head.count + 2 <= KB_HEAD_FIELDS && out.length < KB_HEAD_BYTES) {
        REQUIRE(kb_parse_response(out.data, out.length, &again) == (int)out.length);
        REQUIRE(again.status == head.status && again.close && again.chunked == head.chunked);
        REQUIRE(head.chunked || again.body == head.body);
    }
    free(out.data);
}

static int run(const uint8_t *data, size_t size, size_t step, uint32_t *sum, size_t *used)
{
    kb_chunks c;
    memset(&c, 0, sizeof c);
    *sum = 0;
    *used = 0;
    while (*used < size) {
        size_t some = step && step < size - *used ? step : size - *used, skip, body;
        int over = kb_chunks_next(&c, data + *used, some, &skip, &body);
        if (over < 0)
            return -1;
        REQUIRE(skip + body <= some && skip + body > 0);
        for (size_t i = 0; i < body; i++)
            *sum = *sum * 31 + data[*used + skip + i];
        *used += skip + body;
        if (over)
            return 1;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    request(data, size);
    answer(data, size);
    for (size_t step = 1; step < 8; step += 3) {
        uint32_t whole, pieces;
        size_t one, two;
        REQUIRE(run(data, size, 0, &whole, &one) == run(data, size, step, &pieces, &two));
        if (run(data, size, 0, &whole, &one) >= 0)
            REQUIRE(run(data, size, step, &pieces, &two) >= 0 && whole == pieces && one == two);
    }
    return 0;
}
