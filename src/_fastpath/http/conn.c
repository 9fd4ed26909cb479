/* Connections of the proxies: TCP sockets and L4 connections behind the same few calls. */
#include "http/internal.h"

static void tell(proxy_conn *x)
{
    if (x->session)
        x->ready(x->session);
    else
        x->until = 0; /* an idle connection has something to say: its end, mostly; the tick closes it */
}

static void on_socket(kb_watch *watch, uint32_t events)
{
    proxy_conn *x = (proxy_conn *)watch;
    if (x->closed)
        return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        x->readable = 1;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        x->writable = 1;
    if (events & EPOLLERR)
        x->broken = 1;
    tell(x);
}

void kb_proxy_on_l4_event(void *user, kb_conn *conn)
{
    (void)conn;
    tell(user);
}

proxy_conn *kb_proxy_conn_tcp(kb_plane *plane, int fd)
{
    proxy_conn *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->plane = plane;
    x->watch = (kb_watch){.fd = fd, .ready = on_socket};
    if (kb_watch_add(plane, &x->watch, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) < 0) {
        free(x);
        return NULL;
    }
    return x;
}

proxy_conn *kb_proxy_conn_l4(kb_plane *plane, kb_conn *conn)
{
    proxy_conn *x = calloc(1, sizeof *x);
    if (x) {
        x->plane = plane;
        x->watch.fd = -1;
        x->conn = conn;
    }
    return x;
}

/* `hard`: the other end is to notice that this is no good end */
void kb_proxy_conn_close(proxy_conn *x, int hard)
{
    if (!x || x->closed)
        return;
    x->closed = 1;
    x->session = NULL;
    kb_text_free(&x->in);
    kb_text_free(&x->out);
    if (x->conn) {
        if (hard)
            kb_conn_release(x->conn);
        else
            kb_conn_close(x->conn, kb_plane_now(x->plane));
        x->conn = NULL;
        free(x);
        return;
    }
    if (hard) {
        struct linger none = {1, 0};
        setsockopt(x->watch.fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    }
    kb_watch_close(x->plane, &x->watch);
    kb_watch_defer_free(x->plane, &x->watch, x); /* this turn of the loop may still name it */
}

int kb_proxy_conn_is_up(proxy_conn *x)
{
    if (x->conn)
        return kb_conn_state_of(x->conn) == KB_ESTABLISHED;
    return !x->connecting;
}

int kb_proxy_conn_is_broken(proxy_conn *x)
{
    if (x->conn)
        return kb_conn_state_of(x->conn) == KB_RESET;
    if (x->connecting && x->writable) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(x->watch.fd, SOL_SOCKET, SO_ERROR, &error, &size);
        x->connecting = 0;
        if (error)
            x->broken = 1;
    }
    return x->broken;
}

static void fill(proxy_conn *x, size_t most)
{
    while (x->readable && !x->eof && x->in.length - x->in_at < most) {
        if (x->in_at && x->in_at == x->in.length)
            x->in_at = x->in.length = 0;
        if (x->in.length == x->in.room) {
            if (x->in_at) {
                memmove(x->in.data, x->in.data + x->in_at, x->in.length - x->in_at);
                x->in.length -= x->in_at;
                x->in_at = 0;
            } else {
                size_t room = x->in.room ? 2 * x->in.room : FIRST_IN;
                uint8_t *data = room <= MAX_IN ? realloc(x->in.data, room) : NULL;
                if (!data)
                    return;
                x->in.data = data;
                x->in.room = room;
            }
        }
        size_t room = x->in.room - x->in.length;
        ssize_t got = recv(x->watch.fd, x->in.data + x->in.length, room, MSG_DONTWAIT);
        if (got > 0) {
            x->in.length += (size_t)got;
            continue;
        }
        if (got == 0)
            x->eof = 1;
        else if (errno == EAGAIN)
            x->readable = 0;
        else if (errno != EINTR)
            x->broken = x->eof = 1;
    }
}

const uint8_t *kb_proxy_conn_peek(proxy_conn *x, size_t *length, size_t most)
{
    if (x->conn)
        return kb_conn_peek(x->conn, length);
    fill(x, most);
    *length = x->in.length - x->in_at;
    return x->in.data ? x->in.data + x->in_at : NULL;
}

void kb_proxy_conn_consume(proxy_conn *x, size_t count)
{
    if (x->conn) {
        kb_conn_consume(x->conn, count);
        return;
    }
    x->in_at += count;
    if (x->in_at == x->in.length && x->in.room > FIRST_IN * 4)
        x->in_at = x->in.length = 0;
}

int kb_proxy_conn_at_eof(proxy_conn *x)
{
    if (x->conn)
        return kb_conn_eof(x->conn) || kb_conn_state_of(x->conn) == KB_RESET;
    return x->eof && x->in.length == x->in_at;
}

/* A client that ends its side in the middle of an exchange has hung up, whatever it had sent before. */
int kb_proxy_conn_is_gone(proxy_conn *x) { return kb_proxy_conn_is_broken(x) || (x->conn ? kb_conn_finished(x->conn) : x->eof); }

size_t kb_proxy_conn_room(proxy_conn *x)
{
    if (x->conn)
        return kb_conn_room(x->conn);
    size_t waiting = x->out.length - x->out_at;
    return waiting < KB_PROXY_OUT ? KB_PROXY_OUT - waiting : 0;
}

/* Bytes that wait for the reader. */
size_t kb_proxy_unsent(const proxy_conn *x) { return x->conn ? kb_conn_unsent(x->conn) : x->out.length - x->out_at; }

/* Bytes of memory that it holds. */
size_t kb_proxy_held(const proxy_conn *x)
{
    if (!x)
        return 0;
    return x->conn ? kb_conn_unsent(x->conn) + kb_conn_waiting(x->conn) : x->in.room + x->out.room;
}

static ssize_t push(proxy_conn *x, const uint8_t *data, size_t length)
{
    ssize_t sent = send(x->watch.fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0)
        return sent;
    if (errno == EAGAIN || errno == EINTR)
        x->writable = errno == EINTR;
    else
        x->broken = 1;
    return 0;
}

void kb_proxy_conn_flush(proxy_conn *x)
{
    if (x->conn || x->closed || x->connecting)
        return;
    while (x->out_at < x->out.length && x->writable && !x->broken)
        x->out_at += (size_t)push(x, x->out.data + x->out_at, x->out.length - x->out_at);
    if (x->out_at == x->out.length)
        x->out_at = x->out.length = 0;
}

int kb_proxy_conn_flushed(const proxy_conn *x) { return x->conn || x->out_at == x->out.length; }

void kb_proxy_conn_write(proxy_conn *x, const uint8_t *data, size_t length)
{
    if (x->conn) {
        if (kb_conn_write(x->conn, data, length) < length)
            kb_conn_abort(x->conn, "no memory");
        return;
    }
    if (length >= DIRECT && x->writable && !x->connecting) {
        kb_proxy_conn_flush(x);
        while (length && kb_proxy_conn_flushed(x) && x->writable && !x->broken) {
            size_t sent = (size_t)push(x, data, length);
            data += sent;
            length -= sent;
        }
    }
    if (x->out_at && x->out_at >= x->out.length - x->out_at) { /* what was sent goes, or the buffer would grow with all that a slow reader ever takes */
        memmove(x->out.data, x->out.data + x->out_at, x->out.length - x->out_at);
        x->out.length -= x->out_at;
        x->out_at = 0;
    }
    kb_add(&x->out, data, length);
    if (x->out.failed)
        x->broken = 1;
}

/* It waits, and holds no buffer meanwhile. */
void kb_proxy_conn_make_idle(proxy_conn *x)
{
    if (x->in.length == x->in_at) {
        kb_text_free(&x->in);
        x->in_at = 0;
    }
    if (x->out.length == x->out_at) {
        kb_text_free(&x->out);
        x->out_at = 0;
    }
}
