/* The end of a port: nothing leads to it from then on, and its memory is freed when no pending event can name it. */
#include "plane/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

void kb_port_close(kb_plane *plane, port *p)
{
    plane->ports[p->id & 0xffff] = NULL;
    plane->vacant[plane->vacant_count++] = p->id & 0xffff;
    kb_port_set_deadline_list(plane, p, -1);
    if (p->kind == LINK && !p->up)
        plane->handshakes--;
    if (p->kind == LINK) {
        kb_count_queued(plane, p, kb_link_queued(&p->link), 0);
        kb_link_close(&p->link);
    }
    free(p->prefixes);
    p->prefixes = NULL;
    epoll_ctl(plane->epoll, EPOLL_CTL_DEL, p->fd, NULL); /* a child that is being started may have a duplicate */
    close(p->fd);
    p->down = 1;
    p->deferred_next = plane->deferred;
    plane->deferred = p;
}

void kb_port_down(kb_plane *plane, port *p, const char *reason)
{
    if (p->down)
        return;
    kb_port_forget_number(plane, p);
    kb_emit(plane, KB_EVENT_DOWN, p, 0, p->tenant, 0, reason, strlen(reason));
    kb_port_close(plane, p);
}

static void drop_listed(port **head, port **tail, int where)
{
    port *kept_head = NULL, *kept_tail = NULL;
    for (port *p = *head, *next; p; p = next) {
        next = where == TO_FLUSH ? p->flush_next : p->read_next;
        if (p->down) {
            p->listed &= (uint8_t)~where;
            continue;
        }
        if (where == TO_FLUSH)
            p->flush_next = NULL;
        else
            p->read_next = NULL;
        if (!kept_head)
            kept_head = p;
        else if (where == TO_FLUSH)
            kept_tail->flush_next = p;
        else
            kept_tail->read_next = p;
        kept_tail = p;
    }
    *head = kept_head;
    *tail = kept_tail;
}

/* Frees ports that went down: now nobody on the stack looks at them any more. */
void kb_free_deferred(kb_plane *plane)
{
    drop_listed(&plane->flush_head, &plane->flush_tail, TO_FLUSH);
    drop_listed(&plane->read_head, &plane->read_tail, TO_READ);
    while (plane->deferred) {
        port *p = plane->deferred;
        plane->deferred = p->deferred_next;
        free(p);
    }
}
