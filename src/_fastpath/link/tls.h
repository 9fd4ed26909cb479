/* TLS 1.3 over TCP: the one transport of links (transport.h). */
#ifndef KUBEEDGE_LINK_TLS_H
#define KUBEEDGE_LINK_TLS_H

#include "link/transport.h"

#ifndef KB_REKEY_RECORDS
#define KB_REKEY_RECORDS (1u << 23) /* AES-GCM stays safe below 2^24.5 records a key (RFC 8446, 5.5) */
#endif

/* Credentials, which many links share. `error`: KB_ERROR bytes. */
typedef struct kb_tls kb_tls;

kb_tls *kb_tls_new(const char *ca, const char *cert, const char *key, int server, char *error);
void kb_tls_free(kb_tls *tls);

/* `fd`: a connected socket, which stays the caller's. `server_name`: what the server's certificate must be for. `congestion`: the congestion control
 * to use; "": bbr on a long path, cubic on a short one. NULL: see error. */
kb_transport *kb_tls_open(kb_workspace *workspace, int fd, kb_tls *tls, const char *server_name, const char *congestion, uint64_t now, char *error);

#endif
