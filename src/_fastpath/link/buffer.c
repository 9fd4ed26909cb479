/* See buffer.h. */
#include "link/buffer.h"
#include "packet/packet.h"

#include <stdlib.h>

enum { LARGE = KB_MAX_PACKET_BYTES, SMALL = 16 * 1024 };

kb_buffer *kb_buffer_new(kb_pool *pool, size_t payload)
{
    kb_buffer *b;
    if (payload > SMALL && payload <= LARGE) {
        b = pool->free;
        if (b) {
            pool->free = b->next;
            pool->count--;
        } else {
            b = malloc(sizeof *b + KB_HEADROOM + LARGE);
        }
        payload = LARGE;
    } else {
        b = malloc(sizeof *b + KB_HEADROOM + payload);
    }
    if (b) {
        b->next = NULL;
        b->start = KB_HEADROOM;
        b->length = 0;
        b->at = 0;
        b->room = (uint32_t)payload;
    }
    return b;
}

void kb_buffer_free(kb_pool *pool, kb_buffer *b)
{
    if (b && b->room == LARGE && pool->count < KB_POOL) {
        b->next = pool->free;
        pool->free = b;
        pool->count++;
    } else {
        free(b);
    }
}

void kb_pool_clear(kb_pool *pool)
{
    while (pool->free) {
        kb_buffer *b = pool->free;
        pool->free = b->next;
        free(b);
    }
    pool->count = 0;
}
