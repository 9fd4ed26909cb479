/* L4: reliable, ordered connections between nodes, named by (tenant, node, port). No I/O, no clock, no thread of its own: segments and `now`
 * in, segments and the time of the next timer out. In a process with a data plane it lives in the plane's thread (in_plane.c).
 *
 * The face and the states are TCP's (RFC 9293); segments have up to 32 KiB, because a link below is a byte stream. Loss is found by time
 * (RACK and tail loss probes, RFC 8985) over selective acknowledgements (RFC 2018), after that by a retransmission timer (RFC 6298).
 * A relay whose queue grows marks segments instead of dropping them (RFC 3168; the sender's answer is RFC 8511's). The window grows while
 * the reader keeps up and is never taken back.
 *
 * Memory: an idle connection is one kb_conn and holds no buffer. All memory that waits, both ways, counts for the peer's node and for its
 * tenant, and so do connections and half-open ones. Each may hold a part of what is free (budget.c): a tenant at its limit takes nothing from
 * another, and neither does a node from others of its tenant. Near its limit windows shrink and writers wait, beyond it what arrives is dropped.
 *
 * Reference implementation: tests/reference/l4. The wire format is in packet/segment.h.
 */
#ifndef KUBEEDGE_L4_H
#define KUBEEDGE_L4_H

#include "packet/segment.h"

#include <stddef.h>
#include <stdint.h>

#define KB_L4_HEAD (KB_L4_HEADER + 8 * KB_L4_RANGES) /* the most that precedes a payload */
#define KB_L4_PAYLOAD (32 * 1024)
#define KB_L4_CONNECTIONS 65536
#define KB_L4_PER_PEER 16384
#define KB_L4_OPENING 4096
#define KB_L4_OPENING_PEER 1024
#define KB_L4_ENDED 1024                             /* connections that are remembered to acknowledge a FIN again */
#define KB_L4_SEND_BUFFER (512 * 1024)               /* bytes that the writer may leave before it has to wait */
#define KB_L4_PACE_BURST 2000000u                    /* us */
#define KB_L4_NEVER UINT64_MAX

typedef enum { KB_SYN_SENT, KB_SYN_RECEIVED, KB_ESTABLISHED, KB_CLOSED, KB_RESET } kb_conn_state;

typedef struct kb_l4 kb_l4;
typedef struct kb_conn kb_conn;

typedef struct {
    void *context;
    /* -1: it was not taken, try again later. Lost segments are no error. */
    int (*send)(void *context, uint32_t tenant, uint32_t peer, const uint8_t *segment, size_t length);
    uint32_t (*random)(void *context);
} kb_l4_below;

/* Something changed: bytes or the end to read, room to write, another state. Called from kb_l4_work; it may call all kb_conn_ functions. */
typedef void (*kb_conn_ready)(void *user, kb_conn *conn);
/* A connection is established; kb_conn_own, or it is reset. Called from kb_l4_work. */
typedef void (*kb_l4_accept)(void *context, kb_conn *conn);

typedef struct {
    uint64_t connections, opened, refused, segments_in, segments_out, retransmitted, timeouts, marked, bytes; /* bytes: that wait, now */
} kb_l4_counters;

kb_l4 *kb_l4_new(uint32_t self, const kb_l4_below *below, size_t budget); /* NULL: no memory */
void kb_l4_free(kb_l4 *l4);
int kb_l4_listen(kb_l4 *l4, uint32_t tenant, uint16_t port, kb_l4_accept accept, void *context); /* -1: there is a listener already; -2: no memory */
void kb_l4_unlisten(kb_l4 *l4, uint32_t tenant, uint16_t port);
void kb_l4_unlisten_all(kb_l4 *l4, const void *context);
/* Puts a handler in front of the listener: it gets what is accepted, and may pass it on to *before. -1: there is no listener. */
int kb_l4_divert(kb_l4 *l4, uint32_t tenant, uint16_t port, kb_l4_accept accept, void *context, kb_l4_accept *before, void **before_context);
kb_conn *kb_l4_connect(kb_l4 *l4, uint32_t tenant, uint32_t peer, uint16_t port, uint64_t now, kb_conn_ready ready, void *user); /* NULL: too many */
void kb_l4_receive(kb_l4 *l4, uint32_t tenant, uint32_t peer, const uint8_t *data, size_t length, uint64_t now);
/* Runs timers and callbacks and sends what is to be sent. Returns when it wants to run again: a time, or KB_L4_NEVER. */
uint64_t kb_l4_work(kb_l4 *l4, uint64_t now);
uint64_t kb_l4_next(const kb_l4 *l4); /* the same, without the work */
void kb_l4_reset_peer(kb_l4 *l4, uint32_t tenant, uint32_t peer); /* it is known to have been restarted */
void kb_l4_get_counters(const kb_l4 *l4, kb_l4_counters *counters);

void kb_conn_own(kb_conn *conn, kb_conn_ready ready, void *user);
void *kb_conn_user(const kb_conn *conn);
/* May an accepted connection cost its owner something, with so many of its node and of its tenant in a second (0: any number)? Both may be
 * ahead by KB_L4_PACE_BURST. It counts when it may. */
int kb_conn_in_pace(kb_conn *conn, uint32_t of_node, uint32_t of_tenant);
void kb_conn_name(const kb_conn *conn, uint32_t *tenant, uint32_t *peer, uint16_t *local, uint16_t *remote);
kb_conn_state kb_conn_state_of(const kb_conn *conn);
const char *kb_conn_error(const kb_conn *conn);
size_t kb_conn_write(kb_conn *conn, const uint8_t *data, size_t length); /* bytes taken: all, unless there is no memory or writing has ended */
size_t kb_conn_room(kb_conn *conn);             /* bytes that are welcome; after a 0 `ready` is called when there is room again */
size_t kb_conn_unsent(const kb_conn *conn);     /* bytes */
const uint8_t *kb_conn_peek(const kb_conn *conn, size_t *length); /* the next bytes to read, as many as lie in one piece; NULL: none */
/* As peek, with the first `most` bytes in one piece, or all there are. NULL: none, or no memory. */
const uint8_t *kb_conn_pullup(kb_conn *conn, size_t most, size_t *length);
void kb_conn_consume(kb_conn *conn, size_t count);
size_t kb_conn_waiting(const kb_conn *conn);    /* bytes to read */
int kb_conn_finished(const kb_conn *conn);      /* the peer has ended its side */
int kb_conn_eof(const kb_conn *conn);           /* and everything was read */
void kb_conn_finish(kb_conn *conn);             /* no more bytes from us */
void kb_conn_abort(kb_conn *conn, const char *reason); /* `reason` is a constant */
void kb_conn_keepalive(kb_conn *conn, uint64_t idle);  /* us of silence after which the peer is asked; 0: never */
void kb_conn_release(kb_conn *conn);            /* the owner is done: what is not over is reset */
void kb_conn_close(kb_conn *conn, uint64_t now);       /* the owner is done: what was written still goes out, what comes is thrown away */

#endif
