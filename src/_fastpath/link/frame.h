/* Frames: how a link's byte stream is cut. The C side of kubeedge/wire_format/frame.py; in C, only this header and frame.c know the format.
 *
 *     kind u8, length u24, then `length` bytes of payload:
 *
 *     CONTROL         a message for Python
 *     PACKET          a virtio_net_hdr and an IP packet (packet/packet.h)
 *     SEGMENT         destination u32, source u32 (numbers of nodes), then an L4 segment (packet/segment.h)
 *     TENANT_PACKET   between relays: tenant u32, then as PACKET
 *     TENANT_SEGMENT  between relays: tenant u32, then as SEGMENT
 *
 * Kinds from 128 on are skipped: they are for later versions. Any other kind or length closes the link. */
#ifndef KUBEEDGE_LINK_FRAME_H
#define KUBEEDGE_LINK_FRAME_H

#include "link/buffer.h"
#include "packet/bytes.h"
#include "packet/packet.h"

enum { KB_CONTROL = 1, KB_PACKET = 2, KB_SEGMENT = 3, KB_TENANT_PACKET = 4, KB_TENANT_SEGMENT = 5 };

#define KB_HEADER 4          /* kind u8, length u24 */
#define KB_SEGMENT_ADDRESS 8 /* destination u32, source u32 */
#define KB_MAX_CONTROL_BYTES (16 * 1024)
#define KB_MAX_SEGMENT_BYTES (KB_SEGMENT_ADDRESS + 65536)
#define KB_MAX_SKIP_BYTES (1 << 20) /* of an unknown kind */

int kb_check_frame(int kind, size_t length); /* 0, or -1: such a frame closes its link */

/* Turns `length` bytes of payload at KB_HEADROOM into a frame, with the tenant's number when it is `tagged` for another relay. */
void kb_frame_seal(kb_buffer *b, int kind, size_t length, int tagged, uint32_t tenant);
uint32_t kb_frame_start(int kind);           /* where in a buffer a frame of this kind begins */
int kb_frame_mark(kb_buffer *b);             /* congestion experienced. 1: marked, 0: this frame cannot carry the mark */
uint32_t kb_segment_flow(const uint8_t *payload, size_t length); /* pins the payload of a SEGMENT frame to a link and a queue */

static inline uint32_t kb_segment_destination(const uint8_t *payload) { return get32(payload); }
static inline uint32_t kb_segment_source(const uint8_t *payload) { return get32(payload + 4); }
static inline void kb_segment_put_address(uint8_t *payload, uint32_t destination, uint32_t source)
{
    put32(payload, destination);
    put32(payload + 4, source);
}

/* A received frame without what was in front of its payload. */
typedef struct {
    int kind, tagged; /* kind: CONTROL, PACKET or SEGMENT; tagged: it came with its tenant's number */
    uint32_t tenant;
    uint8_t *payload;
    size_t length;
} kb_frame;

/* Puts frames together from a byte stream that the caller reads. */
typedef struct {
    kb_buffer *frame; /* being filled */
    uint32_t have, skip;
    uint8_t head[KB_HEADER], got, kind;
} kb_reader;

/* Where the next bytes go, and how many at most. `scratch` is for what is thrown away. */
size_t kb_reader_want(kb_reader *r, uint8_t **into, uint8_t *scratch, size_t scratch_size);
/* `count` bytes were put there. 1: a whole frame is in r->frame (take it), 0: go on, -1: no such frame, -2: no memory.
 * With `admitted` 0 everything but control is thrown away. */
int kb_reader_took(kb_reader *r, size_t count, int admitted, kb_pool *pool);
void kb_reader_explain(const kb_reader *r, int result, char *text, size_t size); /* a negative result, in words */
kb_frame kb_reader_frame(const kb_reader *r, kb_buffer *b);                      /* what was taken from r->frame */

#endif
