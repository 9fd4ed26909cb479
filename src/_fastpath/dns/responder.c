#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* recvmmsg, sendmmsg */
#endif
#include "dns/responder.h"

#include "packet/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define BATCH 16
#define BUCKETS 256
#define STACK (128 * 1024)
#define PAUSE 10000000 /* nanoseconds after an error of the socket, so that one that stays does not take a processor */

struct kb_dns_responder {
    int fd, wake;
    kb_dns_answers *tables[KB_DNS_TABLES];
    pthread_t thread;
    atomic_int stopping;
    uint32_t seed, rate;
    uint32_t tokens[BUCKETS]; /* thousandths of queries, by client; the thread's */
    uint64_t filled[BUCKETS];
    pthread_mutex_t lock; /* of what follows */
    kb_dns_waiting *first, **last;
    size_t waiting;
    uint8_t waiting_of[BUCKETS]; /* by client */
    kb_dns_counts counts;
    size_t network_count;
    kb_dns_network *networks;
    struct sockaddr_storage peers[BATCH];
    uint8_t in[BATCH][KB_DNS_MAX_QUERY + 1]; /* a byte more than a query may have */
    uint8_t out[BATCH][KB_DNS_MAX_UDP];
};

static uint64_t milliseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static const uint8_t *address_of(const struct sockaddr_storage *peer)
{
    return peer->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)peer)->sin6_addr.s6_addr
                                       : (const uint8_t *)&((const struct sockaddr_in *)peer)->sin_addr;
}

static int is_in(const kb_dns_network *network, const uint8_t *address, int v6)
{
    size_t whole = network->bits / 8, rest = network->bits % 8;
    if (network->v6 != v6 || memcmp(network->address, address, whole))
        return 0;
    return !rest || !((network->address[whole] ^ address[whole]) >> (8 - rest));
}

static int may_ask(const kb_dns_responder *r, const struct sockaddr_storage *peer)
{
    int v6 = peer->ss_family == AF_INET6;
    if (!v6 && peer->ss_family != AF_INET)
        return 0;
    for (size_t i = 0; i < r->network_count; i++)
        if (is_in(&r->networks[i], address_of(peer), v6))
            return 1;
    return 0;
}

static uint8_t bucket_of(const kb_dns_responder *r, const struct sockaddr_storage *peer)
{
    const uint8_t *address = address_of(peer);
    uint32_t hash = r->seed;
    for (int i = 0; i < (peer->ss_family == AF_INET6 ? 16 : 4); i += 4)
        hash = kb_mix(hash, get32(address + i));
    return (uint8_t)hash;
}

/* A token bucket for each client: whether it may ask once more. */
static int spend(kb_dns_responder *r, const struct sockaddr_storage *peer, uint64_t now)
{
    if (!r->rate)
        return 1;
    uint8_t bucket = bucket_of(r, peer);
    uint64_t most = (uint64_t)r->rate * 2000u, tokens = r->tokens[bucket] + (now - r->filled[bucket]) * r->rate;
    tokens = tokens < most ? tokens : most;
    r->filled[bucket] = now;
    r->tokens[bucket] = (uint32_t)(tokens < 1000u ? tokens : tokens - 1000u);
    return tokens >= 1000u;
}

/* With the lock. */
static int enqueue(kb_dns_responder *r, const struct sockaddr_storage *peer, const uint8_t *data, size_t length)
{
    uint8_t bucket = bucket_of(r, peer);
    if (r->waiting >= KB_DNS_QUEUED || r->waiting_of[bucket] >= KB_DNS_QUEUED_OF_ONE)
        return -1;
    kb_dns_waiting *w = malloc(sizeof *w + length);
    if (!w)
        return -1;
    *w = (kb_dns_waiting){.peer = *peer, .length = (uint16_t)length, .bucket = bucket};
    memcpy(w->data, data, length);
    *r->last = w;
    r->last = &w->next;
    r->waiting++;
    r->waiting_of[bucket]++;
    return 0;
}

static size_t look_up(kb_dns_responder *r, const uint8_t *data, size_t length, uint64_t now, uint8_t *out)
{
    kb_dns_query query;
    size_t found = 0;
    if (kb_dns_query_read(data, length, &query) == 0)
        for (int i = 0; i < KB_DNS_TABLES && !found; i++)
            found = kb_dns_answers_find(r->tables[i], &query, data, now, out, query.limit);
    return found;
}

static void send_all(kb_dns_responder *r, struct mmsghdr *messages, unsigned count)
{
    for (unsigned sent = 0; sent < count;) {
        int n = sendmmsg(r->fd, messages + sent, count - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        sent += n > 0 ? (unsigned)n : 1; /* its buffer is full, or the client is gone: that one asks again */
    }
}

static void handle(kb_dns_responder *r, const struct mmsghdr *in, unsigned count, struct mmsghdr *out, struct iovec *parts)
{
    kb_dns_counts more = {0};
    uint64_t now = milliseconds(), one = 1;
    unsigned answers = 0, left[BATCH], lefts = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!may_ask(r, &r->peers[i])) {
            more.refused++;
            continue;
        }
        more.queries++;
        if (!spend(r, &r->peers[i], now)) {
            more.dropped++;
            continue;
        }
        size_t length = look_up(r, r->in[i], in[i].msg_len, now, r->out[answers]);
        if (!length) {
            left[lefts++] = i;
            continue;
        }
        parts[answers] = (struct iovec){r->out[answers], length};
        out[answers] =
            (struct mmsghdr){.msg_hdr = {.msg_name = &r->peers[i], .msg_namelen = in[i].msg_hdr.msg_namelen, .msg_iov = &parts[answers], .msg_iovlen = 1}};
        answers++;
    }
    more.answered = answers;
    pthread_mutex_lock(&r->lock); /* before anything is sent: who has an answer finds it counted */
    int wake = !r->waiting;
    for (unsigned i = 0; i < lefts; i++)
        more.dropped += enqueue(r, &r->peers[left[i]], r->in[left[i]], in[left[i]].msg_len) != 0;
    wake = wake && r->waiting;
    r->counts.queries += more.queries;
    r->counts.answered += more.answered;
    r->counts.refused += more.refused;
    r->counts.dropped += more.dropped;
    pthread_mutex_unlock(&r->lock);
    send_all(r, out, answers);
    if (wake && write(r->wake, &one, sizeof one) < 0) {
        /* it is set already */
    }
}

static void *serve(void *context)
{
    kb_dns_responder *r = context;
    struct mmsghdr in[BATCH], out[BATCH];
    struct iovec parts[BATCH], answers[BATCH];
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            parts[i] = (struct iovec){r->in[i], sizeof r->in[i]};
            in[i] = (struct mmsghdr){.msg_hdr = {.msg_name = &r->peers[i], .msg_namelen = sizeof r->peers[i], .msg_iov = &parts[i], .msg_iovlen = 1}};
        }
        int count = recvmmsg(r->fd, in, BATCH, MSG_WAITFORONE, NULL);
        if (atomic_load(&r->stopping))
            return NULL;
        if (count > 0)
            handle(r, in, (unsigned)count, out, answers);
        else if (errno != EINTR)
            nanosleep(&(struct timespec){0, PAUSE}, NULL);
    }
}

static int start(kb_dns_responder *r)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for Python's thread */
    int error = pthread_create(&r->thread, &attributes, serve, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

static void release(kb_dns_responder *r)
{
    for (kb_dns_waiting *w = r->first; w;) {
        kb_dns_waiting *next = w->next;
        free(w);
        w = next;
    }
    if (r->fd >= 0)
        close(r->fd);
    if (r->wake >= 0)
        close(r->wake);
    pthread_mutex_destroy(&r->lock);
    free(r->networks);
    free(r);
}

kb_dns_responder *kb_dns_responder_new(int fd, kb_dns_answers *const tables[KB_DNS_TABLES], const kb_dns_network *networks, size_t count, uint32_t rate,
                                       uint64_t seed)
{
    kb_dns_responder *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    pthread_mutex_init(&r->lock, NULL);
    r->last = &r->first;
    r->seed = (uint32_t)seed;
    r->rate = rate;
    memcpy(r->tables, tables, sizeof r->tables);
    r->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    r->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    r->networks = malloc(count * sizeof *networks + 1);
    r->network_count = count;
    int error = r->fd < 0 || r->wake < 0 || !r->networks ? errno : 0;
    if (!error) {
        memcpy(r->networks, networks, count * sizeof *networks);
        error = start(r);
    }
    if (error) {
        release(r);
        errno = error;
        return NULL;
    }
    return r;
}

void kb_dns_responder_free(kb_dns_responder *r)
{
    if (!r)
        return;
    atomic_store(&r->stopping, 1);
    shutdown(r->fd, SHUT_RD); /* says ENOTCONN, and wakes the thread all the same */
    pthread_join(r->thread, NULL);
    release(r);
}

int kb_dns_responder_fileno(const kb_dns_responder *r) { return r->wake; }

kb_dns_waiting *kb_dns_responder_take(kb_dns_responder *r, size_t most)
{
    uint64_t ignored;
    pthread_mutex_lock(&r->lock);
    kb_dns_waiting *first = r->first, **end = &r->first;
    for (size_t i = 0; i < most && *end; i++, end = &(*end)->next) {
        r->waiting--;
        r->waiting_of[(*end)->bucket]--;
    }
    kb_dns_waiting *rest = *end;
    if (!rest) { /* with the lock: who finds the queue empty after this writes again */
        if (read(r->wake, &ignored, sizeof ignored) < 0) {
            /* nothing was in it */
        }
        r->last = &r->first;
    }
    if (first != rest)
        *end = NULL;
    else
        first = NULL;
    r->first = rest;
    pthread_mutex_unlock(&r->lock);
    return first;
}

kb_dns_counts kb_dns_responder_counts(kb_dns_responder *r)
{
    pthread_mutex_lock(&r->lock);
    kb_dns_counts counts = r->counts;
    pthread_mutex_unlock(&r->lock);
    return counts;
}
