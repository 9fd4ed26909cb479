/* What the files of packet/ know of the headers of virtio, IP and what is inside it. */
#ifndef KUBEEDGE_PACKET_HEADERS_H
#define KUBEEDGE_PACKET_HEADERS_H

#include "packet/bytes.h"

#include <stddef.h>

/* virtio_net_hdr: flags u8, gso_type u8, hdr_len u16, gso_size u16, csum_start u16, csum_offset u16, little endian */
enum { NEEDS_CSUM = 1, DATA_VALID = 2 };
enum { GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_UDP_L4 = 5, GSO_ECN = 0x80 };
enum { TCP = 6, UDP = 17, ICMP = 1, ICMPV6 = 58 };

/* Where the transport header starts and its protocol; 0 when it cannot be said (fragments, extension headers). */
static inline size_t kb_transport(const uint8_t *ip, size_t length, int *protocol)
{
    if (ip[0] >> 4 == 4) {
        *protocol = ip[9];
        if (get16(ip + 6) & 0x3fff)
            return 0;
        return (size_t)(ip[0] & 15) * 4;
    }
    *protocol = ip[6];
    return *protocol == TCP || *protocol == UDP || *protocol == ICMPV6 ? (length >= 40 ? 40 : 0) : 0;
}

#endif
