/* What links prove themselves with and trust: an SSL_CTX for the connections of one side, and the words for what libssl refuses. */
#ifndef KUBEEDGE_LINK_CREDENTIALS_H
#define KUBEEDGE_LINK_CREDENTIALS_H

#include "link/tls.h"

#include <openssl/ssl.h>

struct kb_tls {
    SSL_CTX *context;
    int server;
};

void kb_tls_explain(char *error, const char *what, const char *which); /* into `error`, unless that is NULL: what failed, of which file or name, and why */

#endif
