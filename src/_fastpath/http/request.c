/* The first half of an exchange: a request is read, waits until its upstream is known, and goes there. */
#include "http/internal.h"

/* So much of a head: can it become a request that is for us? What cannot is not waited for. */
static int may_be_plain(const uint8_t *data, size_t length)
{
    return !memcmp(data, "GET ", length < 4 ? length : 4) || !memcmp(data, "HEAD ", length < 5 ? length : 5);
}

/* The request waits where it is until its upstream is known. */
static int park(session *s, upstream *p)
{
    kb_proxy *proxy = s->proxy;
    if (!p || kb_proxy_ask(proxy, p) < 0) {
        kb_proxy_hand_over(s);
        return OVER;
    }
    s->wanted = p;
    p->users++;
    s->state = LOOKING_UP;
    s->begun = 0;
    s->deadline = kb_plane_now(proxy->plane) + LOOKUP_TIMEOUT;
    return WAIT;
}

int kb_proxy_wait_for_upstream(session *s)
{
    size_t more;
    kb_proxy_conn_peek(s->client, &more, KB_HEAD_BYTES);
    if (!kb_proxy_conn_is_gone(s->client))
        return WAIT;
    kb_proxy_session_end(s, 1);
    return OVER;
}

/* The path of `target` without its last element: what a cookie without a Path is for (RFC 6265, section 5.1.4), but not less than the
 * prefix, and without a ';', which would end the Path. */
static uint32_t directory_of(kb_slice target, uint32_t prefix)
{
    uint32_t length = prefix;
    for (uint32_t i = prefix; i < target.length && target.at[i] != '?' && target.at[i] != ';'; i++)
        if (target.at[i] == '/')
            length = i;
    return length;
}

static int is_routed(const kb_proxy *proxy, const kb_http_head *head)
{
    for (uint32_t i = 0; proxy->host_count && i < head->count; i++)
        if (head->fields[i].what == KB_F_HOST && kb_proxy_has_host(proxy, head->fields[i].value.at, head->fields[i].value.length))
            return 1;
    return 0;
}

int kb_proxy_read_request(session *s)
{
    kb_proxy *proxy = s->proxy;
    proxy_conn *client = s->client;
    uint64_t now = kb_plane_now(proxy->plane);
    kb_http_head head;
    kb_slice labels[3], rest_of;
    size_t length;
    if (!kb_proxy_conn_flushed(client) || !kb_proxy_room_of(s)) /* who does not read is not answered again */
        return WAIT;
    const uint8_t *data = kb_proxy_conn_peek(client, &length, KB_HEAD_BYTES);
    if (!length) {
        if (kb_proxy_conn_at_eof(client) || kb_proxy_conn_is_broken(client)) {
            kb_proxy_session_end(s, kb_proxy_conn_is_broken(client));
            return OVER;
        }
        kb_proxy_conn_make_idle(client);
        return WAIT;
    }
    int size = kb_parse_request(data, length, &head);
    if (size == 0 && client->conn && kb_conn_waiting(client->conn) > length) { /* a head that came in two segments */
        data = kb_conn_pullup(client->conn, KB_HEAD_BYTES, &length);
        size = data ? kb_parse_request(data, length, &head) : -1;
    }
    if (size == 0 && !kb_proxy_conn_at_eof(client) && may_be_plain(data, length)) {
        if (!s->begun) {
            s->begun = 1;
            s->deadline = now + proxy->limits.head;
        }
        return WAIT;
    }
    if (size <= 0 || !kb_plain_request(&head) || is_routed(proxy, &head) || kb_split_target(head.target, proxy->is_client ? 3 : 1, labels, &rest_of) < 0 ||
        (!proxy->is_client && (!rest_of.length || rest_of.at[0] != '/'))) { /* to be redirected to the slash */
        kb_proxy_hand_over(s);
        return OVER;
    }
    char name[KB_PROXY_NAME];
    if (proxy->is_client)
        snprintf(name, sizeof name, "%.*s/%.*s", (int)labels[0].length, labels[0].at, (int)labels[1].length, labels[1].at);
    else
        snprintf(name, sizeof name, "%.*s", (int)labels[0].length, labels[0].at);
    upstream *p = kb_proxy_upstream_find(proxy, name);
    if (!p || p->until <= now)
        return park(s, p ? p : kb_proxy_upstream_new(proxy, name));
    s->upstream = p;
    p->users++;
    p->account->counters.in_progress++;
    kb_proxy_charge(s, p->account);
    s->interim = 0;
    s->head = (uint32_t)size;
    s->head_only = head.method.length == 4;
    s->close = head.close;
    s->begun = 0;
    s->prefix = (uint32_t)(head.target.at - data);
    s->prefix_length = proxy->is_client ? (uint32_t)(rest_of.at - head.target.at) : 0;
    s->directory_length = proxy->is_client ? directory_of(head.target, s->prefix_length) : 0;
    s->host = s->host_length = 0;
    for (uint32_t i = 0; i < head.count; i++)
        if (head.fields[i].what == KB_F_HOST) {
            s->host = (uint32_t)(head.fields[i].value.at - data);
            s->host_length = head.fields[i].value.length;
        }
    if (!kb_proxy_take_token(proxy, p->account)) {
        kb_proxy_refuse_excess(s, 429);
        return GO_ON;
    }
    if (p->account->counters.in_progress > proxy->limits.concurrent) {
        kb_proxy_refuse_excess(s, 503);
        return GO_ON;
    }
    s->server = kb_proxy_open_upstream(s, p);
    if (!s->server) {
        kb_proxy_hand_over(s);
        return OVER;
    }
    proxy->text.length = 0;
    if (proxy->is_client)
        kb_client_request(&proxy->text, &head, s->peer, "http");
    else
        kb_service_request(&proxy->text, &head);
    if (proxy->text.failed) {
        kb_proxy_session_end(s, 1);
        return OVER;
    }
    kb_proxy_conn_write(s->server, proxy->text.data, proxy->text.length);
    s->state = AWAITING_ANSWER;
    s->deadline = now + (s->fresh ? proxy->limits.connect : proxy->limits.answer);
    return GO_ON;
}
