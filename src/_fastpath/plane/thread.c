/* The data plane's thread and its ports: epoll over TUN devices and links; see plane.h for the rules and the other files.
 *
 *   TUN ──read──> check ──route──> queue of a link ──TLS──> socket
 *   socket ──TLS──> frame ──check source──> route ──> TUN, or the queue of another link, or an event for Python
 *
 * A turn of the thread: what epoll reports is read, so that backlogs stand in our queues and not in devices and sockets; then links
 * that have something queued send a bounded amount each; then the next turn. What finds a queue full is dropped and counted; nothing
 * ever waits for a slow link. No turn looks at ports that have nothing to do.
 */
#include "plane/internal.h"

#include <errno.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* The thread takes the lock again and again, and a mutex is not fair: a caller from Python could wait for many batches. So everybody
 * holds the entry mutex while it waits for the lock, and the thread finds that taken while a caller waits. */
void kb_plane_enter(kb_plane *plane)
{
    pthread_mutex_lock(&plane->entry);
    pthread_mutex_lock(&plane->lock);
    pthread_mutex_unlock(&plane->entry);
}

void kb_plane_leave(kb_plane *plane)
{
    if (plane->deferred)
        kb_free_deferred(plane);
    pthread_mutex_unlock(&plane->lock);
}

uint64_t kb_microseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

void kb_wake(kb_plane *plane)
{
    uint64_t one = 1;
    if (write(plane->wake, &one, sizeof one) < 0) {
        /* it is set already */
    }
}

/* -- the thread --------------------------------------------------------------------------------------------------------------------- */

static void expire_handshakes(kb_plane *plane)
{
    port *p;
    while ((p = plane->lists[HANDSHAKING]) && plane->now - p->since >= KB_HANDSHAKE_SECONDS * 1000000u)
        kb_port_down(plane, p, "no TLS handshake in time");
}

/* Unauthenticated peers may hold so many handshakes and no more. When many honest links begin at once the first ones get through. */
void kb_limit_handshakes(kb_plane *plane, port *newest)
{
    port *oldest = plane->lists[HANDSHAKING];
    if (plane->handshakes <= KB_MAX_HANDSHAKES || !oldest)
        return;
    int had_time = plane->now - oldest->since >= KB_HANDSHAKE_GRACE * 1000000u;
    kb_port_down(plane, had_time ? oldest : newest, "too many handshakes at once");
}

static void cool(kb_plane *plane)
{
    port *p;
    int cooled = 0;
    while ((p = plane->lists[WARM]) && plane->now - p->since >= WARM_SECONDS * 1000000u) {
        kb_port_set_deadline_list(plane, p, -1);
        kb_link_release_buffers(&p->link);
        cooled++;
    }
    if (!plane->lists[WARM]) { /* all is quiet */
        int worth = cooled >= 64 || plane->workspace.pool.count > 1; /* not after each keepalive */
        (void)worth;
        kb_buffer_free(&plane->workspace.pool, plane->scratch);
        plane->scratch = NULL;
        kb_pool_clear(&plane->workspace.pool);
#ifdef __GLIBC__
        if (worth)
            malloc_trim(0);
#endif
    }
}

static void serve(kb_plane *plane, port *p, uint32_t events)
{
    if (p->kind == TUN) {
        kb_forward_tun(plane, p);
        return;
    }
    if (!p->up) {
        kb_port_handshake(plane, p);
        return;
    }
    if (events & EPOLLOUT)
        kb_port_flush(plane, p);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !p->down)
        kb_forward_link(plane, p);
}

static void serve_lists(kb_plane *plane)
{
    port *p = plane->read_head;
    plane->read_head = plane->read_tail = NULL;
    for (port *next; p; p = next) {
        next = p->read_next;
        p->listed &= (uint8_t)~TO_READ;
        if (!p->down && p->link.transport->type->has_pending(p->link.transport))
            kb_forward_link(plane, p);
    }
    p = plane->flush_head;
    plane->flush_head = plane->flush_tail = NULL;
    for (port *next; p; p = next) {
        next = p->flush_next;
        p->listed &= (uint8_t)~TO_FLUSH;
        if (!p->down)
            kb_port_flush(plane, p);
    }
}

/* -- descriptors of others ---------------------------------------------------------------------------------------------------------- */

#define WATCH (1ull << 62) /* ports are small numbers */

int kb_watch_add(kb_plane *plane, kb_watch *watch, uint32_t events)
{
    struct epoll_event e = {.events = events, .data = {.u64 = WATCH | (uintptr_t)watch}};
    return epoll_ctl(plane->epoll, EPOLL_CTL_ADD, watch->fd, &e);
}

void kb_watch_remove(kb_plane *plane, kb_watch *watch) { epoll_ctl(plane->epoll, EPOLL_CTL_DEL, watch->fd, NULL); }

/* To close it alone would not do: epoll goes on for as long as any duplicate is open, and a child that Python is starting has one until it execs. */
void kb_watch_close(kb_plane *plane, kb_watch *watch)
{
    kb_watch_remove(plane, watch);
    close(watch->fd);
    watch->fd = -1;
}

static void nothing(kb_watch *watch, uint32_t events)
{
    (void)watch;
    (void)events;
}

/* The thread may have been told of an event and wait for the lock: only it knows when that is over. */
void kb_watch_defer_free(kb_plane *plane, kb_watch *watch, void *memory)
{
    watch->ready = nothing;
    watch->memory = memory;
    watch->deferred_next = plane->deferred_watches;
    plane->deferred_watches = watch;
}

static void free_deferred_watches(kb_plane *plane)
{
    while (plane->deferred_watches) {
        kb_watch *watch = plane->deferred_watches;
        plane->deferred_watches = watch->deferred_next;
        free(watch->memory);
    }
}

/* -- the loop ----------------------------------------------------------------------------------------------------------------------- */

/* Milliseconds until `at`, but not more than `most`; -1 is for ever. */
static int sooner(uint64_t at, int most)
{
    if (at == KB_NEVER)
        return most;
    uint64_t now = kb_microseconds(), wait = at > now ? (at - now + 999) / 1000 : 0;
    if (most >= 0 && wait >= (uint64_t)most)
        return most;
    return wait > 3600000 ? 3600000 : (int)wait;
}

static int poll_timeout(kb_plane *plane)
{
    if (plane->flush_head || plane->read_head)
        return 0;
    int most = plane->lists[HANDSHAKING] || plane->lists[WARM] ? 1000 : -1;
    uint64_t deadline = KB_NEVER;
    for (const kb_handler *h = plane->handlers; h; h = h->next)
        if (h->deadline < deadline)
            deadline = h->deadline;
    return sooner(deadline, most);
}

static void *run(void *argument)
{
    kb_plane *plane = argument;
    struct epoll_event events[64];
    uint64_t looked_at = 0;
    kb_plane_enter(plane);
    while (!plane->stop) {
        int timeout = poll_timeout(plane);
        kb_plane_leave(plane);
        int n = epoll_wait(plane->epoll, events, 64, timeout);
        kb_plane_enter(plane);
        plane->now = kb_microseconds();
        for (int i = 0; i < n; i++) {
            if (events[i].data.u64 == UINT64_MAX) {
                uint64_t count;
                if (read(plane->wake, &count, sizeof count) < 0) {
                    /* it was read elsewhere */
                }
                continue;
            }
            if (events[i].data.u64 & WATCH) {
                kb_watch *watch = (kb_watch *)(uintptr_t)(events[i].data.u64 & ~WATCH);
                watch->ready(watch, events[i].events);
                continue;
            }
            port *p = kb_port_of(plane, (int)events[i].data.u64);
            if (p)
                serve(plane, p, events[i].events);
        }
        for (kb_handler *h = plane->handlers; h; h = h->next)
            h->type->work(h);
        free_deferred_watches(plane);
        serve_lists(plane);
        if (plane->now - looked_at >= 1000000u) {
            looked_at = plane->now;
            expire_handshakes(plane);
            cool(plane);
        }
    }
    kb_plane_leave(plane);
    return NULL;
}

kb_plane *kb_plane_new(uint32_t number, char *error)
{
    kb_plane *plane = calloc(1, sizeof *plane);
    if (!plane || kb_workspace_init(&plane->workspace) < 0) {
        snprintf(error, 256, "no memory");
        if (plane)
            kb_workspace_free(&plane->workspace);
        free(plane);
        return NULL;
    }
    plane->number = number;
    plane->now = kb_microseconds();
    plane->epoll = epoll_create1(EPOLL_CLOEXEC);
    plane->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    plane->notify = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN, .data = {.u64 = UINT64_MAX}};
    if (plane->epoll < 0 || plane->wake < 0 || plane->notify < 0 || epoll_ctl(plane->epoll, EPOLL_CTL_ADD, plane->wake, &e) < 0)
        goto failed;
    pthread_mutex_init(&plane->entry, NULL);
    pthread_mutex_init(&plane->lock, NULL);
    /* signals are Python's: none is delivered to this thread, and a broken socket is an error of write, not a signal */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 512 * 1024);
    int failed = pthread_create(&plane->thread, &attributes, run, plane);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed)
        return plane;
    errno = failed;
    pthread_mutex_destroy(&plane->entry);
    pthread_mutex_destroy(&plane->lock);
failed:
    snprintf(error, 256, "cannot start the data plane: %s", strerror(errno));
    close(plane->epoll);
    close(plane->wake);
    close(plane->notify);
    kb_workspace_free(&plane->workspace);
    free(plane);
    return NULL;
}

void kb_plane_free(kb_plane *plane)
{
    if (!plane)
        return;
    kb_plane_enter(plane);
    plane->stop = 1;
    kb_plane_leave(plane);
    kb_wake(plane);
    pthread_join(plane->thread, NULL);
    for (int slot = 0; slot < plane->port_capacity; slot++)
        if (plane->ports[slot])
            kb_port_close(plane, plane->ports[slot]);
    kb_free_deferred(plane);
    while (plane->handlers) {
        kb_handler *h = plane->handlers;
        plane->handlers = h->next;
        h->type->close(h);
    }
    free_deferred_watches(plane);
    kb_events_clear(plane);
    kb_tenants_free(plane);
    kb_buffer_free(&plane->workspace.pool, plane->scratch);
    kb_workspace_free(&plane->workspace);
    free(plane->ports);
    free(plane->generations);
    free(plane->vacant);
    close(plane->epoll);
    close(plane->wake);
    close(plane->notify);
    pthread_mutex_destroy(&plane->entry);
    pthread_mutex_destroy(&plane->lock);
    free(plane);
}

int kb_plane_fileno(kb_plane *plane) { return plane->notify; }
