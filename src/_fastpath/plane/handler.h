/* What else lives in the data plane's thread: handlers with a deadline, a receiver of segments, descriptors in its epoll. The plane knows them
 * only by what they register here. All calls are with the plane's lock held, unless they say otherwise. */
#ifndef KUBEEDGE_PLANE_HANDLER_H
#define KUBEEDGE_PLANE_HANDLER_H

#include "plane/plane.h"

#define KB_NEVER UINT64_MAX

typedef struct kb_handler kb_handler;

typedef struct {
    void (*work)(kb_handler *h);  /* in every turn of the thread, after what epoll reported; sets h->deadline */
    void (*close)(kb_handler *h); /* the plane ends, its thread has; frees h */
} kb_handler_type;

/* The first member of what a package keeps for a plane. Who registers last works first, and is closed first. */
struct kb_handler {
    const kb_handler_type *type;
    kb_handler *next;
    kb_plane *plane;
    uint64_t deadline; /* us, when the thread is to wake up for it; KB_NEVER */
};

void kb_handler_add(kb_plane *plane, kb_handler *h, const kb_handler_type *type);
kb_handler *kb_handler_find(const kb_plane *plane, const kb_handler_type *type); /* NULL: none of this type */

/* Gets the L4 segments for our own number, which are events for Python as long as nobody does. */
typedef void (*kb_segment_receiver)(void *context, uint32_t tenant, uint32_t source, const uint8_t *data, size_t length, uint64_t now);
void kb_receive_segments(kb_plane *plane, kb_segment_receiver receiver, void *context);

/* A descriptor in the thread's epoll. */
typedef struct kb_watch {
    int fd;
    void (*ready)(struct kb_watch *watch, uint32_t events);
    struct kb_watch *deferred_next;
    void *memory;
} kb_watch;

int kb_watch_add(kb_plane *plane, kb_watch *watch, uint32_t events); /* -1: see errno */
void kb_watch_remove(kb_plane *plane, kb_watch *watch);
void kb_watch_close(kb_plane *plane, kb_watch *watch); /* its descriptor */
void kb_watch_defer_free(kb_plane *plane, kb_watch *watch, void *memory); /* frees it when no event can name it any more; it must have no descriptor */

/* For callers outside of the thread, around calls that need the lock. */
void kb_lock(kb_plane *plane);
void kb_unlock(kb_plane *plane);                   /* wakes the thread */
void kb_unlock_quietly(kb_plane *plane);           /* does not: there is nothing for it to do */
void kb_wake(kb_plane *plane);                     /* with or without the lock */
uint64_t kb_plane_now(const kb_plane *plane);      /* us of CLOCK_MONOTONIC, of this turn */
uint32_t kb_plane_number(const kb_plane *plane);   /* of our node */
int kb_plane_send_segment(kb_plane *plane, uint32_t tenant, uint32_t number, const uint8_t *data, size_t length); /* -1: full, or no way */
uint64_t kb_microseconds(void);                    /* CLOCK_MONOTONIC, without the lock */

#endif
