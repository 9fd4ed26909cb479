/* Finished answers by question. A hit is a copy with the client's ID, flags and spelling, and lifetimes that have run on.
 *
 * Bounded in number and bytes; what was used least lately goes first. Every function takes the lock of the table, and none waits with it. */
#ifndef KUBEEDGE_DNS_ANSWERS_H
#define KUBEEDGE_DNS_ANSWERS_H

#include "dns/query.h"

typedef struct kb_dns_answers kb_dns_answers;

typedef struct kb_dns_stock {
    size_t count, bytes; /* of questions and answers */
    uint64_t hits;
} kb_dns_stock;

/* `seed`: of the hash, unknown to clients. NULL: no memory. */
kb_dns_answers *kb_dns_answers_new(size_t most_entries, size_t most_bytes, const uint64_t seed[2]);
void kb_dns_answers_free(kb_dns_answers *answers);

/* Times are milliseconds of one clock. `lifetimes`: where the TTLs of its records are. 1: kept; 0: not, because it is too large, over already, or
 * no answer to that question; -1: no memory. In each case nothing older is kept for the question. */
int kb_dns_answers_put(kb_dns_answers *answers, const kb_dns_query *query, const uint8_t *answer, size_t length, const uint16_t *lifetimes, size_t count,
                       uint64_t now, uint64_t until);

/* The answer to `query`, read from `data`, written to `out`; its bytes, 0: there is none. One that is longer than `limit` is cut down to a
 * truncated message, for which `limit` must have room: KB_DNS_MIN_UDP at least. */
size_t kb_dns_answers_find(kb_dns_answers *answers, const kb_dns_query *query, const uint8_t *data, uint64_t now, uint8_t *out, size_t limit);

void kb_dns_answers_clear(kb_dns_answers *answers);
kb_dns_stock kb_dns_answers_stock(kb_dns_answers *answers);

#endif
