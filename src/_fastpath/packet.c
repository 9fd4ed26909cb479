/* Packets as bytes: validation, time to live, checksums, segmentation, maximum segment size. No state, no I/O. ICMP: icmp.c. */
#include "bytes.h"
#include "checksum.h"
#include "plane.h"

#include <string.h>

enum { NEEDS_CSUM = 1, DATA_VALID = 2 };
enum { GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_UDP_L4 = 5, GSO_ECN = 0x80 };
enum { TCP = 6, UDP = 17, ICMP = 1, ICMPV6 = 58 };

/* virtio_net_hdr: flags u8, gso_type u8, hdr_len u16, gso_size u16, csum_start u16, csum_offset u16, little endian */
static uint16_t le16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

int kb_check_frame(int kind, size_t length)
{
    switch (kind) {
    case KB_CONTROL:
        return length <= KB_MAX_CONTROL_BYTES ? 0 : -1;
    case KB_PACKET:
        return length >= KB_VNET + 20 && length <= KB_MAX_PACKET_BYTES ? 0 : -1;
    case KB_SEGMENT:
        return length >= 8 && length <= KB_MAX_SEGMENT_BYTES ? 0 : -1;
    case KB_TENANT_PACKET:
        return length >= 4 + KB_VNET + 20 && length <= 4 + KB_MAX_PACKET_BYTES ? 0 : -1;
    case KB_TENANT_SEGMENT:
        return length >= 4 + 8 && length <= 4 + KB_MAX_SEGMENT_BYTES ? 0 : -1;
    }
    return kind >= 128 && length <= KB_MAX_SKIP_BYTES ? 0 : -1;
}

/* Spreads well enough to pin flows to links and queues; nothing secret depends on it. */
uint32_t kb_mix(uint32_t a, uint32_t b)
{
    uint64_t h = ((uint64_t)a << 32 | b) * 0x9e3779b97f4a7c15u;
    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9u;
    return (uint32_t)(h >> 32);
}

uint32_t kb_segment_flow(const uint8_t *payload, size_t length)
{
    size_t take = length < 8 + KB_FLOW_BYTES ? length : 8 + KB_FLOW_BYTES;
    uint32_t h = 0;
    for (size_t i = 0; i < take; i++)
        h = h * 31 + payload[i];
    return kb_mix(h, KB_SEGMENT);
}

static uint32_t packet_flow(const uint8_t *ip, size_t size, int v6, size_t at, int protocol)
{
    uint32_t h = (uint32_t)protocol;
    for (size_t i = v6 ? 8 : 12; i < (v6 ? 40u : 20u); i += 4)
        h = kb_mix(h, get32(ip + i));
    if (at && (protocol == TCP || protocol == UDP) && at + 4 <= size)
        h = kb_mix(h, get32(ip + at));
    return h;
}

/* Where the transport header starts and its protocol; 0 when it cannot be said (fragments, extension headers). */
static size_t transport(const uint8_t *ip, size_t length, int *protocol)
{
    if (ip[0] >> 4 == 4) {
        *protocol = ip[9];
        if (be16(ip + 6) & 0x3fff)
            return 0;
        return (size_t)(ip[0] & 15) * 4;
    }
    *protocol = ip[6];
    return *protocol == TCP || *protocol == UDP || *protocol == ICMPV6 ? (length >= 40 ? 40 : 0) : 0;
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
        if (size < 40 || (size_t)be16(ip + 4) + 40 != size)
            return -1;
    } else if (ip[0] >> 4 != 4 || network < 20 || network > size || be16(ip + 2) != size) {
        return -1;
    }
    int protocol;
    size_t at = transport(ip, size, &protocol);
    uint8_t flags = frame[0], gso = frame[1];
    uint16_t gso_size = le16(frame + 4), start = le16(frame + 6), offset = le16(frame + 8);
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
    uint32_t sum = (uint32_t)be16(ip + 10) + 0x0100;
    put16(ip + 10, (uint16_t)(sum + (sum >> 16)));
    return 0;
}

void kb_complete_checksum(uint8_t *frame, size_t length)
{
    if (!(frame[0] & NEEDS_CSUM))
        return;
    uint8_t *ip = frame + KB_VNET;
    uint16_t start = le16(frame + 6), offset = le16(frame + 8);
    /* the field holds the sum of the pseudo header */
    uint16_t sum = (uint16_t)~kb_ones_sum(ip + start, length - KB_VNET - start, 0);
    put16(ip + start + offset, sum ? sum : 0xffff);
    memset(frame, 0, KB_VNET);
}

int kb_is_uso(const uint8_t *frame) { return frame[1] == GSO_UDP_L4; }

int kb_segment_gso(const uint8_t *frame, size_t length, unsigned count, void (*out)(void *, uint8_t *, size_t), void *context)
{
    const uint8_t *ip = frame + KB_VNET;
    size_t size = length - KB_VNET, unit = le16(frame + 4);
    int v6 = ip[0] >> 4 == 6, protocol;
    size_t at = transport(ip, size, &protocol);
    size_t header = at + (protocol == TCP ? (size_t)(ip[at + 12] >> 4) * 4 : 8);
    if (header + unit > 65535)
        return -1;
    uint32_t sequence = protocol == TCP ? get32(ip + at + 4) : 0;
    uint16_t identification = v6 ? 0 : be16(ip + 4);
    uint8_t piece[KB_MAX_PACKET_BYTES];
    size_t step = unit * count;
    for (size_t from = header, n = 0; from < size; from += step, n += count) {
        size_t payload = size - from < step ? size - from : step, total = header + payload;
        int last = from + payload == size;
        uint8_t *p = piece + KB_VNET;
        memset(piece, 0, KB_VNET);
        memcpy(p, ip, header);
        memcpy(p + header, ip + from, payload);
        if (v6) {
            put16(p + 4, (uint16_t)(total - 40));
        } else {
            put16(p + 2, (uint16_t)total);
            put16(p + 4, (uint16_t)(identification + n));
            put16(p + 10, 0);
            put16(p + 10, (uint16_t)~kb_ones_sum(p, at, 0));
        }
        size_t field;
        if (protocol == TCP) {
            put32(p + at + 4, sequence + (uint32_t)(from - header));
            if (!last)
                p[at + 13] &= (uint8_t)~0x09; /* FIN and PSH belong to the last */
            if (n)
                p[at + 13] &= (uint8_t)~0x80; /* CWR to the first */
            field = at + 16;
        } else {
            put16(p + at + 4, (uint16_t)(total - at));
            field = at + 6;
        }
        put16(p + field, 0);
        uint32_t pseudo = kb_ones_sum(p + (v6 ? 8 : 12), v6 ? 32 : 8, 0);
        pseudo += (uint32_t)protocol + (uint32_t)(total - at);
        if (count == 1) {
            uint16_t sum = (uint16_t)~kb_ones_sum(p + at, total - at, pseudo);
            put16(p + field, sum || protocol == TCP ? sum : 0xffff);
        } else { /* still to be cut, or at least to be summed, by the receiver's kernel */
            put16(p + field, kb_ones_sum(p, 0, pseudo));
            memcpy(piece, frame, KB_VNET);
            if (payload <= unit) {
                piece[1] = GSO_NONE;
                piece[4] = piece[5] = 0;
            }
        }
        out(context, piece, KB_VNET + total);
    }
    return 0;
}

/* A 16-bit word of summed bytes changes from `old` to `new_` (RFC 1624) */
static void update_sum(uint8_t *field, uint16_t old, uint16_t new_)
{
    uint32_t sum = (uint32_t)(uint16_t)~be16(field) + (uint16_t)~old + new_;
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
    uint16_t old = be16(ip);
    ip[1] |= 3;
    update_sum(ip + 10, old, be16(ip));
    return 1;
}

void kb_clamp_mss(uint8_t *frame, size_t length, uint32_t mtu)
{
    uint8_t *ip = frame + KB_VNET;
    size_t size = length - KB_VNET;
    int protocol, v6 = ip[0] >> 4 == 6;
    size_t at = transport(ip, size, &protocol), fixed = (v6 ? 40u : 20u) + 20;
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
            uint16_t old = be16(ip + i + 2);
            if (old <= most)
                return;
            put16(ip + i + 2, most);
            if (!(frame[0] & NEEDS_CSUM)) {
                /* at an odd place the bytes of the word count the other way round */
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
