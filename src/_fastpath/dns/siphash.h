/* SipHash-1-3 (Aumasson, Bernstein): a hash of what others choose, with a key that they do not know. */
#ifndef KUBEEDGE_DNS_SIPHASH_H
#define KUBEEDGE_DNS_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

static inline uint64_t kb_rotate(uint64_t x, int bits) { return x << bits | x >> (64 - bits); }

static inline void kb_sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = kb_rotate(v[1], 13) ^ v[0];
    v[0] = kb_rotate(v[0], 32);
    v[2] += v[3];
    v[3] = kb_rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = kb_rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = kb_rotate(v[1], 17) ^ v[2];
    v[2] = kb_rotate(v[2], 32);
}

static inline uint64_t kb_siphash(const uint64_t key[2], const uint8_t *data, size_t length)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du, key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    uint64_t word = 0;
    for (size_t i = 0; i < length; i++) {
        word |= (uint64_t)data[i] << 8 * (i % 8);
        if (i % 8 == 7) {
            v[3] ^= word;
            kb_sip_round(v);
            v[0] ^= word;
            word = 0;
        }
    }
    word |= (uint64_t)length << 56;
    v[3] ^= word;
    kb_sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        kb_sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#endif
