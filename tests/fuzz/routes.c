/* sources:
 *
 * A routing table against a plain list: steps of 4 bytes, what to do, an address, bits, a number. */
#include "plane/routes.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 300 };

typedef struct {
    uint8_t address[4], bits;
    int number;
} entry;

static int covers(const entry *e, const uint8_t *address)
{
    for (unsigned n = 0; n < e->bits; n++)
        if (kb_bit(e->address, n) != kb_bit(address, n))
            return 0;
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static entry list[MOST];
    int count = 0;
    kb_trie *t = kb_trie_new();
    for (; size >= 4; data += 4, size -= 4) {
        /* few different addresses, so that prefixes nest */
        uint8_t address[4] = {data[1], (uint8_t)(data[1] << 4), (uint8_t)(data[1] * 3), data[1]};
        uint8_t bits = data[2] % 33;
        int at = 0;
        while (at < count && !(list[at].bits == bits && covers(&list[at], address)))
            at++;
        switch (data[0] % 3) {
        case 0:
            if (at == MOST)
                break;
            if (kb_trie_add(t, address, bits, data[3], data[3]) < 0)
                abort();
            memcpy(list[at].address, address, 4);
            list[at].bits = bits;
            list[at].number = data[3];
            count += at == count;
            break;
        case 1:
            kb_trie_remove(t, address, bits, 0);
            if (at < count)
                list[at] = list[--count];
            break;
        default: {
            const entry *best = NULL;
            for (int n = 0; n < count; n++)
                if (covers(&list[n], address) && (!best || list[n].bits > best->bits))
                    best = &list[n];
            const kb_trie *found = kb_trie_lookup(t, address, 32);
            if (!best != !found || (best && (best->number != found->number || best->number != found->mtu)))
                abort();
        }
        }
    }
    while (count--)
        kb_trie_remove(t, list[count].address, list[count].bits, 0);
    if (t->child[0] || t->child[1])
        abort(); /* what is removed is freed */
    kb_trie_free(t);
    return 0;
}
