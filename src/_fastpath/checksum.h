/* The one's complement sum of RFC 1071. Readable twin: kubeedge/wire/_checksum_py.py. */
#ifndef KUBEEDGE_CHECKSUM_H
#define KUBEEDGE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Big-endian 16-bit words, the last padded with zero, on top of `initial`; not inverted. */
static inline uint16_t kb_ones_sum(const uint8_t *data, size_t length, uint32_t initial)
{
    /* 32-bit words into 64 bits: the compiler vectorises the loop. Sums of host-order words are byte-order independent
     * up to a final swap (RFC 1071, section 2B). 64 bits hold the sum of 16 GiB. */
    uint64_t sum = 0;
    size_t i = 0;
    for (; i + 4 <= length; i += 4) {
        uint32_t word;
        memcpy(&word, data + i, 4);
        sum += word;
    }
    uint8_t tail[4] = {0, 0, 0, 0};
    if (i < length)
        memcpy(tail, data + i, length - i);
    uint32_t word;
    memcpy(&word, tail, 4);
    sum += word;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    const uint16_t probe = 1;
    if (*(const uint8_t *)&probe)
        sum = (uint64_t)((sum & 0xff) << 8 | sum >> 8);
    sum += initial;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

#endif
