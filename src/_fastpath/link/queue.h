/* The queue of a link: control first, then flows that share the link fairly. No I/O, no clock.
 *
 * The queue is FQ-CoDel (RFC 8290) with two changes. Flows are told apart by a 32-bit hash and kept only while they have something
 * queued, so an idle link costs nothing; and the quantum is larger, because a packet may have 64 KiB. A flow that has just begun (a
 * ping, a bare acknowledgement, the first packets of a connection) goes before those that have a backlog. CoDel (RFC 8289) marks or
 * drops where a flow's packets wait too long; at the queue's bound the longest flow loses its oldest packets.
 *
 * Reference implementation: tests/reference/queue.py.
 */
#ifndef KUBEEDGE_LINK_QUEUE_H
#define KUBEEDGE_LINK_QUEUE_H

#include "link/buffer.h"

#define KB_QUANTUM 8192     /* bytes that a flow may send in its turn */
#define KB_TARGET 5000      /* us that a packet may wait */
#define KB_INTERVAL 100000  /* us that it may wait longer: a worst-case round trip */
#define KB_FLOWS 1024       /* of one queue; what is beyond shares one */
#define KB_BUCKETS 64

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

#endif
