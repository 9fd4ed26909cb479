/* Bodies in chunks: a decoder of pieces. */
#ifndef KUBEEDGE_HTTP_CHUNKS_H
#define KUBEEDGE_HTTP_CHUNKS_H

#include <stddef.h>
#include <stdint.h>

/* A body in chunks (RFC 9112, section 7.1). */
typedef struct {
    uint64_t left;             /* bytes of the chunk at hand */
    uint8_t state, digits, seen;
    uint32_t skipped;          /* bytes of the extension at hand, or of all trailers */
} kb_chunks;

/* Looks at `length` bytes: how many to skip and then how many are body, in *skip and *body. 1: the body is over after *skip, 0: go on, -1: broken.
 * Progress is made while length > 0. */
int kb_chunks_next(kb_chunks *c, const uint8_t *data, size_t length, size_t *skip, size_t *body);

#endif
