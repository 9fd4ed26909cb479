/* A DNS query as the cache of answers has to know it: everything that its answer depends on, and nothing else. */
#ifndef KUBEEDGE_DNS_QUERY_H
#define KUBEEDGE_DNS_QUERY_H

#include <stddef.h>
#include <stdint.h>

#define KB_DNS_HEADER 12
#define KB_DNS_NAME 255
#define KB_DNS_MAX_QUERY 1024 /* bytes of a query: header, one name and EDNS options */
#define KB_DNS_MIN_UDP 512 /* bytes that every client takes */
#define KB_DNS_MAX_UDP 1232 /* bytes that pass everywhere unfragmented (DNS flag day 2020) */
#define KB_DNS_KEY (KB_DNS_NAME + 4 + 1)

typedef struct kb_dns_query {
    uint16_t limit; /* bytes of an answer over UDP */
    uint16_t question; /* bytes of name, type and class, from KB_DNS_HEADER on */
    uint8_t edns;
    uint8_t key[KB_DNS_KEY]; /* the question in small letters, and whether there is EDNS */
    uint16_t key_length;
} kb_dns_query;

/* 0: one question of class IN, with or without EDNS, and nothing behind it. -1 is everything else: Python looks at that. The bit DO is no part of
 * the key: nothing here is signed, so answers with and without it are the same. */
int kb_dns_query_read(const uint8_t *data, size_t length, kb_dns_query *query);

#endif
