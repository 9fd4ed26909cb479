/* Frames in memory, and the queue of a link: control first, then flows that share the link fairly. No I/O, no clock.
 *
 * The queue is FQ-CoDel (RFC 8290) with two changes. Flows are told apart by a 32-bit hash and kept only while they have something
 * queued, so an idle link costs nothing; and the quantum is larger, because a packet may have 64 KiB. A flow that has just begun (a
 * ping, a bare acknowledgement, the first packets of a connection) goes before those that have a backlog. CoDel (RFC 8289) marks or
 * drops where a flow's packets wait too long; at the queue's bound the longest flow loses its oldest packets.
 *
 * Reference implementation: kubeedge/kubebus/l3/queue.py.
 */
#ifndef KUBEEDGE_QUEUE_H
#define KUBEEDGE_QUEUE_H

#include <stddef.h>
#include <stdint.h>

#define KB_HEADROOM 8       /* bytes before a payload: the frame's header, and a tenant's number between relays */
#define KB_QUANTUM 8192     /* bytes that a flow may send in its turn */
#define KB_TARGET 5000      /* us that a packet may wait */
#define KB_INTERVAL 100000  /* us that it may wait longer: a worst-case round trip */
#define KB_FLOWS 1024       /* of one queue; what is beyond shares one */
#define KB_BUCKETS 64
#define KB_POOL 12          /* large buffers that are kept for the next packet */

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
void kb_buffer_free(kb_pool *pool, kb_buffer *b);        /* NULL is nothing */
void kb_pool_clear(kb_pool *pool);

typedef struct kb_flow {
    struct kb_flow *chain, *next; /* in its bucket; in its list */
    kb_buffer *head, *tail;
    uint32_t key, bytes, largest;
    int32_t deficit;
    uint32_t first_above, drop_next, count, last_count;
    uint8_t above, dropping;
} kb_flow;

typedef struct {
    kb_flow *head, *tail;
} kb_flows;

typedef struct {
    kb_buffer *control, *control_tail;
    kb_flows fresh, old;
    kb_flow *buckets[KB_BUCKETS];
    size_t bytes, control_bytes;
    uint32_t flows, marked;
} kb_queue;

/* Takes the buffer. Buffers that had to go are put in front of *dropped, linked by next; they are the caller's. */
void kb_queue_put(kb_queue *q, kb_buffer *b, uint32_t flow, uint32_t now, size_t limit, kb_buffer **dropped);
void kb_queue_put_control(kb_queue *q, kb_buffer *b);
kb_buffer *kb_queue_get(kb_queue *q, uint32_t now, kb_buffer **dropped); /* NULL: empty */
void kb_queue_clear(kb_queue *q, kb_pool *pool);

/* Puts frames together from a byte stream that somebody else reads. */
typedef struct {
    kb_buffer *frame; /* being filled */
    uint32_t have, skip;
    uint8_t head[4], got, kind;
} kb_reader;

/* Where the next bytes go, and how many at most. `scratch` is for what is thrown away. */
size_t kb_reader_want(kb_reader *r, uint8_t **into, uint8_t *scratch, size_t scratch_size);
/* `count` bytes were put there. 1: a whole frame is in r->frame (take it), 0: go on, -1: no such frame (see head), -2: no memory.
 * With `admitted` 0 everything but control is thrown away. */
int kb_reader_took(kb_reader *r, size_t count, int admitted, kb_pool *pool);

#endif
