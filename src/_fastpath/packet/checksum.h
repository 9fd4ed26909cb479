/* The one's complement sum of RFC 1071. Reference implementation: tests/reference/checksum.py. */
#ifndef KUBEEDGE_CHECKSUM_H
#define KUBEEDGE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* 32-bit words into 64 bits: the compiler vectorises the loop, and 64 bits hold the sum of 16 GiB. Unaligned data is read by memcpy. */
#define KB_SUM_WORDS(data, count, sum)        \
    for (size_t i_ = 0; i_ < (count); i_++) { \
        uint32_t word_;                       \
        memcpy(&word_, (data) + 4 * i_, 4);   \
        (sum) += word_;                       \
    }

#if defined(__x86_64__) && defined(__GNUC__)
/* The same loop in wider registers, where the processor that runs it has them. */
__attribute__((target("avx2"))) static uint64_t kb_sum_wide(const uint8_t *data, size_t count)
{
    uint64_t sum = 0;
    KB_SUM_WORDS(data, count, sum)
    return sum;
}
#define KB_HAS_WIDE() __builtin_cpu_supports("avx2")
#else
static inline uint64_t kb_sum_wide(const uint8_t *data, size_t count)
{
    (void)data;
    (void)count;
    return 0;
}
#define KB_HAS_WIDE() 0
#endif

/* Big-endian 16-bit words, the last padded with zero, on top of `initial`; not inverted. */
static inline uint16_t kb_ones_sum(const uint8_t *data, size_t length, uint32_t initial)
{
    /* sums of host-order words are byte-order independent up to a final swap (RFC 1071, section 2B) */
    uint64_t sum = 0;
    size_t count = length / 4;
    if (count >= 32 && KB_HAS_WIDE()) {
        sum = kb_sum_wide(data, count);
    } else {
        KB_SUM_WORDS(data, count, sum)
    }
    uint8_t tail[4] = {0, 0, 0, 0};
    if (length % 4)
        memcpy(tail, data + 4 * count, length % 4);
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
