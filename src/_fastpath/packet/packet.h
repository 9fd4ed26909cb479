/* IP packets as bytes: validation, time to live, checksums, segmentation offload, ICMP errors. Pure functions.
 *
 * A packet travels as a virtio_net_hdr of KB_VNET bytes and the IP packet behind it, as a TUN device with IFF_VNET_HDR gives it.
 * Reference implementation: tests/reference/packets.py and icmp.py. */
#ifndef KUBEEDGE_PACKET_H
#define KUBEEDGE_PACKET_H

#include <stddef.h>
#include <stdint.h>

#define KB_VNET 10 /* struct virtio_net_hdr */
#define KB_MAX_PACKET_BYTES (KB_VNET + 65536)
#define KB_MAX_GSO_PACKETS 1024 /* of one super-packet; the smallest real ones make fewer of 64 KiB */

typedef struct {
    uint8_t address[16];
    uint8_t bits, v6;
} kb_prefix;

typedef struct {
    uint8_t source[16], destination[16];
    uint32_t flow;       /* the same for all packets of a connection in one direction */
    uint32_t unit;       /* bytes of the largest packet that it makes on a wire */
    uint8_t v6, urgent;  /* urgent: small and alone (ICMP, a bare TCP acknowledgement) */
    uint8_t whole, syn;  /* it must not be fragmented; it opens a TCP connection */
} kb_packet;

enum { KB_TTL_EXCEEDED, KB_NO_ROUTE, KB_NO_LINK, KB_TOO_BIG };
#define KB_ICMP_BYTES (KB_VNET + 1280)

int kb_check_packet(const uint8_t *frame, size_t length, kb_packet *packet); /* 0, or -1: not fit for any TUN */

/* The rest takes what kb_check_packet let pass. */
int kb_decrement_ttl(uint8_t *ip);                         /* 0, or -1: it has expired */
int kb_mark_congestion(uint8_t *frame, size_t length);     /* 1: congestion experienced (RFC 3168), 0: not ECN-capable */
void kb_clamp_mss(uint8_t *frame, size_t length, uint32_t mtu); /* of a SYN, to what fits into mtu */
void kb_complete_checksum(uint8_t *frame, size_t length);  /* what VIRTIO_NET_HDR_F_NEEDS_CSUM asks for */
int kb_is_gso(const uint8_t *frame); /* a super-packet */
int kb_is_uso(const uint8_t *frame); /* UDP segmentation offload, which older kernels do not take */
/* Cuts a super-packet into pieces of `count` packets of the sender's size each, 1: as they go on a wire, with their checksums. 0, or -1. */
int kb_segment_gso(const uint8_t *frame, size_t length, unsigned count, void (*out)(void *, uint8_t *, size_t), void *context);
int kb_prefix_contains(const kb_prefix *prefix, const uint8_t *address, int v6);
int kb_icmp_may_answer(const uint8_t *frame, size_t length); /* may an ICMP error answer it? */
/* The ICMP error about a packet into `out` (KB_ICMP_BYTES): bytes. `source`: 4 or 16 bytes, as the packet's version. */
size_t kb_icmp_error(const uint8_t *frame, size_t length, int what, uint32_t mtu, const uint8_t *source, uint8_t *out);

#endif
