/* ICMP errors (RFC 792, RFC 1812 section 4.3, RFC 4443), as bytes. Reference implementation: tests/reference/icmp.py. */
#include "packet/packet.h"
#include "packet/checksum.h"
#include "packet/headers.h"

#include <string.h>

/* Is it an ICMPv6 error, also behind extension headers? */
static int error6(const uint8_t *ip, size_t size)
{
    int protocol = ip[6];
    size_t at = 40;
    for (int n = 0; n < 8; n++) {
        if (protocol == ICMPV6)
            return at >= size || ip[at] < 128;
        if (protocol != 0 && protocol != 43 && protocol != 44 && protocol != 60)
            return 0;
        if (at + 8 > size)
            return 1;
        if (protocol == 44 && ((ip[at + 2] << 8 | ip[at + 3]) & 0xfff8))
            return 1; /* not the first fragment */
        size_t length = protocol == 44 ? 8 : ((size_t)ip[at + 1] + 1) * 8;
        protocol = ip[at];
        at += length;
    }
    return 1;
}

int kb_icmp_may_answer(const uint8_t *frame, size_t length)
{
    const uint8_t *ip = frame + KB_VNET;
    size_t size = length - KB_VNET;
    if (ip[0] >> 4 == 6) {
        static const uint8_t zero[16];
        return ip[8] != 0xff && memcmp(ip + 8, zero, 16) && ip[24] != 0xff && !error6(ip, size);
    }
    size_t header = (size_t)(ip[0] & 15) * 4;
    if (((ip[6] << 8 | ip[7]) & 0x1fff) || ip[12] == 0 || ip[12] == 127 || ip[12] >= 224 || ip[16] >= 224)
        return 0;
    if (ip[9] != ICMP)
        return 1;
    /* only questions and answers get errors */
    return header < size && (ip[header] == 0 || ip[header] == 8 || (ip[header] >= 13 && ip[header] <= 18));
}

size_t kb_icmp_error(const uint8_t *frame, size_t length, int what, uint32_t mtu, const uint8_t *source, uint8_t *out)
{
    /* type and code: IPv4, IPv6 */
    static const uint8_t codes[4][4] = {
        [KB_TTL_EXCEEDED] = {11, 0, 3, 0},
        [KB_NO_ROUTE] = {3, 0, 1, 0},
        [KB_NO_LINK] = {3, 1, 1, 3},
        [KB_TOO_BIG] = {3, 4, 2, 0},
    };
    const uint8_t *ip = frame + KB_VNET;
    int v6 = ip[0] >> 4 == 6;
    size_t size = length - KB_VNET, head = v6 ? 40 : 20, room = (v6 ? 1280u : 576u) - head - 8;
    size_t quoted = size < room ? size : room, body = 8 + quoted, total = head + body;
    memset(out, 0, KB_VNET + head + 8);
    uint8_t *p = out + KB_VNET, *icmp = p + head;
    icmp[0] = codes[what][v6 ? 2 : 0];
    icmp[1] = codes[what][v6 ? 3 : 1];
    if (what == KB_TOO_BIG) {
        if (v6)
            put16(icmp + 4, (uint16_t)(mtu >> 16));
        put16(icmp + 6, (uint16_t)mtu);
    }
    memcpy(icmp + 8, ip, quoted);
    if (v6) {
        p[0] = 0x60;
        put16(p + 4, (uint16_t)body);
        p[6] = ICMPV6;
        p[7] = 64;
        memcpy(p + 8, source, 16);
        memcpy(p + 24, ip + 8, 16);
        uint32_t pseudo = kb_ones_sum(p + 8, 32, 0) + (uint32_t)body + ICMPV6;
        put16(icmp + 2, (uint16_t)~kb_ones_sum(icmp, body, pseudo));
    } else {
        p[0] = 0x45;
        p[1] = 0xc0; /* internetwork control (RFC 1812, 4.3.2.5) */
        put16(p + 2, (uint16_t)total);
        p[8] = 64;
        p[9] = ICMP;
        memcpy(p + 12, source, 4);
        memcpy(p + 16, ip + 12, 4);
        put16(p + 10, (uint16_t)~kb_ones_sum(p, 20, 0));
        put16(icmp + 2, (uint16_t)~kb_ones_sum(icmp, body, 0));
    }
    return KB_VNET + total;
}
