/* sources: dns/query.c dns/answers.c
 *
 * The cache of DNS answers. Steps: what to do, two bytes of length, a query of that length; of a put, two bytes of length and an answer. Whatever is
 * found is an answer to that query and within the limit, and the bounds of the table hold. */
#include "dns/answers.h"

#include <stdlib.h>
#include <string.h>

#define REQUIRE(what) \
    do {              \
        if (!(what))  \
            abort();  \
    } while (0)

enum { ENTRIES = 8, BYTES = 4096 };

/* A piece with its length before it, in memory of exactly its size. */
static uint8_t *piece(const uint8_t **data, size_t *size, size_t *length)
{
    *length = *size < 2 ? 0 : (size_t)((*data)[0] << 8 | (*data)[1]);
    size_t skip = *size < 2 ? *size : 2;
    *data += skip;
    *size -= skip;
    *length = *length < *size ? *length : *size;
    uint8_t *copy = malloc(*length ? *length : 1);
    memcpy(copy, *data, *length);
    *data += *length;
    *size -= *length;
    return copy;
}

static void find(kb_dns_answers *answers, const kb_dns_query *query, const uint8_t *asked, uint64_t now, size_t limit)
{
    uint8_t *out = malloc(limit);
    size_t length = kb_dns_answers_find(answers, query, asked, now, out, limit);
    REQUIRE(length <= limit);
    if (length) {
        REQUIRE(length >= (size_t)KB_DNS_HEADER + query->question && out[2] & 0x80);
        REQUIRE(!memcmp(out, asked, 2) && !memcmp(out + KB_DNS_HEADER, asked + KB_DNS_HEADER, query->question));
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t seed[2] = {1, 2};
    kb_dns_answers *answers = kb_dns_answers_new(ENTRIES, BYTES, seed);
    uint64_t now = 1000;
    while (size) {
        uint8_t what = *data++;
        size_t length, answer_length;
        size--;
        uint8_t *asked = piece(&data, &size, &length);
        kb_dns_query query;
        int plain = kb_dns_query_read(asked, length, &query) == 0;
        REQUIRE(!plain || (query.limit >= KB_DNS_MIN_UDP && query.limit <= KB_DNS_MAX_UDP && query.key_length <= KB_DNS_KEY));
        if (what % 4 == 0) {
            uint8_t *answer = piece(&data, &size, &answer_length);
            uint16_t lifetimes[4] = {(uint16_t)(what * 3), (uint16_t)answer_length, (uint16_t)(answer_length - 4), 40};
            size_t count = what / 4 % 5;
            if (plain && kb_dns_answers_put(answers, &query, answer, answer_length, lifetimes + 4 - count, count, now, now + what * 100u) == 1)
                find(answers, &query, asked, now, 65535);
            free(answer);
        } else if (what % 4 == 1 && plain) {
            find(answers, &query, asked, now, query.limit);
        } else if (what % 4 == 2) {
            now += (uint64_t)what << (length % 8);
        } else if (what == 3) {
            kb_dns_answers_clear(answers);
        }
        free(asked);
        kb_dns_stock stock = kb_dns_answers_stock(answers);
        REQUIRE(stock.count <= ENTRIES && stock.bytes <= BYTES && (stock.count || !stock.bytes));
    }
    kb_dns_answers_free(answers);
    return 0;
}
