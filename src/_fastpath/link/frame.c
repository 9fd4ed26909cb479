/* See frame.h. */
#include "link/frame.h"
#include "packet/segment.h"

#include <stdio.h>
#include <string.h>

#define TAG 4 /* bytes of a tenant's number */

static int is_tagged(int kind) { return kind == KB_TENANT_PACKET || kind == KB_TENANT_SEGMENT; }

static size_t head_length(const uint8_t *head) { return (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3]; }

int kb_check_frame(int kind, size_t length)
{
    switch (kind) {
    case KB_CONTROL:
        return length <= KB_MAX_CONTROL_BYTES ? 0 : -1;
    case KB_PACKET:
        return length >= KB_VNET + 20 && length <= KB_MAX_PACKET_BYTES ? 0 : -1;
    case KB_SEGMENT:
        return length >= KB_SEGMENT_ADDRESS && length <= KB_MAX_SEGMENT_BYTES ? 0 : -1;
    case KB_TENANT_PACKET:
        return length >= TAG + KB_VNET + 20 && length <= TAG + KB_MAX_PACKET_BYTES ? 0 : -1;
    case KB_TENANT_SEGMENT:
        return length >= TAG + KB_SEGMENT_ADDRESS && length <= TAG + KB_MAX_SEGMENT_BYTES ? 0 : -1;
    }
    return kind >= 128 && length <= KB_MAX_SKIP_BYTES ? 0 : -1;
}

void kb_frame_seal(kb_buffer *b, int kind, size_t length, int tagged, uint32_t tenant)
{
    b->start = KB_HEADROOM;
    if (tagged) {
        b->start -= TAG;
        put32(b->data + b->start, tenant);
        length += TAG;
        kind += KB_TENANT_PACKET - KB_PACKET;
    }
    b->start -= KB_HEADER;
    uint8_t *to = b->data + b->start;
    to[0] = (uint8_t)kind;
    to[1] = (uint8_t)(length >> 16);
    to[2] = (uint8_t)(length >> 8);
    to[3] = (uint8_t)length;
    b->length = (uint32_t)(KB_HEADER + length);
}

uint32_t kb_frame_start(int kind) { return KB_HEADROOM - KB_HEADER - (is_tagged(kind) ? TAG : 0); }

int kb_frame_mark(kb_buffer *b)
{
    uint8_t *payload = b->data + KB_HEADROOM;
    size_t length = b->start + b->length - KB_HEADROOM;
    switch (b->data[b->start]) {
    case KB_PACKET:
    case KB_TENANT_PACKET:
        return kb_mark_congestion(payload, length);
    case KB_SEGMENT:
    case KB_TENANT_SEGMENT:
        return length < KB_SEGMENT_ADDRESS ? 0 : kb_segment_mark(payload + KB_SEGMENT_ADDRESS, length - KB_SEGMENT_ADDRESS);
    }
    return 0;
}

uint32_t kb_segment_flow(const uint8_t *payload, size_t length)
{
    size_t take = length < KB_SEGMENT_ADDRESS + KB_L4_PORTS ? length : KB_SEGMENT_ADDRESS + KB_L4_PORTS;
    uint32_t h = 0;
    for (size_t i = 0; i < take; i++)
        h = h * 31 + payload[i];
    return kb_mix(h, KB_SEGMENT);
}

/* -- the reader ----------------------------------------------------------------------------------------------------------- */

size_t kb_reader_want(kb_reader *r, uint8_t **into, uint8_t *scratch, size_t scratch_size)
{
    if (r->skip) {
        *into = scratch;
        return r->skip < scratch_size ? r->skip : scratch_size;
    }
    if (r->frame) {
        *into = r->frame->data + r->frame->start + r->have;
        return r->frame->length - r->have;
    }
    *into = r->head + r->got;
    return KB_HEADER - r->got;
}

int kb_reader_took(kb_reader *r, size_t count, int admitted, kb_pool *pool)
{
    if (r->skip) {
        r->skip -= (uint32_t)count;
        return 0;
    }
    if (r->frame) {
        r->have += (uint32_t)count;
        return r->have == r->frame->length;
    }
    r->got = (uint8_t)(r->got + count);
    if (r->got < KB_HEADER)
        return 0;
    size_t length = head_length(r->head);
    r->kind = r->head[0];
    if (kb_check_frame(r->kind, length) < 0)
        return -1;
    r->got = 0;
    r->have = 0;
    if (r->kind >= 128 || (!admitted && r->kind != KB_CONTROL)) {
        r->skip = (uint32_t)length;
        return 0;
    }
    /* so that a packet is always at KB_HEADROOM, with or without its tenant in front */
    size_t front = is_tagged(r->kind) ? TAG : 0;
    if (!(r->frame = kb_buffer_new(pool, length - front)))
        return -2;
    r->frame->start = (uint32_t)(KB_HEADROOM - front);
    r->frame->length = (uint32_t)length;
    return length == 0;
}

void kb_reader_explain(const kb_reader *r, int result, char *text, size_t size)
{
    if (result == -2)
        snprintf(text, size, "no memory for a frame");
    else
        snprintf(text, size, "frame of kind %d with %u bytes", r->head[0], (unsigned)head_length(r->head));
}

kb_frame kb_reader_frame(const kb_reader *r, kb_buffer *b)
{
    kb_frame f = {r->kind, is_tagged(r->kind), 0, b->data + KB_HEADROOM, b->length};
    if (f.tagged) {
        f.kind -= KB_TENANT_PACKET - KB_PACKET;
        f.tenant = get32(f.payload - TAG);
        f.length -= TAG;
    }
    return f;
}
