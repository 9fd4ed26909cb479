/* Segmentation of super-packets in software, for devices and paths that do not take them whole; see packet.h. */
#include "packet/packet.h"
#include "packet/checksum.h"
#include "packet/headers.h"

#include <string.h>

int kb_segment_gso(const uint8_t *frame, size_t length, unsigned count, void (*out)(void *, uint8_t *, size_t), void *context)
{
    const uint8_t *ip = frame + KB_VNET;
    size_t size = length - KB_VNET, unit = get16_le(frame + 4);
    int v6 = ip[0] >> 4 == 6, protocol;
    size_t at = kb_transport(ip, size, &protocol);
    size_t header = at + (protocol == TCP ? (size_t)(ip[at + 12] >> 4) * 4 : 8);
    if (header + unit > 65535)
        return -1;
    uint32_t sequence = protocol == TCP ? get32(ip + at + 4) : 0;
    uint16_t identification = v6 ? 0 : get16(ip + 4);
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
