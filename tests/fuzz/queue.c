/* sources: link/queue.c link/frame.c link/buffer.c packet/packet.c packet/segmentation.c packet/icmp.c
 *
 * The fair queue: steps of 3 bytes. Every buffer that went in comes out once, as a frame or as dropped; a flow keeps its order; sizes add up. */
#include "link/frame.h"
#include "link/queue.h"

#include <stdlib.h>
#include <string.h>

#define REQUIRE(what) \
    do {              \
        if (!(what))  \
            abort();  \
    } while (0)

static uint32_t word(const kb_buffer *b, size_t at)
{
    uint32_t value;
    memcpy(&value, b->data + KB_HEADROOM + at, 4);
    return value;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kb_pool pool = {0};
    kb_queue q;
    uint32_t now = 0xfff00000u, serial = 0, out = 0, newest[256] = {0};
    memset(&q, 0, sizeof q);
    for (; size >= 3; data += 3, size -= 3) {
        kb_buffer *dropped = NULL;
        switch (data[0] % 4) {
        case 0: {
            size_t length = 8 + 30 + (size_t)data[2] * (data[0] & 4 ? 250 : 4);
            kb_buffer *b = kb_buffer_new(&pool, length);
            memset(b->data, data[2], KB_HEADROOM + length);
            b->start = KB_HEADROOM - KB_HEADER;
            b->length = (uint32_t)(KB_HEADER + length);
            b->data[b->start] = data[0] & 8 ? KB_SEGMENT : KB_PACKET;
            uint32_t flow = data[1];
            serial++;
            memcpy(b->data + KB_HEADROOM, &serial, 4);
            memcpy(b->data + KB_HEADROOM + 4, &flow, 4);
            kb_queue_put(&q, b, flow, now, data[0] & 16 ? 20000 : 600000, &dropped);
            REQUIRE(q.bytes <= 600000);
            break;
        }
        case 1:
            for (int n = data[1] % 16; n >= 0; n--) {
                kb_buffer *b = kb_queue_get(&q, now, &dropped);
                if (!b) {
                    REQUIRE(q.bytes == 0);
                    break;
                }
                uint32_t number = word(b, 0), flow = word(b, 4);
                REQUIRE(flow < 256 && number > newest[flow]);
                newest[flow] = number;
                kb_buffer_free(&pool, b);
                out++;
            }
            break;
        case 2:
            now += (uint32_t)data[1] << (data[2] % 16);
            break;
        default:
            now++;
        }
        while (dropped) {
            kb_buffer *next = dropped->next;
            kb_buffer_free(&pool, dropped);
            dropped = next;
            out++;
        }
    }
    kb_buffer *dropped = NULL, *b;
    while ((b = kb_queue_get(&q, now, &dropped))) {
        kb_buffer_free(&pool, b);
        out++;
    }
    while (dropped) {
        kb_buffer *next = dropped->next;
        kb_buffer_free(&pool, dropped);
        dropped = next;
        out++;
    }
    REQUIRE(out == serial && q.bytes == 0 && q.flows == 0);
    kb_queue_clear(&q, &pool);
    kb_pool_clear(&pool);
    return 0;
}
