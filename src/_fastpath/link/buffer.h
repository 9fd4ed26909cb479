/* Frames in memory: one buffer each, with headroom for what goes in front of the payload. Large buffers are kept in a pool. */
#ifndef KUBEEDGE_LINK_BUFFER_H
#define KUBEEDGE_LINK_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#define KB_HEADROOM 8 /* bytes before a payload: the frame's header, and a tenant's number between relays */
#define KB_POOL 12    /* large buffers that are kept for the next packet */

typedef struct kb_buffer {
    struct kb_buffer *next;
    uint32_t start, length; /* the frame: `length` bytes from data + start */
    uint32_t at;            /* us, when it was queued */
    uint32_t room;          /* bytes of payload that fit */
    uint8_t data[];         /* KB_HEADROOM, then the payload */
} kb_buffer;

typedef struct {
    kb_buffer *free;
    int count;
} kb_pool;

kb_buffer *kb_buffer_new(kb_pool *pool, size_t payload); /* NULL: no memory */
void kb_buffer_free(kb_pool *pool, kb_buffer *b);        /* of NULL: nothing */
void kb_pool_clear(kb_pool *pool);

#endif
