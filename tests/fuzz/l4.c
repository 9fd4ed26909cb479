/* sources: l4/endpoint.c l4/budget.c l4/conn.c l4/loss.c l4/memory.c l4/receive.c l4/send.c
 *
 * Two endpoints and a wire that loses, doubles, reorders and delays what the input says; with bit 0 of the first byte it changes segments, too.
 * Unchanged, what arrives is what was sent, in order. Whatever comes, memory is bounded and both endpoints can be thrown away. */
#include "l4/l4.h"

#include <stdlib.h>
#include <string.h>

#define REQUIRE(what) \
    do {              \
        if (!(what))  \
            abort();  \
    } while (0)

#define FLYING 64
#define CONNS 8
#define BUDGET (1u << 20)

typedef struct {
    uint8_t *data;
    size_t length;
    int to;
} segment;

typedef struct {
    kb_conn *conn;
    uint32_t sent, got; /* bytes; byte n of a direction is n * 7 */
    int tied;           /* index of the other end; -1: not known */
} end;

static segment flying[FLYING];
static int flying_count;
static kb_l4 *ends[2];
static end conns[2][CONNS];
static uint64_t now;
static uint32_t seed;

static int send_segment(void *context, uint32_t tenant, uint32_t peer, const uint8_t *data, size_t length)
{
    (void)tenant;
    (void)context;
    REQUIRE(length >= KB_L4_HEADER && length <= KB_L4_HEAD + KB_L4_PAYLOAD && peer < 2);
    if (flying_count == FLYING)
        return -1;
    segment *s = &flying[flying_count++];
    s->data = malloc(length);
    memcpy(s->data, data, length);
    s->length = length;
    s->to = (int)peer;
    return 0;
}

static uint32_t next_random(void *context)
{
    (void)context;
    return seed = seed * 1664525u + 1013904223u;
}

static void ready(void *user, kb_conn *conn) { REQUIRE(((end *)user)->conn == conn); }

static void accept_conn(void *context, kb_conn *conn)
{
    int side = (int)(size_t)context;
    for (int i = 0; i < CONNS; i++)
        if (!conns[side][i].conn) {
            conns[side][i] = (end){conn, 0, 0, -1};
            kb_conn_own(conn, ready, &conns[side][i]);
            return;
        }
}

static void drop(end *e)
{
    kb_conn_release(e->conn);
    e->conn = NULL;
}

static void read_some(end *e, size_t most, int exact)
{
    while (most) {
        size_t length;
        const uint8_t *data = most & 1 ? kb_conn_peek(e->conn, &length) : kb_conn_pullup(e->conn, most, &length);
        if (!data)
            break;
        REQUIRE(length > 0 && length <= kb_conn_waiting(e->conn));
        size_t n = length < most ? length : most;
        for (size_t i = 0; i < n; i++, e->got++)
            REQUIRE(!exact || data[i] == (uint8_t)(e->got * 7));
        kb_conn_consume(e->conn, n);
        most -= n;
    }
}

static void deliver(int index, const uint8_t *noise, int exact)
{
    segment s = flying[index];
    if (!exact && noise[0] & 1 && s.length > noise[1] % 40u)
        s.data[noise[1] % 40u % s.length] ^= noise[2];
    if (!exact && noise[0] & 2)
        s.length -= noise[2] % s.length;
    kb_l4_receive(ends[s.to], 7, (uint32_t)!s.to, s.data, s.length, now);
}

static void forget(int index)
{
    free(flying[index].data);
    flying[index] = flying[--flying_count];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[70000];
    if (size < 1)
        return 0;
    int exact = !(data[0] & 1);
    data++, size--;
    now = 1000000;
    seed = 5;
    flying_count = 0;
    memset(conns, 0, sizeof conns);
    for (int side = 0; side < 2; side++) {
        kb_l4_below below = {(void *)(size_t)side, send_segment, next_random};
        ends[side] = kb_l4_new((uint32_t)side, &below, BUDGET);
        REQUIRE(!kb_l4_listen(ends[side], 7, 80, accept_conn, (void *)(size_t)side));
        REQUIRE(kb_l4_listen(ends[side], 7, 80, accept_conn, NULL) == -1);
    }
    for (; size >= 4; data += 4, size -= 4) {
        int side = data[0] >> 7, which = (data[0] >> 4) % CONNS;
        end *e = &conns[side][which];
        switch (data[0] & 15) {
        case 0:
            if (!e->conn && (e->conn = kb_l4_connect(ends[side], 7, (uint32_t)(data[1] & 1 ? side : !side), 80, now, ready, e)))
                e->sent = e->got = 0;
            break;
        case 1:
        case 2:
            if (e->conn) {
                size_t length = (size_t)data[1] * (data[2] & 1 ? 1 : 270);
                for (size_t i = 0; i < length; i++)
                    bytes[i] = (uint8_t)((e->sent + i) * 7);
                if (kb_conn_room(e->conn))
                    e->sent += (uint32_t)kb_conn_write(e->conn, bytes, length);
            }
            break;
        case 3:
            if (e->conn)
                read_some(e, (size_t)data[1] * 300 + data[2], exact);
            break;
        case 4:
            if (e->conn)
                kb_conn_finish(e->conn);
            break;
        case 5:
            if (e->conn)
                drop(e);
            break;
        case 6:
            if (e->conn) {
                kb_conn_close(e->conn, now);
                e->conn = NULL;
            }
            break;
        case 7:
            if (e->conn)
                kb_conn_keepalive(e->conn, data[1] * 100000u);
            break;
        case 8: /* lost */
            if (flying_count)
                forget(data[1] % flying_count);
            break;
        case 9: /* twice */
            if (flying_count)
                deliver(data[1] % flying_count, data, exact);
            break;
        case 10:
        case 11:
        case 12:
            for (int n = data[2] % 16; n >= 0 && flying_count; n--) {
                int index = data[1] & 1 ? 0 : data[1] % flying_count;
                deliver(index, data, exact);
                forget(index);
            }
            break;
        case 13:
            if (data[1] == 1)
                kb_l4_reset_peer(ends[side], 7, (uint32_t)!side);
            else if (!exact)
                kb_l4_receive(ends[side], 7, (uint32_t)!side, data, size, now);
            break;
        default:
            now += (uint64_t)data[1] * (data[2] & 1 ? 1000 : 200000) + 1;
        }
        for (int s = 0; s < 2; s++) {
            kb_l4_counters c;
            for (int turns = 0; turns < 20 && kb_l4_work(ends[s], now) <= now; turns++) {
            }
            kb_l4_get_counters(ends[s], &c);
            REQUIRE(c.bytes < 2 * BUDGET + CONNS * (KB_L4_SEND_BUFFER + 300000));
            for (int i = 0; i < CONNS; i++)
                if (conns[s][i].conn && kb_conn_state_of(conns[s][i].conn) == KB_RESET)
                    drop(&conns[s][i]);
        }
    }
    for (int s = 0; s < 2; s++)
        kb_l4_free(ends[s]);
    while (flying_count)
        forget(0);
    return 0;
}
