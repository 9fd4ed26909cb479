#include "dns/answers.h"

#include "dns/siphash.h"
#include "packet/bytes.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ECHOED 0x0110 /* RD and CD: as the client has them */
#define TRUNCATED 0x0200
#define LARGEST 65535

typedef struct entry {
    struct entry *next; /* of its bucket */
    struct entry *older, *newer; /* by use */
    uint64_t hash, since, until;
    uint16_t key_length, length, lifetimes;
    uint8_t bytes[]; /* key, answer, lifetimes as pairs of bytes */
} entry;

struct kb_dns_answers {
    pthread_mutex_t lock;
    uint64_t seed[2];
    size_t most_entries, most_bytes, mask;
    kb_dns_stock stock;
    entry *oldest, *newest;
    entry *buckets[];
};

static const uint8_t OPT[11] = {0, 0, 41, KB_DNS_MAX_UDP >> 8, KB_DNS_MAX_UDP & 0xff};

kb_dns_answers *kb_dns_answers_new(size_t most_entries, size_t most_bytes, const uint64_t seed[2])
{
    size_t buckets = 16;
    while (buckets < most_entries)
        buckets *= 2;
    kb_dns_answers *answers = calloc(1, sizeof *answers + buckets * sizeof answers->buckets[0]);
    if (!answers)
        return NULL;
    pthread_mutex_init(&answers->lock, NULL);
    memcpy(answers->seed, seed, sizeof answers->seed);
    answers->most_entries = most_entries;
    answers->most_bytes = most_bytes;
    answers->mask = buckets - 1;
    return answers;
}

static size_t weight(const entry *e) { return (size_t)e->key_length + e->length; }

static void detach(kb_dns_answers *answers, entry *e)
{
    *(e->older ? &e->older->newer : &answers->oldest) = e->newer;
    *(e->newer ? &e->newer->older : &answers->newest) = e->older;
}

static void attach(kb_dns_answers *answers, entry *e)
{
    e->older = answers->newest;
    e->newer = NULL;
    *(answers->newest ? &answers->newest->newer : &answers->oldest) = e;
    answers->newest = e;
}

static entry **find_slot(kb_dns_answers *answers, const kb_dns_query *query, uint64_t hash)
{
    entry **slot = &answers->buckets[hash & answers->mask];
    while (*slot && ((*slot)->hash != hash || (*slot)->key_length != query->key_length || memcmp((*slot)->bytes, query->key, query->key_length)))
        slot = &(*slot)->next;
    return slot;
}

static void drop(kb_dns_answers *answers, entry **slot)
{
    entry *e = *slot;
    *slot = e->next;
    detach(answers, e);
    answers->stock.count--;
    answers->stock.bytes -= weight(e);
    free(e);
}

static void drop_oldest(kb_dns_answers *answers)
{
    entry **slot = &answers->buckets[answers->oldest->hash & answers->mask];
    while (*slot != answers->oldest)
        slot = &(*slot)->next;
    drop(answers, slot);
}

void kb_dns_answers_clear(kb_dns_answers *answers)
{
    pthread_mutex_lock(&answers->lock);
    while (answers->oldest)
        drop_oldest(answers);
    pthread_mutex_unlock(&answers->lock);
}

void kb_dns_answers_free(kb_dns_answers *answers)
{
    if (!answers)
        return;
    kb_dns_answers_clear(answers);
    pthread_mutex_destroy(&answers->lock);
    free(answers);
}

kb_dns_stock kb_dns_answers_stock(kb_dns_answers *answers)
{
    pthread_mutex_lock(&answers->lock);
    kb_dns_stock stock = answers->stock;
    pthread_mutex_unlock(&answers->lock);
    return stock;
}

/* Whether it is an answer to that question, so that a copy of it for another client is one, too. */
static int fits(const kb_dns_query *query, const uint8_t *answer, size_t length, const uint16_t *lifetimes, size_t count)
{
    size_t body = KB_DNS_HEADER + (size_t)query->question;
    if (length < body || length > LARGEST || count > length / 11 || !(answer[2] & 0x80) || get16(answer + 4) != 1)
        return 0;
    for (size_t i = 0; i < query->question; i++) {
        uint8_t c = answer[KB_DNS_HEADER + i];
        if (i + 4 < query->question && c >= 'A' && c <= 'Z')
            c += 32;
        if (c != query->key[i])
            return 0;
    }
    for (size_t i = 0; i < count; i++)
        if (lifetimes[i] < body || (size_t)lifetimes[i] + 4 > length)
            return 0;
    return 1;
}

static entry *new_entry(const kb_dns_query *query, uint64_t hash, const uint8_t *answer, size_t length, const uint16_t *lifetimes, size_t count)
{
    entry *e = malloc(sizeof *e + query->key_length + length + 2 * count);
    if (!e)
        return NULL;
    e->hash = hash;
    e->key_length = query->key_length;
    e->length = (uint16_t)length;
    e->lifetimes = (uint16_t)count;
    memcpy(e->bytes, query->key, query->key_length);
    memcpy(e->bytes + query->key_length, answer, length);
    for (size_t i = 0; i < count; i++)
        put16(e->bytes + query->key_length + length + 2 * i, lifetimes[i]);
    return e;
}

static int put(kb_dns_answers *answers, entry *e, const kb_dns_query *query)
{
    entry **slot = find_slot(answers, query, e->hash);
    if (*slot)
        drop(answers, slot);
    e->next = answers->buckets[e->hash & answers->mask];
    answers->buckets[e->hash & answers->mask] = e;
    attach(answers, e);
    answers->stock.count++;
    answers->stock.bytes += weight(e);
    while (answers->stock.count > answers->most_entries || answers->stock.bytes > answers->most_bytes)
        drop_oldest(answers);
    return 1;
}

int kb_dns_answers_put(kb_dns_answers *answers, const kb_dns_query *query, const uint8_t *answer, size_t length, const uint16_t *lifetimes, size_t count,
                       uint64_t now, uint64_t until)
{
    uint64_t hash = kb_siphash(answers->seed, query->key, query->key_length);
    int keep = until > now && query->key_length + length <= answers->most_bytes / 8 && fits(query, answer, length, lifetimes, count);
    entry *e = keep ? new_entry(query, hash, answer, length, lifetimes, count) : NULL;
    int result = keep ? -1 : 0;
    pthread_mutex_lock(&answers->lock);
    if (e) {
        e->since = now;
        e->until = until;
        result = put(answers, e, query);
    } else {
        entry **slot = find_slot(answers, query, hash);
        if (*slot)
            drop(answers, slot);
    }
    pthread_mutex_unlock(&answers->lock);
    return result;
}

static void age(const entry *e, uint64_t now, uint8_t *out)
{
    uint64_t seconds = now > e->since ? (now - e->since) / 1000 : 0;
    const uint8_t *at = e->bytes + e->key_length + e->length;
    for (unsigned i = 0; seconds && i < e->lifetimes; i++, at += 2) {
        uint8_t *lifetime = out + get16(at);
        uint32_t ttl = get32(lifetime);
        put32(lifetime, ttl > seconds ? ttl - (uint32_t)seconds : 0);
    }
}

static size_t write_answer(const entry *e, const kb_dns_query *query, const uint8_t *data, uint64_t now, uint8_t *out, size_t limit)
{
    const uint8_t *answer = e->bytes + e->key_length;
    size_t length = e->length;
    uint16_t flags = (uint16_t)((get16(answer + 2) & ~ECHOED) | (get16(data + 2) & ECHOED));
    if (length > limit) {
        length = KB_DNS_HEADER + (size_t)query->question;
        memcpy(out, answer, 6);
        memset(out + 6, 0, 6);
        flags |= TRUNCATED;
        if (query->edns) {
            out[11] = 1;
            memcpy(out + length, OPT, sizeof OPT);
            length += sizeof OPT;
        }
    } else {
        memcpy(out, answer, length);
        age(e, now, out);
    }
    memcpy(out, data, 2);
    put16(out + 2, flags);
    memcpy(out + KB_DNS_HEADER, data + KB_DNS_HEADER, query->question);
    return length;
}

size_t kb_dns_answers_find(kb_dns_answers *answers, const kb_dns_query *query, const uint8_t *data, uint64_t now, uint8_t *out, size_t limit)
{
    uint64_t hash = kb_siphash(answers->seed, query->key, query->key_length);
    size_t length = 0;
    pthread_mutex_lock(&answers->lock);
    entry **slot = find_slot(answers, query, hash), *e = *slot;
    if (e && now >= e->until)
        drop(answers, slot);
    else if (e) {
        length = write_answer(e, query, data, now, out, limit);
        detach(answers, e);
        attach(answers, e);
        answers->stock.hits++;
    }
    pthread_mutex_unlock(&answers->lock);
    return length;
}
