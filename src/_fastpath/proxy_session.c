/* One client and the exchange that it is in: request, place, answer, body. */
#include "proxy_inside.h"

/* -- sessions ----------------------------------------------------------------------------------------------------------------------- */

void web_come_again(kb_proxy *proxy)
{
    uint64_t at = proxy->plane->now + 1000000;
    if (at < proxy->plane->proxies_at)
        proxy->plane->proxies_at = at;
}

session *web_session_new(kb_proxy *proxy, side *client)
{
    session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->proxy = proxy;
    s->client = client;
    client->session = s;
    s->deadline = proxy->plane->now + proxy->limits.idle;
    s->next = proxy->sessions;
    if (s->next)
        s->next->previous = s;
    proxy->sessions = s;
    proxy->counters.connections++;
    web_come_again(proxy);
    return s;
}

static void session_free(session *s)
{
    web_charge(s, NULL);
    if (s->previous)
        s->previous->next = s->next;
    else
        s->proxy->sessions = s->next;
    if (s->next)
        s->next->previous = s->previous;
    s->proxy->counters.connections--;
    free(s);
}

void web_unpark(session *s)
{
    if (s->wanted)
        s->wanted->users--;
    s->wanted = NULL;
}

void web_session_end(session *s, int hard)
{
    web_unpark(s);
    web_give_back(s, 0);
    web_side_close(s->client, hard);
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
void web_hand_over(session *s)
{
    kb_proxy *proxy = s->proxy;
    side *client = s->client;
    web_unpark(s);
    web_give_back(s, 0);
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
    int fd = h ? dup(client->watch.fd) : -1; /* ours leaves epoll and is closed with the side */
    uint8_t *data = malloc(length ? length : 1);
    if (fd < 0 || !data) {
        free(h);
        free(data);
        if (fd >= 0)
            close(fd);
        web_session_end(s, 1);
        return;
    }
    if (length)
        memcpy(data, client->in.data + client->in_at, length);
    watch_remove(proxy->plane, &client->watch);
    *h = (handover){NULL, fd, data, length};
    if (proxy->waiting)
        proxy->waiting_last->next = h;
    else
        proxy->waiting = h;
    proxy->waiting_last = h;
    proxy->waiting_count++;
    poke(proxy);
    web_side_close(client, 0); /* the duplicate keeps the connection open */
    session_free(s);
}

static void count(session *s, int status)
{
    s->place->account->counters.status[status / 100 % 6]++;
    s->proxy->counters.requests++;
}

/* An answer of ours; as error_response in forward.py. Afterwards the connection ends. */
void web_refuse(session *s, int status, const char *why)
{
    kb_text body = {0}, *head = &s->proxy->text;
    char where[KB_PROXY_NAME], *slash;
    snprintf(where, sizeof where, "%s", s->place->name);
    kb_add_string(&body, "{\"error\": \"");
    kb_add_string(&body, why);
    if (s->proxy->front && (slash = strchr(where, '/'))) {
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
    web_put(s->client, head->data, head->length);
    if (!s->head_only)
        web_put(s->client, body.data, body.length);
    web_text_free(&body);
    count(s, status);
    s->place->account->counters.refused++;
    web_give_back(s, 0);
    web_consume(s->client, s->head);
    s->state = CLOSING;
    s->deadline = s->proxy->plane->now + s->proxy->limits.head;
}

static void too_much(session *s, int status)
{
    const kb_proxy_limits *limits = &s->proxy->limits;
    char why[256];
    int length = snprintf(why, sizeof why, "%s %s has ", s->proxy->front ? "tenant" : "web service", s->place->account->counters.name);
    if (status == 429)
        snprintf(why + length, sizeof why - (size_t)length, "sent more than %g requests a second; try again later", limits->rate);
    else
        snprintf(why + length, sizeof why - (size_t)length, "%u requests in progress already; try again later", limits->concurrent);
    web_refuse(s, status, why);
}

enum { WAIT, GO_ON, OVER }; /* what a step says; OVER: the session is no more */

/* So much of a head: can it become a request that is for us? What cannot is not waited for. */
static int may_be_plain(const uint8_t *data, size_t length)
{
    return !memcmp(data, "GET ", length < 4 ? length : 4) || !memcmp(data, "HEAD ", length < 5 ? length : 5);
}

/* The request waits where it is until somebody says where its place is. */
static int park(session *s, place *p)
{
    kb_proxy *proxy = s->proxy;
    question *q = p && !p->asked ? calloc(1, sizeof *q) : NULL;
    if (!p || (!q && !p->asked)) {
        web_hand_over(s);
        return OVER;
    }
    if (q) {
        memcpy(q->name, p->name, sizeof q->name);
        if (proxy->questions)
            proxy->questions_last->next = q;
        else
            proxy->questions = q;
        proxy->questions_last = q;
        p->asked = 1;
        poke(proxy);
    }
    s->wanted = p;
    p->users++;
    s->state = PARKED;
    s->begun = 0;
    s->deadline = proxy->plane->now + PATIENCE;
    return WAIT;
}

static int wait_for_place(session *s)
{
    size_t more;
    web_view(s->client, &more, KB_HEAD_BYTES);
    if (!web_gone(s->client))
        return WAIT;
    web_session_end(s, 1);
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
    side *client = s->client;
    uint64_t now = proxy->plane->now;
    kb_http_head head;
    kb_slice labels[3], rest_of;
    size_t length;
    if (!web_flushed(client) || !web_room_of(s)) /* who does not read is not answered again */
        return WAIT;
    const uint8_t *data = web_view(client, &length, KB_HEAD_BYTES);
    if (!length) {
        if (web_ended(client) || web_side_broken(client)) {
            web_session_end(s, web_side_broken(client));
            return OVER;
        }
        web_rest(client);
        return WAIT;
    }
    int size = kb_parse_request(data, length, &head);
    if (size == 0 && client->conn && kb_conn_waiting(client->conn) > length) { /* a head that came in two segments */
        data = kb_conn_pullup(client->conn, KB_HEAD_BYTES, &length);
        size = data ? kb_parse_request(data, length, &head) : -1;
    }
    if (size == 0 && !web_ended(client) && may_be_plain(data, length)) {
        if (!s->begun) {
            s->begun = 1;
            s->deadline = now + proxy->limits.head;
        }
        return WAIT;
    }
    if (size <= 0 || !kb_plain_request(&head) || kb_split_target(head.target, proxy->front ? 3 : 1, labels, &rest_of) < 0
        || (!proxy->front && (!rest_of.length || rest_of.at[0] != '/'))) { /* to be redirected to the slash */
        web_hand_over(s);
        return OVER;
    }
    char name[KB_PROXY_NAME];
    if (proxy->front)
        snprintf(name, sizeof name, "%.*s/%.*s", (int)labels[0].length, labels[0].at, (int)labels[1].length, labels[1].at);
    else
        snprintf(name, sizeof name, "%.*s", (int)labels[0].length, labels[0].at);
    place *p = web_place_find(proxy, name);
    if (!p || p->until <= now)
        return park(s, p ? p : web_place_new(proxy, name));
    s->place = p;
    p->users++;
    p->account->counters.in_progress++;
    web_charge(s, p->account);
    s->interim = 0;
    s->head = (uint32_t)size;
    s->head_only = head.method.length == 4;
    s->close = head.close;
    s->begun = 0;
    s->prefix = (uint32_t)(head.target.at - data);
    s->prefix_length = proxy->front ? (uint32_t)(rest_of.at - head.target.at) : 0;
    s->directory_length = proxy->front ? directory_of(head.target, s->prefix_length) : 0;
    s->host = s->host_length = 0;
    for (uint32_t i = 0; i < head.count; i++)
        if (head.fields[i].what == KB_F_HOST) {
            s->host = (uint32_t)(head.fields[i].value.at - data);
            s->host_length = head.fields[i].value.length;
        }
    if (!web_may_ask(proxy, p->account)) {
        too_much(s, 429);
        return GO_ON;
    }
    if (p->account->counters.in_progress > proxy->limits.concurrent) {
        too_much(s, 503);
        return GO_ON;
    }
    s->server = web_open_place(s, p);
    if (!s->server) {
        web_hand_over(s);
        return OVER;
    }
    proxy->text.length = 0;
    if (proxy->front)
        kb_client_request(&proxy->text, &head, s->peer, "http");
    else
        kb_service_request(&proxy->text, &head);
    if (proxy->text.failed) {
        web_session_end(s, 1);
        return OVER;
    }
    web_put(s->server, proxy->text.data, proxy->text.length);
    s->state = ASKED;
    s->deadline = now + (s->fresh ? proxy->limits.connect : proxy->limits.answer);
    return GO_ON;
}

/* The other side failed before it answered: once more, by Python, which says what is wrong if it fails again. */
static int repeat(session *s)
{
    s->proxy->counters.repeated++;
    web_hand_over(s);
    return OVER;
}

static int read_answer(session *s)
{
    kb_proxy *proxy = s->proxy;
    side *client = s->client, *server = s->server;
    kb_http_head head;
    size_t length;
    if (web_side_broken(server)) /* first: it is here that a connection is seen to be up */
        return repeat(s);
    if (s->fresh && web_side_up(server)) {
        s->fresh = 0;
        s->deadline = proxy->plane->now + proxy->limits.answer;
    }
    web_flush(server);
    const uint8_t *data = web_view(server, &length, KB_HEAD_BYTES);
    int size = length ? kb_parse_response(data, length, &head) : 0;
    if (size == 0 && server->conn && kb_conn_waiting(server->conn) > length) {
        data = kb_conn_pullup(server->conn, KB_HEAD_BYTES, &length);
        size = data ? kb_parse_response(data, length, &head) : -1;
    }
    if (size < 0 || (size == 0 && web_gone(server)))
        return repeat(s);
    size_t asked;
    const uint8_t *request = web_view(client, &asked, KB_HEAD_BYTES);
    if (web_gone(client)) {
        web_session_end(s, 1); /* nobody waits any more */
        return OVER;
    }
    if (size == 0 || !web_room_of(s))
        return WAIT;
    kb_text *text = &proxy->text;
    kb_slice prefix = {0}, host = {request + s->host, s->host_length};
    text->length = 0;
    if (proxy->front)
        prefix = (kb_slice){request + s->prefix, s->prefix_length};
    head.directory = (kb_slice){request + s->prefix, s->directory_length};
    if (head.status < 200) {
        if (head.status == 101 || s->interim >= proxy->limits.interim_most)
            return repeat(s);
        if (s->interim++ < proxy->limits.interim && head.status != 100) { /* nobody has asked for a 100 here */
            kb_answer(text, &head, prefix, host, 0, 0);
            web_put(client, text->data, text->length);
        }
        web_consume(server, (size_t)size);
        return web_in_turn(s, (size_t)size) ? GO_ON : WAIT;
    }
    s->framing = s->head_only || head.status == 204 || head.status == 304 ? EMPTY : head.chunked ? CHUNKED : head.body >= 0 ? SIZED : UNTIL_END;
    s->framed = s->framing == CHUNKED || s->framing == UNTIL_END;
    s->left = head.body > 0 ? (uint64_t)head.body : 0;
    s->keep = head.minor == 1 && !head.close && s->framing != UNTIL_END;
    memset(&s->chunks, 0, sizeof s->chunks);
    kb_answer(text, &head, prefix, host, s->framed, s->close);
    if (text->failed) {
        web_session_end(s, 1);
        return OVER;
    }
    web_put(client, text->data, text->length);
    web_consume(server, (size_t)size);
    web_consume(client, s->head);
    count(s, head.status);
    s->state = BODY;
    s->deadline = proxy->plane->now + proxy->limits.stall;
    return GO_ON;
}

static void put_chunk(side *x, const uint8_t *data, size_t length)
{
    char size[24];
    int digits = snprintf(size, sizeof size, "%zx\r\n", length);
    web_put(x, (const uint8_t *)size, (size_t)digits);
    web_put(x, data, length);
    web_put(x, (const uint8_t *)"\r\n", 2);
}

static int answered(session *s, int keep)
{
    if (s->framed)
        web_put(s->client, (const uint8_t *)"0\r\n\r\n", 5);
    web_give_back(s, keep);
    s->state = s->close ? CLOSING : READING;
    s->deadline = s->proxy->plane->now + s->proxy->limits.idle;
    return GO_ON;
}

/* What is there of the body goes on, as far as the client takes it. */
static int relay(session *s)
{
    side *client = s->client, *server = s->server;
    account *a = s->place->account;
    if (s->framing == EMPTY || (s->framing == SIZED && !s->left))
        return answered(s, s->keep);
    size_t more;
    web_view(client, &more, KB_HEAD_BYTES);
    if (web_gone(client)) {
        web_session_end(s, 1);
        return OVER;
    }
    for (;;) {
        size_t length, skip = 0, body, free_bytes = web_room_of(s);
        if (!free_bytes)
            break;
        const uint8_t *data = web_view(server, &length, web_kept_short(s) ? KB_PROXY_LEAST / 2 : MOST_IN);
        if (!length) {
            if (!web_ended(server) && !web_side_broken(server)) {
                if (web_flushed(client))
                    s->deadline = UINT64_MAX; /* a stream may be silent for long */
                break;
            }
            if (s->framing == UNTIL_END && !web_side_broken(server))
                return answered(s, 0);
            web_session_end(s, 1); /* a part must not be taken for the whole */
            return OVER;
        }
        int over = 0;
        if (s->framing == CHUNKED) {
            over = kb_chunks_next(&s->chunks, data, length, &skip, &body);
            if (over < 0) {
                web_session_end(s, 1);
                return OVER;
            }
        } else {
            body = s->framing == SIZED && s->left < length ? (size_t)s->left : length;
        }
        if (body) {
            if (s->framed)
                put_chunk(client, data + skip, body);
            else
                web_put(client, data + skip, body);
            a->counters.bytes += body;
        }
        web_consume(server, skip + body);
        s->deadline = s->proxy->plane->now + s->proxy->limits.stall;
        if (s->framing == SIZED) {
            s->left -= body;
            over = !s->left;
        }
        if (over)
            return answered(s, s->keep);
        if (!web_in_turn(s, skip + body))
            break;
    }
    if (web_kept_short(s)) {
        web_rest(client);
        web_rest(server);
    }
    return WAIT;
}

static int close_slowly(session *s)
{
    if (!web_flushed(s->client) && !web_side_broken(s->client))
        return WAIT;
    web_session_end(s, 0);
    return OVER;
}

void web_drive(session *s)
{
    static int (*const steps[])(session *) = {read_request, read_answer, relay, close_slowly, wait_for_place};
    int said;
    s->turn = KB_PROXY_TURN;
    s->again_at = 0;
    web_flush(s->client);
    do {
        said = steps[s->state](s);
        if (said == OVER)
            return;
        if (s->state == READING || s->state == CLOSING || said == WAIT)
            web_flush(s->client);
    } while (said == GO_ON);
    if (s->server)
        web_flush(s->server);
    web_weigh(s);
    if (web_side_broken(s->client))
        web_session_end(s, 1);
}
