/* One client and the exchange that it is in: request, upstream, answer, body. */
#include "http/internal.h"

/* -- sessions ----------------------------------------------------------------------------------------------------------------------- */

void kb_proxy_schedule(kb_proxy *proxy)
{
    uint64_t at = kb_plane_now(proxy->plane) + 1000000;
    if (at < proxy->group->handler.deadline)
        proxy->group->handler.deadline = at;
}

session *kb_proxy_session_new(kb_proxy *proxy, proxy_conn *client)
{
    session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->proxy = proxy;
    s->client = client;
    client->session = s;
    s->deadline = kb_plane_now(proxy->plane) + proxy->limits.idle;
    s->next = proxy->sessions;
    if (s->next)
        s->next->previous = s;
    proxy->sessions = s;
    proxy->counters.connections++;
    kb_proxy_schedule(proxy);
    return s;
}

static void session_free(session *s)
{
    kb_proxy_charge(s, NULL);
    if (s->previous)
        s->previous->next = s->next;
    else
        s->proxy->sessions = s->next;
    if (s->next)
        s->next->previous = s->previous;
    s->proxy->counters.connections--;
    free(s);
}

void kb_proxy_session_resume(session *s)
{
    if (s->wanted)
        s->wanted->users--;
    s->wanted = NULL;
}

void kb_proxy_session_end(session *s, int hard)
{
    kb_proxy_session_resume(s);
    kb_proxy_release_upstream(s, 0);
    kb_proxy_conn_close(s->client, hard);
    session_free(s);
}

static void poke(kb_proxy *proxy)
{
    uint64_t one = 1;
    if (write(proxy->notify, &one, sizeof one) < 0) {
        /* it is set already */
    }
}

/* Python goes on with this connection, from the request at hand. */
void kb_proxy_hand_over(session *s)
{
    kb_proxy *proxy = s->proxy;
    proxy_conn *client = s->client;
    kb_proxy_session_resume(s);
    kb_proxy_release_upstream(s, 0);
    proxy->counters.handed_over++;
    if (client->conn) {
        kb_conn *conn = client->conn;
        client->conn = NULL;
        client->closed = 1;
        free(client);
        session_free(s);
        proxy->fallback(proxy->fallback_context, conn);
        return;
    }
    handover *h = calloc(1, sizeof *h);
    size_t length = client->in.length - client->in_at;
    int fd = h ? dup(client->watch.fd) : -1; /* ours leaves epoll and is closed with the proxy_conn */
    uint8_t *data = malloc(length ? length : 1);
    if (fd < 0 || !data) {
        free(h);
        free(data);
        if (fd >= 0)
            close(fd);
        kb_proxy_session_end(s, 1);
        return;
    }
    if (length)
        memcpy(data, client->in.data + client->in_at, length);
    kb_watch_remove(proxy->plane, &client->watch);
    *h = (handover){NULL, fd, data, length};
    if (proxy->waiting)
        proxy->waiting_last->next = h;
    else
        proxy->waiting = h;
    proxy->waiting_last = h;
    proxy->waiting_count++;
    poke(proxy);
    kb_proxy_conn_close(client, 0); /* the duplicate keeps the connection open */
    session_free(s);
}

static void count(session *s, int status)
{
    s->upstream->account->counters.status[status / 100 % 6]++;
    s->proxy->counters.requests++;
}

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
    count(s, status);
    s->upstream->account->counters.refused++;
    kb_proxy_release_upstream(s, 0);
    kb_proxy_conn_consume(s->client, s->head);
    s->state = CLOSING;
    s->deadline = kb_plane_now(s->proxy->plane) + s->proxy->limits.head;
}

static void too_much(session *s, int status)
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

enum { WAIT, GO_ON, OVER }; /* what a step says; OVER: the session is no more */

/* So much of a head: can it become a request that is for us? What cannot is not waited for. */
static int may_be_plain(const uint8_t *data, size_t length)
{
    return !memcmp(data, "GET ", length < 4 ? length : 4) || !memcmp(data, "HEAD ", length < 5 ? length : 5);
}

/* The request waits where it is until its upstream is known. */
static int park(session *s, upstream *p)
{
    kb_proxy *proxy = s->proxy;
    lookup *q = p && !p->asked ? calloc(1, sizeof *q) : NULL;
    if (!p || (!q && !p->asked)) {
        kb_proxy_hand_over(s);
        return OVER;
    }
    if (q) {
        memcpy(q->name, p->name, sizeof q->name);
        if (proxy->lookups)
            proxy->lookups_last->next = q;
        else
            proxy->lookups = q;
        proxy->lookups_last = q;
        p->asked = 1;
        poke(proxy);
    }
    s->wanted = p;
    p->users++;
    s->state = LOOKING_UP;
    s->begun = 0;
    s->deadline = kb_plane_now(proxy->plane) + LOOKUP_TIMEOUT;
    return WAIT;
}

static int wait_for_upstream(session *s)
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

static int read_request(session *s)
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
    if (size <= 0 || !kb_plain_request(&head) || kb_split_target(head.target, proxy->is_client ? 3 : 1, labels, &rest_of) < 0 ||
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
        too_much(s, 429);
        return GO_ON;
    }
    if (p->account->counters.in_progress > proxy->limits.concurrent) {
        too_much(s, 503);
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

/* The other side failed before it answered: once more, by Python, which says what is wrong if it fails again. */
static int repeat(session *s)
{
    s->proxy->counters.repeated++;
    kb_proxy_hand_over(s);
    return OVER;
}

static int read_answer(session *s)
{
    kb_proxy *proxy = s->proxy;
    proxy_conn *client = s->client, *server = s->server;
    kb_http_head head;
    size_t length;
    if (kb_proxy_conn_is_broken(server)) /* first: it is here that a connection is seen to be up */
        return repeat(s);
    if (s->fresh && kb_proxy_conn_is_up(server)) {
        s->fresh = 0;
        s->deadline = kb_plane_now(proxy->plane) + proxy->limits.answer;
    }
    kb_proxy_conn_flush(server);
    const uint8_t *data = kb_proxy_conn_peek(server, &length, KB_HEAD_BYTES);
    int size = length ? kb_parse_response(data, length, &head) : 0;
    if (size == 0 && server->conn && kb_conn_waiting(server->conn) > length) {
        data = kb_conn_pullup(server->conn, KB_HEAD_BYTES, &length);
        size = data ? kb_parse_response(data, length, &head) : -1;
    }
    if (size < 0 || (size == 0 && kb_proxy_conn_is_gone(server)))
        return repeat(s);
    size_t asked;
    const uint8_t *request = kb_proxy_conn_peek(client, &asked, KB_HEAD_BYTES);
    if (kb_proxy_conn_is_gone(client)) {
        kb_proxy_session_end(s, 1); /* nobody waits any more */
        return OVER;
    }
    if (size == 0 || !kb_proxy_room_of(s))
        return WAIT;
    kb_text *text = &proxy->text;
    kb_slice prefix = {0}, host = {request + s->host, s->host_length};
    text->length = 0;
    if (proxy->is_client)
        prefix = (kb_slice){request + s->prefix, s->prefix_length};
    head.directory = (kb_slice){request + s->prefix, s->directory_length};
    if (head.status < 200) {
        if (head.status == 101 || s->interim >= proxy->limits.interim_most)
            return repeat(s);
        if (s->interim++ < proxy->limits.interim && head.status != 100) { /* nobody has asked for a 100 here */
            kb_answer(text, &head, prefix, host, 0, 0);
            kb_proxy_conn_write(client, text->data, text->length);
        }
        kb_proxy_conn_consume(server, (size_t)size);
        return kb_proxy_in_turn(s, (size_t)size) ? GO_ON : WAIT;
    }
    s->framing = s->head_only || head.status == 204 || head.status == 304 ? EMPTY : head.chunked ? CHUNKED : head.body >= 0 ? SIZED : UNTIL_END;
    s->framed = s->framing == CHUNKED || s->framing == UNTIL_END;
    s->left = head.body > 0 ? (uint64_t)head.body : 0;
    s->keep = head.minor == 1 && !head.close && s->framing != UNTIL_END;
    memset(&s->chunks, 0, sizeof s->chunks);
    kb_answer(text, &head, prefix, host, s->framed, s->close);
    if (text->failed) {
        kb_proxy_session_end(s, 1);
        return OVER;
    }
    kb_proxy_conn_write(client, text->data, text->length);
    kb_proxy_conn_consume(server, (size_t)size);
    kb_proxy_conn_consume(client, s->head);
    count(s, head.status);
    s->state = BODY;
    s->deadline = kb_plane_now(proxy->plane) + proxy->limits.stall;
    return GO_ON;
}

static void put_chunk(proxy_conn *x, const uint8_t *data, size_t length)
{
    char size[24];
    int digits = snprintf(size, sizeof size, "%zx\r\n", length);
    kb_proxy_conn_write(x, (const uint8_t *)size, (size_t)digits);
    kb_proxy_conn_write(x, data, length);
    kb_proxy_conn_write(x, (const uint8_t *)"\r\n", 2);
}

static int answered(session *s, int keep)
{
    if (s->framed)
        kb_proxy_conn_write(s->client, (const uint8_t *)"0\r\n\r\n", 5);
    kb_proxy_release_upstream(s, keep);
    s->state = s->close ? CLOSING : READING;
    s->deadline = kb_plane_now(s->proxy->plane) + s->proxy->limits.idle;
    return GO_ON;
}

/* What is there of the body goes on, as far as the client takes it. */
static int relay(session *s)
{
    proxy_conn *client = s->client, *server = s->server;
    account *a = s->upstream->account;
    if (s->framing == EMPTY || (s->framing == SIZED && !s->left))
        return answered(s, s->keep);
    size_t more;
    kb_proxy_conn_peek(client, &more, KB_HEAD_BYTES);
    if (kb_proxy_conn_is_gone(client)) {
        kb_proxy_session_end(s, 1);
        return OVER;
    }
    for (;;) {
        size_t length, skip = 0, body, free_bytes = kb_proxy_room_of(s);
        if (!free_bytes)
            break;
        const uint8_t *data = kb_proxy_conn_peek(server, &length, kb_proxy_kept_short(s) ? KB_PROXY_LEAST / 2 : MAX_IN);
        if (!length) {
            if (!kb_proxy_conn_at_eof(server) && !kb_proxy_conn_is_broken(server)) {
                if (kb_proxy_conn_flushed(client))
                    s->deadline = UINT64_MAX; /* a stream may be silent for long */
                break;
            }
            if (s->framing == UNTIL_END && !kb_proxy_conn_is_broken(server))
                return answered(s, 0);
            kb_proxy_session_end(s, 1); /* a part must not be taken for the whole */
            return OVER;
        }
        if (client->conn && length > free_bytes) /* L4 would not take the rest, and the answer would be lost */
            length = free_bytes;
        int over = 0;
        if (s->framing == CHUNKED) {
            over = kb_chunks_next(&s->chunks, data, length, &skip, &body);
            if (over < 0) {
                kb_proxy_session_end(s, 1);
                return OVER;
            }
        } else {
            body = s->framing == SIZED && s->left < length ? (size_t)s->left : length;
        }
        if (body) {
            if (s->framed)
                put_chunk(client, data + skip, body);
            else
                kb_proxy_conn_write(client, data + skip, body);
            a->counters.bytes += body;
        }
        kb_proxy_conn_consume(server, skip + body);
        s->deadline = kb_plane_now(s->proxy->plane) + s->proxy->limits.stall;
        if (s->framing == SIZED) {
            s->left -= body;
            over = !s->left;
        }
        if (over)
            return answered(s, s->keep);
        if (!kb_proxy_in_turn(s, skip + body))
            break;
    }
    if (kb_proxy_kept_short(s)) {
        kb_proxy_conn_make_idle(client);
        kb_proxy_conn_make_idle(server);
    }
    return WAIT;
}

static int close_slowly(session *s)
{
    if (!kb_proxy_conn_flushed(s->client) && !kb_proxy_conn_is_broken(s->client))
        return WAIT;
    kb_proxy_session_end(s, 0);
    return OVER;
}

void kb_proxy_drive(session *s)
{
    static int (*const steps[])(session *) = {read_request, read_answer, relay, close_slowly, wait_for_upstream};
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
