/* sources: link/frame.c link/buffer.c packet/packet.c packet/segmentation.c packet/icmp.c
 *
 * The stream of a link: the first byte says how it is cut and whether the link is admitted. However it is cut, the same frames come
 * out, and no more memory is held than one frame. */
#include "link/frame.h"

#include <stdlib.h>
#include <string.h>

#define REQUIRE(what) \
    do {              \
        if (!(what))  \
            abort();  \
    } while (0)

typedef struct {
    uint64_t hash;
    int frames, failed;
} result;

static result feed(const uint8_t *data, size_t size, size_t cut, int admitted)
{
    kb_pool pool = {0};
    kb_reader reader;
    result found = {14695981039346656037u, 0, 0};
    uint8_t scratch[512];
    memset(&reader, 0, sizeof reader);
    for (size_t at = 0; at < size && !found.failed;) {
        uint8_t *into;
        size_t room = kb_reader_want(&reader, &into, scratch, sizeof scratch);
        REQUIRE(room > 0 && room <= KB_MAX_PACKET_BYTES + 4);
        size_t count = size - at < room ? size - at : room;
        if (count > cut)
            count = cut;
        memcpy(into, data + at, count);
        at += count;
        int got = kb_reader_took(&reader, count, admitted, &pool);
        if (got < 0) {
            found.failed = 1;
        } else if (got) {
            kb_buffer *b = reader.frame;
            reader.frame = NULL;
            REQUIRE(kb_check_frame(reader.kind, b->length) == 0 && b->length <= b->room + 4);
            REQUIRE(admitted || reader.kind == KB_CONTROL);
            for (size_t i = 0; i < b->length; i++)
                found.hash = (found.hash ^ b->data[b->start + i]) * 1099511628211u;
            found.hash ^= reader.kind;
            found.frames++;
            kb_buffer_free(&pool, b);
        }
    }
    kb_buffer_free(&pool, reader.frame);
    kb_pool_clear(&pool);
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    int admitted = data[0] & 1;
    result one = feed(data + 1, size - 1, 1 + (data[0] >> 1), admitted), all = feed(data + 1, size - 1, size, admitted);
    REQUIRE(one.hash == all.hash && one.frames == all.frames && one.failed == all.failed);
    return 0;
}
