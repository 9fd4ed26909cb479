/* See credentials.h. */
#include "link/credentials.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void kb_tls_explain(char *error, const char *what, const char *which)
{
    if (!error)
        return;
    unsigned long code = ERR_peek_error();
    const char *reason = !code ? strerror(errno) : ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    snprintf(error, 256, "%s%s%.150s: %s", what, *which ? " " : "", which, reason ? reason : "TLS error");
    ERR_clear_error();
}

kb_tls *kb_tls_new(const char *ca, const char *cert, const char *key, int server, char *error)
{
    ERR_clear_error();
    kb_tls *tls = calloc(1, sizeof *tls);
    SSL_CTX *c = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (!tls || !c) {
        kb_tls_explain(error, "no memory for TLS", "");
        goto failed;
    }
    SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384");
    SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(c, 1);
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(c, 0);
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_verify_depth(c, 4);
    SSL_CTX_set_max_cert_list(c, 16 * 1024);
    if (SSL_CTX_load_verify_locations(c, ca, NULL) != 1) {
        kb_tls_explain(error, "cannot load the CA certificate", ca);
        goto failed;
    }
    if (SSL_CTX_use_certificate_chain_file(c, cert) != 1) {
        kb_tls_explain(error, "cannot load the certificate", cert);
        goto failed;
    }
    if (SSL_CTX_use_PrivateKey_file(c, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(c) != 1) {
        kb_tls_explain(error, "cannot load the key", key);
        goto failed;
    }
    tls->context = c;
    tls->server = server;
    return tls;
failed:
    SSL_CTX_free(c);
    free(tls);
    return NULL;
}

void kb_tls_free(kb_tls *tls)
{
    if (tls) {
        SSL_CTX_free(tls->context);
        free(tls);
    }
}
