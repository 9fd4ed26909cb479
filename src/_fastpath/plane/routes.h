/* Longest-prefix match, IPv4 and IPv6: a binary trie for each family. Reference implementation: tests/reference/routes.py. */
#ifndef KUBEEDGE_ROUTES_H
#define KUBEEDGE_ROUTES_H

#include <stdint.h>
#include <stdlib.h>

typedef struct kb_trie {
    struct kb_trie *child[2];
    int number;   /* of the node, -1: none */
    uint16_t mtu; /* of the networks behind it, 0: not known */
} kb_trie;

static inline kb_trie *kb_trie_new(void)
{
    kb_trie *t = calloc(1, sizeof *t);
    if (t)
        t->number = -1;
    return t;
}

static inline void kb_trie_free(kb_trie *t)
{
    if (!t)
        return;
    kb_trie_free(t->child[0]);
    kb_trie_free(t->child[1]);
    free(t);
}

static inline int kb_bit(const uint8_t *address, unsigned n) { return address[n / 8] >> (7 - n % 8) & 1; }

static inline int kb_trie_add(kb_trie *t, const uint8_t *address, unsigned bits, int number, uint16_t mtu)
{
    for (unsigned n = 0; n < bits; n++) {
        kb_trie **next = &t->child[kb_bit(address, n)];
        if (!*next && !(*next = kb_trie_new()))
            return -1;
        t = *next;
    }
    t->number = number;
    t->mtu = mtu;
    return 0;
}

/* 1 when the subtree may be freed */
static inline int kb_trie_remove(kb_trie *t, const uint8_t *address, unsigned bits, unsigned n)
{
    if (!t)
        return 0;
    if (n == bits) {
        t->number = -1;
    } else {
        kb_trie **next = &t->child[kb_bit(address, n)];
        if (kb_trie_remove(*next, address, bits, n + 1)) {
            free(*next);
            *next = NULL;
        }
    }
    return n > 0 && t->number < 0 && !t->child[0] && !t->child[1];
}

/* The entry of the longest prefix, or NULL */
static inline const kb_trie *kb_trie_lookup(const kb_trie *t, const uint8_t *address, unsigned width)
{
    const kb_trie *found = NULL;
    for (unsigned n = 0; t; n++) {
        if (t->number >= 0)
            found = t;
        if (n == width)
            break;
        t = t->child[kb_bit(address, n)];
    }
    return found;
}

#endif
