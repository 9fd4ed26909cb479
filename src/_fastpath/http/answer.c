/* The second half of an exchange: the head of the answer, then its body. */
#include "http/internal.h"

/* The other side failed before it answered: once more, by Python, which says what is wrong if it fails again. */
static int repeat(session *s)
{
    s->proxy->counters.repeated++;
    kb_proxy_hand_over(s);
    return OVER;
}

int kb_proxy_read_answer(session *s)
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
        kb_proxy_session_end(s, 1); /* the client does not wait any more */
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
        if (s->interim++ < proxy->limits.interim && head.status != 100) { /* the client did not ask for a 100 here */
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
    kb_proxy_count_answer(s, head.status);
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
int kb_proxy_relay_body(session *s)
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
