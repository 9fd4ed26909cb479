/* The header of an L4 segment; the layout is kubebus/l4/segment.py's.
 *
 *     source u16, destination u16, sequence u32, acknowledgement u32, window u32, flags u8, ranges u8, then 8 bytes for each range
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
