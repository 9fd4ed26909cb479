/* Who may hold how much. A tenant may hold what is free in the endpoint, a node what is free of its tenant's (dynamic thresholds: Choudhury
 * and Hahne, 1998): one alone gets a third, several share evenly, and something is always free for who comes next. Below its reserve a tenant
 * is never refused, whatever others hold. Within a node the connections that hold most wait first. */
#include "l4/internal.h"

#include <stdlib.h>

#define RESERVE 64                /* of the budget: one part of so many is each tenant's in any case */
#define CONNECTIONS_RESERVE 1024u
#define OPENING_RESERVE 64u
#define LEAST_SHARE 4096u         /* bytes that a connection may always have on their way: without them two full buffers wait for each other */

static uint64_t most64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t rest(uint64_t limit, uint64_t used) { return limit > used ? limit - used : 0; }

/* What one node may have, of `budget` of which all hold `used`, and its tenant `of_tenant`. */
static uint64_t allowed(uint64_t budget, uint64_t used, uint64_t reserve, uint64_t of_tenant) { return rest(most64(rest(budget, used), reserve), of_tenant); }

static uint64_t bytes_allowed(const kb_l4 *l4, const peer *who) { return allowed(l4->budget, l4->counters.bytes, l4->budget / RESERVE, who->of->bytes); }

/* -- tenants and nodes -------------------------------------------------------------------------------------------------------------- */

static account **account_at(kb_l4 *l4, uint32_t tenant)
{
    account **at = &l4->accounts[kb_l4_mix(tenant, 0) % ACCOUNTS];
    while (*at && (*at)->tenant != tenant)
        at = &(*at)->chain;
    return at;
}

static peer **peer_at(kb_l4 *l4, uint32_t tenant, uint32_t number)
{
    peer **at = &l4->peers[kb_l4_mix(tenant, number) % (HASH / 4)];
    while (*at && ((*at)->of->tenant != tenant || (*at)->number != number))
        at = &(*at)->chain;
    return at;
}

static account *account_of(kb_l4 *l4, uint32_t tenant)
{
    account **at = account_at(l4, tenant);
    if (!*at && (*at = calloc(1, sizeof **at)))
        (*at)->tenant = tenant;
    return *at;
}

static void account_forget(kb_l4 *l4, account *of)
{
    if (of->peers)
        return;
    *account_at(l4, of->tenant) = of->chain;
    free(of);
}

/* Peers in the chain of one that are needed no more: their time has come since they were looked at last. */
static void sweep(kb_l4 *l4, peer *chain)
{
    for (peer *next; chain; chain = next) {
        next = chain->chain;
        kb_l4_peer_forget(l4, chain);
    }
}

peer *kb_l4_peer_of(kb_l4 *l4, uint32_t tenant, uint32_t number)
{
    peer **at = peer_at(l4, tenant, number);
    if (*at)
        return *at;
    sweep(l4, l4->peers[kb_l4_mix(tenant, number) % (HASH / 4)]);
    at = peer_at(l4, tenant, number);
    account *of = account_of(l4, tenant);
    if (!of)
        return NULL;
    peer *p = calloc(1, sizeof *p);
    if (!p) {
        account_forget(l4, of);
        return NULL;
    }
    p->of = of;
    p->number = number;
    of->peers++;
    *at = p;
    return p;
}

/* One that is ahead of its pace is remembered without connections: who opens and ends many is not new with each. */
static int is_needed(const kb_l4 *l4, const peer *p) { return p->connections || p->paced_until > l4->now || p->of->paced_until > l4->now; }

void kb_l4_peer_forget(kb_l4 *l4, peer *p)
{
    if (is_needed(l4, p))
        return;
    *peer_at(l4, p->of->tenant, p->number) = p->chain;
    p->of->peers--;
    account_forget(l4, p->of);
    free(p);
}

void kb_l4_peers_free(kb_l4 *l4)
{
    l4->now = KB_L4_NEVER; /* nobody's pace counts any more */
    for (uint32_t i = 0; i < HASH / 4; i++)
        sweep(l4, l4->peers[i]);
}

void kb_l4_count(kb_conn *c, int by)
{
    c->who->connections += (uint32_t)by;
    c->who->of->connections += (uint32_t)by;
}

void kb_l4_count_opening(kb_conn *c, int by)
{
    c->l4->opening += (uint32_t)by;
    c->who->opening += (uint32_t)by;
    c->who->of->opening += (uint32_t)by;
}

void kb_l4_charge(kb_conn *c, size_t bytes)
{
    c->l4->counters.bytes += bytes;
    c->who->bytes += bytes;
    c->who->of->bytes += bytes;
}

void kb_l4_discharge(kb_conn *c, size_t bytes)
{
    c->l4->counters.bytes -= bytes;
    c->who->bytes -= bytes;
    c->who->of->bytes -= bytes;
}

/* -- pace --------------------------------------------------------------------------------------------------------------------------- */

/* Where one more would be (the generic cell rate algorithm of ITU-T I.371); KB_L4_NEVER: too soon. */
static uint64_t paced(uint64_t until, uint64_t now, uint32_t rate)
{
    if (!rate)
        return until;
    if (until > now + KB_L4_PACE_BURST)
        return KB_L4_NEVER;
    return most64(until, now) + 1000000u / rate;
}

int kb_conn_in_pace(kb_conn *c, uint32_t of_node, uint32_t of_tenant)
{
    uint64_t now = c->l4->now;
    uint64_t node = paced(c->who->paced_until, now, of_node), tenant = paced(c->who->of->paced_until, now, of_tenant);
    if (node == KB_L4_NEVER || tenant == KB_L4_NEVER) {
        c->l4->counters.refused++;
        return 0;
    }
    c->who->paced_until = node;
    c->who->of->paced_until = tenant;
    return 1;
}

/* -- what is allowed ---------------------------------------------------------------------------------------------------------------- */

int kb_l4_may_connect(kb_l4 *l4, const peer *who)
{
    uint64_t most_connections = allowed(KB_L4_CONNECTIONS, l4->counters.connections + l4->ended_count, CONNECTIONS_RESERVE, who->of->connections);
    return who->connections < KB_L4_PER_PEER && who->connections < most_connections && who->bytes <= 2 * bytes_allowed(l4, who);
}

int kb_l4_may_open(kb_l4 *l4, const peer *who)
{
    uint64_t most_opening = allowed(KB_L4_OPENING, l4->opening, OPENING_RESERVE, who->of->opening);
    return who->opening < KB_L4_OPENING_PEER && who->opening < most_opening;
}

/* The most that a connection may promise its peer: a reader that is behind holds little of a node that holds much. */
uint32_t kb_l4_window_limit(const kb_conn *c)
{
    uint64_t used = c->who->bytes, all = bytes_allowed(c->l4, c->who);
    if (used > 2 * all)
        return 0;
    return used > all / 4 ? least(c->limit, TIGHT_WINDOW) : c->limit;
}

/* May what has arrived be kept? */
int kb_l4_may_keep(const kb_conn *c, size_t length)
{
    uint64_t used = c->who->bytes + length, all = bytes_allowed(c->l4, c->who);
    return used <= all || (used <= 2 * all && c->receiving + length <= TIGHT_WINDOW);
}

/* And what has arrived beyond a hole? The other half is for what fills holes: only that can be read, and so be freed. */
int kb_l4_may_keep_beyond(const kb_conn *c, size_t length) { return c->who->bytes + length <= bytes_allowed(c->l4, c->who) / 2; }

/* Of a node that holds much each connection has an equal share. */
static uint64_t share_of(const kb_conn *c, uint64_t all) { return most64(LEAST_SHARE, all / c->who->connections); }

/* Bytes that a writer may leave. */
size_t kb_l4_room(const kb_conn *c)
{
    size_t room = c->unsent_bytes < KB_L4_SEND_BUFFER ? KB_L4_SEND_BUFFER - c->unsent_bytes : 0;
    uint64_t all = bytes_allowed(c->l4, c->who);
    if (c->who->bytes <= all / 2)
        return room;
    uint64_t share = rest(share_of(c, all), c->sending);
    return share < room ? (size_t)share : room;
}

/* A writer that does not ask for room is stopped as well. One that did is not stopped below it, whatever others hold by now: half a piece would
 * be the end of its stream. The buffers are a little larger than what is in them, and a frame may be around it. */
int kb_l4_may_write(const kb_conn *c)
{
    uint64_t all = bytes_allowed(c->l4, c->who);
    return c->sending <= share_of(c, all) + LEAST_SHARE || c->who->bytes <= 2 * all;
}
