/* The header of an L4 segment. Big endian; tests/reference/l4/segment.py is its Python reading.
 *
 *     0   source port       u16
 *     2   destination port  u16
 *     4   sequence          u32   of the first payload byte; SYN and FIN count as one byte each (RFC 9293, section 3.4)
 *     8   acknowledgement   u32   next byte that is expected; valid with ACK
 *     12  window            u32   bytes that may be sent beyond the acknowledgement
 *     16  flags             u8    CE and ECE as RFC 3168 has them: a queue on the way marked it; the peer is told
 *     17  ranges            u8    how many selective acknowledgements follow, at most KB_L4_RANGES
 *     18  first u32, end u32      of each range that was received beyond the acknowledgement (RFC 2018)
 *         payload
 */
#ifndef KUBEEDGE_PACKET_SEGMENT_H
#define KUBEEDGE_PACKET_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

#define KB_L4_HEADER 18
#define KB_L4_RANGES 8
#define KB_L4_FLAGS_AT 16
#define KB_L4_RANGES_AT 17
#define KB_L4_PORTS 4 /* bytes at the beginning that say which connection it belongs to */

enum { KB_SYN = 1, KB_ACK = 2, KB_FIN = 4, KB_RST = 8, KB_CE = 16, KB_ECE = 32 };

/* Congestion experienced, on a segment with a payload. 1: marked, 0: this one carries no mark */
static inline int kb_segment_mark(uint8_t *segment, size_t length)
{
    if (length < KB_L4_HEADER || segment[KB_L4_FLAGS_AT] & (KB_SYN | KB_RST) || length <= KB_L4_HEADER + 8u * segment[KB_L4_RANGES_AT])
        return 0;
    segment[KB_L4_FLAGS_AT] |= KB_CE;
    return 1;
}

#endif
