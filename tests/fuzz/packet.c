/* sources: packet/packet.c packet/segmentation.c packet/icmp.c
 *
 * An untrusted frame: whatever kb_check_packet lets pass, the rest of packet/ must bear, and what they make of it
 * must pass again. */
#include "packet/packet.h"

#include <stdlib.h>
#include <string.h>

#define REQUIRE(what) \
    do {              \
        if (!(what))  \
            abort();  \
    } while (0)

static size_t pieces, bytes;

static void piece(void *context, uint8_t *frame, size_t length)
{
    uint8_t *copy = malloc(length); /* exact, so that the sanitizer sees a byte too many */
    memcpy(copy, frame, length);
    REQUIRE(kb_check_packet(copy, length, NULL) == 0);
    REQUIRE(!*(unsigned *)context || copy[1] == 0);
    free(copy);
    pieces++;
    bytes += length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *frame = malloc(size ? size : 1);
    memcpy(frame, data, size);
    kb_packet packet;
    if (kb_check_packet(frame, size, &packet) == 0) {
        if (frame[1]) {
            for (unsigned count = 1; count < 40; count += 13) {
                unsigned single = count == 1;
                pieces = bytes = 0;
                if (kb_segment_gso(frame, size, count, piece, &single) == 0)
                    REQUIRE(pieces <= KB_MAX_GSO_PACKETS + 1 && bytes >= size);
            }
        }
        static const uint8_t source[16] = {0xfd, [15] = 1};
        uint8_t *out = malloc(KB_ICMP_BYTES);
        if (kb_icmp_may_answer(frame, size))
            for (int what = KB_TTL_EXCEEDED; what <= KB_TOO_BIG; what++) {
                size_t made = kb_icmp_error(frame, size, what, 1300, source, out);
                REQUIRE(made <= KB_ICMP_BYTES && kb_check_packet(out, made, NULL) == 0);
                REQUIRE(!kb_icmp_may_answer(out, made)); /* or two planes would talk for ever */
            }
        free(out);
        uint8_t *copy = malloc(size);
        memcpy(copy, frame, size);
        kb_clamp_mss(copy, size, 1280);
        kb_mark_congestion(copy, size);
        kb_decrement_ttl(copy + KB_VNET);
        REQUIRE(kb_check_packet(copy, size, NULL) == 0);
        if (!copy[1]) {
            kb_complete_checksum(copy, size);
            REQUIRE(kb_check_packet(copy, size, NULL) == 0);
        }
        free(copy);
    }
    free(frame);
    return 0;
}
