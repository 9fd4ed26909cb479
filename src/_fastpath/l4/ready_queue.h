/* The queue from which Python takes L4 connections that have news. */
#ifndef KUBEEDGE_L4_READY_QUEUE_H
#define KUBEEDGE_L4_READY_QUEUE_H

#include "l4/l4.h"

/* A connection that Python owns. */
typedef struct kb_handle {
    struct kb_ready_queue *ready_queue;
    kb_conn *conn;
    struct kb_handle *next, *older, *newer; /* among those with news; among all of the queue */
    uint8_t listed, fresh; /* in the queue; accepted, and Python has not seen it */
} kb_handle;

typedef struct kb_ready_queue {
    kb_handle *head, *tail, *newest;
    uint32_t pace_of_node, pace_of_tenant; /* connections in a second that Python is given; 0: any number */
    int notify; /* eventfd, readable while something waits; -1: none */
} kb_ready_queue;

void kb_ready_queue_accept(void *ready_queue,
                           kb_conn *conn); /* a kb_l4_accept; also for a connection that another handler had. Without memory, or beyond the pace, it is reset */
kb_handle *kb_ready_queue_connect(kb_ready_queue *ready_queue, kb_l4 *l4, uint32_t tenant, uint32_t peer, uint16_t port, uint64_t now); /* NULL: too many */
kb_handle *kb_ready_queue_next(kb_ready_queue *ready_queue); /* NULL: none, and `notify` is quiet */
void kb_handle_free(kb_handle *handle); /* ends the connection */
void kb_ready_queue_clear(kb_ready_queue *ready_queue); /* all of them */

#endif
