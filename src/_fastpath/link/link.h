/* A link: frames in and out of a transport, with a fair queue in front of it. It knows no routes, tenants or other links.
 *
 * Frames are gathered, encrypted and written in batches of `path.batch` bytes; what the socket does not take is kept, and nothing more is encrypted
 * until it is gone, so an urgent frame waits behind a batch at most. A link that is idle gives its buffers back. */
#ifndef KUBEEDGE_LINK_H
#define KUBEEDGE_LINK_H

#include "link/frame.h"
#include "link/queue.h"
#include "link/transport.h"

#define KB_QUEUE_BYTES (512 * 1024) /* bytes that wait for a link */

typedef struct {
    kb_transport *transport; /* NULL: closed */
    kb_workspace *workspace;
    kb_reader reader;
    kb_queue *queue; /* NULL while there is nothing to send */
    uint64_t rx_bytes, tx_bytes, queue_full, delay_dropped, marked;
} kb_link;

void kb_link_open(kb_link *l, kb_workspace *workspace, kb_transport *transport); /* the transport is the link's from here */
void kb_link_close(kb_link *l);
void kb_link_release_buffers(kb_link *l); /* of a link on which nothing has moved for a while */

size_t kb_link_waiting(const kb_link *l); /* bytes that were queued or encrypted, and that the socket has not taken */
size_t kb_link_queued(const kb_link *l);  /* of them those in the fair queue */
int kb_link_can_send(const kb_link *l);   /* 0: the socket has to take what is encrypted first */

/* Puts a frame into the queue, of at most `limit` bytes; takes `b`, whose payload is at KB_HEADROOM. -1: it was dropped. `tagged`: for another
 * relay, with the tenant's number. `own`: it comes from here, so a full queue refuses it instead of dropping what is older. */
int kb_link_enqueue(kb_link *l, int kind, int tagged, uint32_t tenant, kb_buffer *b, size_t length, uint32_t flow, uint64_t now, size_t limit, int own);
int kb_link_enqueue_control(kb_link *l, const uint8_t *data, size_t length); /* -1: too much of it waits already */

/* Sends up to about `most` bytes of what is queued. 1: there is more to send now, 0: there is not, -1: the link is broken, see error. */
int kb_link_flush(kb_link *l, uint64_t now, size_t most, char *error);

/* Reads until there is a frame, or nothing more, or *budget bytes were read, which go off it. 1: a frame in *frame, which is the caller's
 * (kb_reader_frame says what it is), 0: none, -1: the link has ended, see error. Before it is `admitted` all but control frames are dropped. */
int kb_link_read(kb_link *l, int admitted, size_t *budget, kb_buffer **frame, char *error);

#endif
