/* Answers what is kept, in a thread of its own: it sleeps in the kernel until a query comes, and wakes Python only for what is not kept.
 *
 *   socket ──recvmmsg──> may ask? ──> tables in turn ──found──> sendmmsg
 *                                          └──not found──> queue ──eventfd──> Python
 *
 * The queue is bounded, as a whole and for each client: what comes when it is full is dropped, and the client asks again. */
#ifndef KUBEEDGE_DNS_RESPONDER_H
#define KUBEEDGE_DNS_RESPONDER_H

#include "dns/answers.h"

#include <sys/socket.h>

#define KB_DNS_TABLES 2
#define KB_DNS_QUEUED 256 /* queries that wait for Python */
#define KB_DNS_QUEUED_OF_ONE 64 /* of one client */

typedef struct kb_dns_responder kb_dns_responder;

typedef struct kb_dns_network {
    uint8_t address[16]; /* of IPv4: the first 4 */
    uint8_t bits, v6;
} kb_dns_network;

typedef struct kb_dns_counts {
    uint64_t queries, answered; /* of those who may ask */
    uint64_t refused; /* of those who may not */
    uint64_t dropped; /* the queue was full, or the client asked too often */
} kb_dns_counts;

typedef struct kb_dns_waiting {
    struct kb_dns_waiting *next;
    struct sockaddr_storage peer;
    uint16_t length;
    uint8_t bucket;
    uint8_t data[];
} kb_dns_waiting;

/* `fd`: a bound UDP socket, blocking; it is duplicated. `networks`: whose clients may ask. `rate`: queries of one client a second, twice as many at
 * once; 0: any number. NULL: errno. */
kb_dns_responder *kb_dns_responder_new(int fd, kb_dns_answers *const tables[KB_DNS_TABLES], const kb_dns_network *networks, size_t count, uint32_t rate,
                                       uint64_t seed);
/* Ends the thread, which nobody may wait for elsewhere, and frees what waits. */
void kb_dns_responder_free(kb_dns_responder *responder);

/* Readable while something waits for Python. */
int kb_dns_responder_fileno(const kb_dns_responder *responder);
/* Up to `most` of what waits, in order, as a list that the caller frees. */
kb_dns_waiting *kb_dns_responder_take(kb_dns_responder *responder, size_t most);
kb_dns_counts kb_dns_responder_counts(kb_dns_responder *responder);

#endif
