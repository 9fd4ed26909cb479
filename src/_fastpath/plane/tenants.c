/* Tenants and their nodes: what each may hold, and the ports through which a node is reached. */
#include "plane/internal.h"

#include <stdlib.h>
#include <string.h>

tenant *kb_tenant_of(kb_plane *plane, uint32_t number, int create)
{
    if (number >= KB_MAX_TENANTS)
        return NULL;
    if (number >= plane->tenant_capacity) {
        if (!create)
            return NULL;
        uint32_t capacity = plane->tenant_capacity ? plane->tenant_capacity : 4;
        while (capacity <= number)
            capacity *= 2;
        tenant **tenants = realloc(plane->tenants, capacity * sizeof *tenants);
        if (!tenants)
            return NULL;
        memset(tenants + plane->tenant_capacity, 0, (capacity - plane->tenant_capacity) * sizeof *tenants);
        plane->tenants = tenants;
        plane->tenant_capacity = capacity;
    }
    if (!plane->tenants[number] && create) {
        tenant *t = calloc(1, sizeof *t);
        if (t) {
            t->tun = -1;
            t->v4 = kb_trie_new();
            t->v6 = kb_trie_new();
        }
        if (!t || !t->v4 || !t->v6) {
            if (t) {
                kb_trie_free(t->v4);
                kb_trie_free(t->v6);
            }
            free(t);
            return NULL;
        }
        plane->tenants[number] = t;
    }
    return plane->tenants[number];
}

node *kb_node_of(tenant *t, uint32_t number, int create)
{
    if (number >= KB_MAX_NUMBER)
        return NULL;
    if (number >= t->numbers) {
        if (!create)
            return NULL;
        uint32_t numbers = t->numbers ? t->numbers : 16;
        while (numbers <= number)
            numbers *= 2;
        node *nodes = realloc(t->nodes, numbers * sizeof *nodes);
        if (!nodes)
            return NULL;
        memset(nodes + t->numbers, 0, (numbers - t->numbers) * sizeof *nodes);
        t->nodes = nodes;
        t->numbers = numbers;
    }
    return &t->nodes[number];
}

void kb_tenants_free(kb_plane *plane)
{
    for (uint32_t i = 0; i < plane->tenant_capacity; i++)
        if (plane->tenants[i]) {
            kb_trie_free(plane->tenants[i]->v4);
            kb_trie_free(plane->tenants[i]->v6);
            free(plane->tenants[i]->nodes);
            free(plane->tenants[i]);
        }
    free(plane->tenants);
}

/* -- the ports of a node ------------------------------------------------------------------------------------------------------ */

uint8_t kb_ids_without(int *ids, uint8_t count, int id)
{
    uint8_t kept = 0;
    for (uint8_t i = 0; i < count; i++)
        if (ids[i] != id)
            ids[kept++] = ids[i];
    return kept;
}

/* No flow goes to this port any more. A peer may stand at many nodes; it goes seldom enough to look at them all. */
void kb_port_forget_number(kb_plane *plane, port *p)
{
    if (!p->admitted)
        return;
    if (p->peer) {
        for (uint32_t i = 0; i < plane->tenant_capacity; i++)
            for (uint32_t n = 0; plane->tenants[i] && n < plane->tenants[i]->numbers; n++) {
                node *at = &plane->tenants[i]->nodes[n];
                at->next_hop_count = kb_ids_without(at->next_hops, at->next_hop_count, p->id);
            }
        return;
    }
    tenant *t = p->tenant < plane->tenant_capacity ? plane->tenants[p->tenant] : NULL;
    if (!t)
        return;
    if (p->kind == TUN && t->tun == p->id)
        t->tun = -1;
    if (p->kind == LINK && p->number < t->numbers)
        t->nodes[p->number].link_count = kb_ids_without(t->nodes[p->number].links, t->nodes[p->number].link_count, p->id);
}

/* -- what a tenant holds ------------------------------------------------------------------------------------------------------ */

/* Dynamic thresholds, as in l4/budget.c: one tenant alone gets half, and below its reserve none is refused. */
size_t kb_share_of(size_t all, size_t used, size_t reserve) { return all > used && all - used > reserve ? all - used : reserve; }

void kb_count_queued(kb_plane *plane, port *p, size_t before, size_t after)
{
    tenant *t = p->peer ? NULL : kb_tenant_of(plane, p->tenant, 0);
    plane->queued += after - before;
    if (t)
        t->queued += after - before;
}
