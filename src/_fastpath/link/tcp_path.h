/* The path of a TCP connection: how much may wait in the kernel, and which congestion control fits. */
#ifndef KUBEEDGE_LINK_TCP_PATH_H
#define KUBEEDGE_LINK_TCP_PATH_H

#include "link/transport.h"

typedef struct {
    uint8_t wan, fixed;            /* its round trip is long; the congestion control was configured */
    uint8_t startup, capped, flat; /* BBR is in its startup; we cap its rate; looks since it grew */
    uint64_t startup_rate, looked_at;
} kb_tcp_path;

void kb_tcp_path_open(kb_tcp_path *p, kb_path *path, int fd, const char *congestion, uint64_t now); /* congestion: as in kb_tls_open */
void kb_tcp_path_look(kb_tcp_path *p, kb_path *path, int fd, uint64_t now);
int kb_tcp_path_is_due(const kb_tcp_path *p, uint64_t now); /* is it time for another look at a busy path? */

#endif
