/* Packets: validation, time to live, checksums, maximum segment size; see packet.h. */
#include "packet/packet.h"
#include "packet/checksum.h"
#include "packet/headers.h"

#include <string.h>

static uint32_t packet_flow(const uint8_t *ip, size_t size, int v6, size_t at, int protocol)
{
    uint32_t h = (uint32_t)protocol;
    for (size_t i = v6 ? 8 : 12; i < (v6 ? 40u : 20u); i += 4)
        h = kb_mix(h, get32(ip + i));
    if (at && (protocol == TCP || protocol == UDP) && at + 4 <= size)
        h = kb_mix(h, get32(ip + at));
    return h;
}

int kb_check_packet(const uint8_t *frame, size_t length, kb_packet *packet)
{
    if (length < KB_VNET + 20 || length > KB_MAX_PACKET_BYTES)
        return -1;
    const uint8_t *ip = frame + KB_VNET;
    size_t size = length - KB_VNET;
    int v6 = ip[0] >> 4 == 6;
    size_t network = v6 ? 40 : (size_t)(ip[0] & 15) * 4; /* bytes of the IP header */
    if (v6) {
        if (size < 40 || (size_t)get16(ip + 4) + 40 != size)
            return -1;
    } else if (ip[0] >> 4 != 4 || network < 20 || network > size || get16(ip + 2) != size) {
        return -1;
    }
    int protocol;
    size_t at = kb_transport(ip, size, &protocol);
    uint8_t flags = frame[0], gso = frame[1];
    uint16_t gso_size = get16_le(frame + 4), start = get16_le(frame + 6), offset = get16_le(frame + 8);
    if (flags & ~(NEEDS_CSUM | DATA_VALID))
        return -1;
    int known = at != 0 && start == at && (protocol == TCP || protocol == UDP);
    if (flags & NEEDS_CSUM) {
        /* behind the IP header, else it would change addresses that were checked; deep inside is right for tunnels in tunnels */
        if (start < network || (size_t)start + offset + 2 > size)
            return -1;
        if (at == 0 && !v6)
            return -1; /* a fragment has no checksum to complete */
        if (known && offset != (protocol == TCP ? 16 : 6))
            return -1;
    }
    if (gso != GSO_NONE) {
        int kind = gso & ~GSO_ECN;
        if (!(flags & NEEDS_CSUM) || !known || gso_size == 0)
            return -1;
        if (kind == GSO_TCPV4    ? v6 || protocol != TCP
            : kind == GSO_TCPV6  ? !v6 || protocol != TCP
            : kind == GSO_UDP_L4 ? protocol != UDP || (gso & GSO_ECN)
                                 : 1)
            return -1;
        size_t header = protocol == TCP ? (at + 20 <= size ? (size_t)(ip[at + 12] >> 4) * 4 : 0) : 8;
        if (header < (protocol == TCP ? 20u : 8u) || at + header > size)
            return -1;
        if (size == at + header || size - at - header > (size_t)gso_size * KB_MAX_GSO_PACKETS)
            return -1; /* nothing to cut; or one frame would keep a kernel busy with thousands of tiny packets */
    }
    if (packet) {
        memset(packet, 0, sizeof *packet);
        packet->v6 = (uint8_t)v6;
        memcpy(packet->source, ip + (v6 ? 8 : 12), v6 ? 16 : 4);
        memcpy(packet->destination, ip + (v6 ? 24 : 16), v6 ? 16 : 4);
        size_t headers = at + (protocol == TCP && at + 20 <= size ? (size_t)(ip[at + 12] >> 4) * 4 : 8);
        packet->unit = (uint32_t)(gso == GSO_NONE ? size : headers + gso_size);
        packet->whole = v6 || (ip[6] & 0x40);
        packet->syn = at && protocol == TCP && at + 20 <= size && (ip[at + 13] & 0x02);
        packet->flow = packet_flow(ip, size, v6, at, protocol);
        if (gso == GSO_NONE && size <= 256 && at != 0) {
            if (protocol == ICMP || protocol == ICMPV6)
                packet->urgent = 1;
            else if (protocol == TCP && at + 20 <= size)
                packet->urgent = at + (size_t)(ip[at + 12] >> 4) * 4 == size && !(ip[at + 13] & 0x03); /* no SYN, no FIN */
        }
    }
    return 0;
}

int kb_decrement_ttl(uint8_t *ip)
{
    if (ip[0] >> 4 == 6) {
        if (ip[7] <= 1)
            return -1;
        ip[7]--;
        return 0;
    }
    if (ip[8] <= 1)
        return -1;
    ip[8]--;
    /* RFC 1624: the header's word changed by -0x0100 */
    uint32_t sum = (uint32_t)get16(ip + 10) + 0x0100;
    put16(ip + 10, (uint16_t)(sum + (sum >> 16)));
    return 0;
}

void kb_complete_checksum(uint8_t *frame, size_t length)
{
    if (!(frame[0] & NEEDS_CSUM))
        return;
    uint8_t *ip = frame + KB_VNET;
    uint16_t start = get16_le(frame + 6), offset = get16_le(frame + 8);
    /* the field holds the sum of the pseudo header */
    uint16_t sum = (uint16_t)~kb_ones_sum(ip + start, length - KB_VNET - start, 0);
    put16(ip + start + offset, sum ? sum : 0xffff);
    memset(frame, 0, KB_VNET);
}

int kb_is_gso(const uint8_t *frame) { return frame[1] != GSO_NONE; }

int kb_is_uso(const uint8_t *frame) { return frame[1] == GSO_UDP_L4; }

/* A 16-bit word of summed bytes changes from `old` to `new_` (RFC 1624) */
static void update_sum(uint8_t *field, uint16_t old, uint16_t new_)
{
    uint32_t sum = (uint32_t)(uint16_t)~get16(field) + (uint16_t)~old + new_;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    put16(field, (uint16_t)~sum);
}

int kb_mark_congestion(uint8_t *frame, size_t length)
{
    uint8_t *ip = frame + KB_VNET;
    if (length < KB_VNET + 20)
        return 0;
    if (ip[0] >> 4 == 6) {
        if (!(ip[1] & 0x30))
            return 0;
        ip[1] |= 0x30;
        return 1;
    }
    if (!(ip[1] & 3))
        return 0;
    uint16_t old = get16(ip);
    ip[1] |= 3;
    update_sum(ip + 10, old, get16(ip));
    return 1;
}

void kb_clamp_mss(uint8_t *frame, size_t length, uint32_t mtu)
{
    uint8_t *ip = frame + KB_VNET;
    size_t size = length - KB_VNET;
    int protocol, v6 = ip[0] >> 4 == 6;
    size_t at = kb_transport(ip, size, &protocol), fixed = (v6 ? 40u : 20u) + 20;
    if (!at || protocol != TCP || at + 20 > size || mtu < fixed + 88)
        return;
    size_t end = at + (size_t)(ip[at + 12] >> 4) * 4;
    uint16_t most = (uint16_t)(mtu - fixed > 65535 ? 65535 : mtu - fixed);
    if (end > size)
        return;
    for (size_t i = at + 20; i < end && ip[i] != 0;) {
        if (ip[i] == 1) {
            i++;
            continue;
        }
        if (i + 1 >= end || ip[i + 1] < 2 || i + ip[i + 1] > end)
            return;
        if (ip[i] == 2 && ip[i + 1] == 4) {
            uint16_t old = get16(ip + i + 2);
            if (old <= most)
                return;
            put16(ip + i + 2, most);
            if (!(frame[0] & NEEDS_CSUM)) {
                /* at an odd offset the bytes of the word count the other way round */
                int odd = (int)((i + 2 - at) & 1);
                update_sum(ip + at + 16, odd ? (uint16_t)(old >> 8 | old << 8) : old, odd ? (uint16_t)(most >> 8 | most << 8) : most);
            }
            return;
        }
        i += ip[i + 1];
    }
}

int kb_prefix_contains(const kb_prefix *prefix, const uint8_t *address, int v6)
{
    if (prefix->v6 != v6)
        return 0;
    unsigned whole = prefix->bits / 8, rest = prefix->bits % 8;
    if (memcmp(prefix->address, address, whole))
        return 0;
    return !rest || !((prefix->address[whole] ^ address[whole]) >> (8 - rest));
}
