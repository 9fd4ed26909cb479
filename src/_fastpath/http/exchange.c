/* An exchange, step by step, as far as the bytes that are there lead it. */
#include "http/internal.h"

static int close_slowly(session *s)
{
    if (!kb_proxy_conn_flushed(s->client) && !kb_proxy_conn_is_broken(s->client))
        return WAIT;
    kb_proxy_session_end(s, 0);
    return OVER;
}

void kb_proxy_drive(session *s)
{
    static int (*const steps[])(session *) = {
        kb_proxy_read_request, kb_proxy_read_answer, kb_proxy_relay_body, close_slowly, kb_proxy_wait_for_upstream,
    };
    int outcome;
    s->turn = KB_PROXY_TURN;
    s->again_at = 0;
    kb_proxy_conn_flush(s->client);
    do {
        outcome = steps[s->state](s);
        if (outcome == OVER)
            return;
        if (s->state == READING || s->state == CLOSING || outcome == WAIT)
            kb_proxy_conn_flush(s->client);
    } while (outcome == GO_ON);
    if (s->server)
        kb_proxy_conn_flush(s->server);
    kb_proxy_weigh(s);
    if (kb_proxy_conn_is_broken(s->client))
        kb_proxy_session_end(s, 1);
}
