/* A connection that is handed over when there is no memory to hand it over with: it is reset, and nobody is told of it any more. */
#include "l4/ready_queue.h"

#include <stdio.h>
#include <stdlib.h>

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

static int exhausted;

void *__wrap_calloc(size_t count, size_t size) { return exhausted ? NULL : __real_calloc(count, size); }

typedef struct {
    kb_conn *conn;
    int news;
} owner;

static int nowhere(void *context, uint32_t tenant, uint32_t peer, const uint8_t *segment, size_t length)
{
    (void)context, (void)tenant, (void)peer, (void)segment, (void)length;
    return 0;
}

static uint32_t number(void *context)
{
    (void)context;
    return 7;
}

static void on_news(void *user, kb_conn *conn)
{
    (void)conn;
    ((owner *)user)->news++; /* the sanitizer sees an owner that was freed */
}

static void on_accept(void *context, kb_conn *conn)
{
    owner **accepted = context;
    *accepted = calloc(1, sizeof **accepted);
    (*accepted)->conn = conn;
    kb_conn_own(conn, on_news, *accepted);
}

int main(void)
{
    const kb_l4_below below = {.send = nowhere, .random = number};
    kb_l4 *l4 = kb_l4_new(1, &below, 1 << 20);
    owner client = {0}, *accepted = NULL;
    kb_ready_queue queue = {.notify = -1};
    uint64_t now = 1000000;
    kb_l4_listen(l4, 0, 80, on_accept, &accepted);
    client.conn = kb_l4_connect(l4, 0, 1, 80, now, on_news, &client);
    kb_l4_work(l4, now);
    if (!accepted || kb_conn_state_of(client.conn) != KB_ESTABLISHED)
        return puts("no connection"), 1;

    kb_conn *conn = accepted->conn;
    free(accepted); /* as the proxy does before it lets go of a connection */
    exhausted = 1;
    kb_ready_queue_accept(&queue, conn);
    exhausted = 0;
    kb_conn_write(client.conn, (const uint8_t *)"x", 1);
    kb_l4_work(l4, now + 1000);
    if (kb_conn_state_of(client.conn) != KB_RESET || queue.head)
        return puts("the connection is still there"), 1;

    kb_conn_release(client.conn);
    kb_l4_free(l4);
    puts("ok");
    return 0;
}
