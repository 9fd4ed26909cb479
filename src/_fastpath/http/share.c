/* What an exchange may hold, and how much of it moves at once; the limits are in proxy.h. */
#include "http/internal.h"

/* Connections that Python has not taken yet count, too. */
uint32_t kb_proxy_full(const kb_proxy *proxy) { return proxy->counters.connections + proxy->waiting_count >= proxy->limits.connections; }

static uint64_t *held_total(session *s) { return s->proxy->is_client ? &s->account->counters.held : &s->proxy->counters.held; }

/* `a`: which account is charged from here on; NULL: none. */
void kb_proxy_charge(session *s, account *a)
{
    if (s->account) {
        *held_total(s) -= s->held;
        s->account->users--;
    }
    s->held = 0;
    s->account = a;
    if (!a)
        return;
    a->users++;
    s->held = kb_proxy_held(s->client) + kb_proxy_held(s->server);
    *held_total(s) += s->held;
}

void kb_proxy_weigh(session *s) { kb_proxy_charge(s, s->account); }

int kb_proxy_kept_short(session *s) { return s->account && *held_total(s) > s->proxy->limits.memory; }

static void go_on_at(session *s, uint64_t at)
{
    s->again_at = at;
    if (at < s->proxy->group->handler.deadline)
        s->proxy->group->handler.deadline = at;
}

/* Bytes that may be written to the client now. After a 0 the session is driven again. */
size_t kb_proxy_room_of(session *s)
{
    size_t room = kb_proxy_conn_room(s->client), unsent = kb_proxy_unsent(s->client);
    if (!room || !kb_proxy_kept_short(s))
        return room;
    if (unsent < KB_PROXY_LEAST)
        return KB_PROXY_LEAST - unsent;
    if (s->client->conn) /* L4 tells of room for much more */
        go_on_at(s, kb_plane_now(s->proxy->plane) + SHORT);
    return 0;
}

/* So much has moved; 0: it is others' turn. */
int kb_proxy_in_turn(session *s, size_t moved)
{
    s->turn = moved < s->turn ? s->turn - moved : 0;
    if (!s->turn)
        go_on_at(s, kb_plane_now(s->proxy->plane));
    return s->turn > 0;
}
