/* Answers of our own: what a client hears when its request goes nowhere. */
#include "http/internal.h"

/* An answer of ours; as error_response in forward.py. Afterwards the connection ends. */
void kb_proxy_refuse(session *s, int status, const char *why)
{
    kb_text body = {0}, *head = &s->proxy->text;
    char where[KB_PROXY_NAME], *slash;
    snprintf(where, sizeof where, "%s", s->upstream->name);
    kb_add_string(&body, "{\"error\": \"");
    kb_add_string(&body, why);
    if (s->proxy->is_client && (slash = strchr(where, '/'))) {
        *slash = 0;
        kb_add_string(&body, "\", \"tenant\": \"");
        kb_add_string(&body, where);
        kb_add_string(&body, "\", \"node\": \"");
        kb_add_string(&body, slash + 1);
    } else {
        kb_add_string(&body, "\", \"service\": \"");
        kb_add_string(&body, where);
    }
    kb_add_string(&body, "\"}\n");
    head->length = 0;
    kb_add_string(head, "HTTP/1.1 ");
    kb_add_number(head, (uint64_t)status, 10);
    kb_add_string(head, status == 429 ? " Too Many Requests" : status == 503 ? " Service Unavailable" : " Gateway Timeout");
    kb_add_string(head, "\r\ncontent-type: application/json\r\ncache-control: no-store\r\nconnection: close\r\n");
    if (status != 504)
        kb_add_string(head, "retry-after: 1\r\n");
    kb_add_string(head, "content-length: ");
    kb_add_number(head, body.length, 10);
    kb_add_string(head, "\r\n\r\n");
    kb_proxy_conn_write(s->client, head->data, head->length);
    if (!s->head_only)
        kb_proxy_conn_write(s->client, body.data, body.length);
    kb_text_free(&body);
    kb_proxy_count_answer(s, status);
    s->upstream->account->counters.refused++;
    kb_proxy_release_upstream(s, 0);
    kb_proxy_conn_consume(s->client, s->head);
    s->state = CLOSING;
    s->deadline = kb_plane_now(s->proxy->plane) + s->proxy->limits.head;
}

void kb_proxy_refuse_excess(session *s, int status)
{
    const kb_proxy_limits *limits = &s->proxy->limits;
    char why[256];
    int length = snprintf(why, sizeof why, "%s %s has ", s->proxy->is_client ? "tenant" : "web service", s->upstream->account->counters.name);
    if (status == 429)
        snprintf(why + length, sizeof why - (size_t)length, "sent more than %g requests a second; try again later", limits->rate);
    else
        snprintf(why + length, sizeof why - (size_t)length, "%u requests in progress already; try again later", limits->concurrent);
    kb_proxy_refuse(s, status, why);
}
