/* TLS by libssl over one TCP connection; see transport.h and tls.h.
 *
 * libssl writes into the workspace; the socket gets it in one call, and what it does not take is kept here. */
#include "link/credentials.h"
#include "link/tcp_path.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define READ_AHEAD (66 * 1024) /* TLS bytes that are read at once */

typedef struct {
    kb_transport base; /* first: callers know us by it */
    SSL *ssl;
    uint8_t up, small;  /* the handshake is over; libssl's buffers are still those for its small messages */
    uint32_t records;   /* since the last key */
    uint8_t *unsent;    /* TLS bytes that the socket did not take */
    size_t unsent_at, unsent_length;
    kb_tcp_path path;
} tls_transport;

/* -- the socket ----------------------------------------------------------------------------------------------------------- */

/* libssl writes here, into the workspace; push() follows each call of libssl that may write */
static int tls_out(BIO *bio, const char *data, int length)
{
    kb_workspace *w = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (length <= 0 || w->staged_length + (size_t)length > KB_STAGED_BYTES) {
        BIO_set_retry_write(bio);
        return -1;
    }
    memcpy(w->staged + w->staged_length, data, (size_t)length);
    w->staged_length += (size_t)length;
    return length;
}

static long tls_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *out_method;

static void make_method(void)
{
    out_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "kubeedge");
    if (out_method) {
        BIO_meth_set_write(out_method, tls_out);
        BIO_meth_set_ctrl(out_method, tls_control);
    }
}

/* bytes that went, or -1 with errno */
static ssize_t send_some(int fd, const uint8_t *data, size_t length)
{
    size_t sent = 0;
    while (sent < length) {
        ssize_t n = send(fd, data + sent, length - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                break;
            return -1;
        }
        sent += (size_t)n;
    }
    return (ssize_t)sent;
}

/* Gives the socket what TLS has written. 0: all of it went; 1: some waits (EPOLLOUT will tell); -1: broken. */
static int push(tls_transport *t)
{
    kb_workspace *w = t->base.workspace;
    if (t->unsent) {
        ssize_t n = send_some(t->base.fd, t->unsent + t->unsent_at, t->unsent_length - t->unsent_at);
        if (n < 0)
            return -1;
        t->unsent_at += (size_t)n;
        if (t->unsent_at == t->unsent_length) {
            free(t->unsent);
            t->unsent = NULL;
            t->unsent_at = t->unsent_length = 0;
        }
    }
    size_t sent = 0;
    if (!t->unsent && w->staged_length) {
        ssize_t n = send_some(t->base.fd, w->staged, w->staged_length);
        if (n < 0)
            return -1;
        sent = (size_t)n;
    }
    size_t left = w->staged_length - sent;
    if (left) {
        size_t before = t->unsent_length - t->unsent_at;
        if (before + left > 2 * KB_STAGED_BYTES) {
            errno = ENOBUFS;
            return -1;
        }
        uint8_t *kept = malloc(before + left);
        if (!kept)
            return -1;
        if (before)
            memcpy(kept, t->unsent + t->unsent_at, before);
        memcpy(kept + before, w->staged + sent, left);
        free(t->unsent);
        t->unsent = kept;
        t->unsent_at = 0;
        t->unsent_length = before + left;
    }
    w->staged_length = 0;
    t->base.unsent = t->unsent_length - t->unsent_at;
    t->base.want = t->unsent ? EPOLLIN | EPOLLOUT : EPOLLIN;
    return t->unsent != NULL;
}

static int tls_flush(kb_transport *base) { return push((tls_transport *)base); }

static int tls_write(kb_transport *base, const uint8_t *data, size_t length)
{
    tls_transport *t = (tls_transport *)base;
    while (length) {
        if (++t->records > KB_REKEY_RECORDS) {
            t->records = 1;
            SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED); /* goes out with the next record */
        }
        int n = SSL_write(t->ssl, data, (int)(length < KB_RECORD ? length : KB_RECORD));
        if (n <= 0)
            return -1; /* the memory behind it has room: this is no wait but an end */
        data += n;
        length -= (size_t)n;
    }
    return 0;
}

/* -- receiving ------------------------------------------------------------------------------------------------------------ */

static const char *why_closed(int error)
{
    unsigned long code = ERR_peek_last_error();
    if (error == SSL_ERROR_ZERO_RETURN || ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
        return "closed by the peer";
    if (error == SSL_ERROR_SYSCALL && errno)
        return strerror(errno);
    return code && ERR_reason_error_string(code) ? ERR_reason_error_string(code) : "closed by the peer";
}

static ssize_t tls_read(kb_transport *base, uint8_t *into, size_t room, char *error)
{
    tls_transport *t = (tls_transport *)base;
    if (t->small && SSL_free_buffers(t->ssl))
        t->small = 0;
    ERR_clear_error();
    errno = 0;
    int n = SSL_read(t->ssl, into, (int)room);
    if (n <= 0) {
        int why = SSL_get_error(t->ssl, n);
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
            snprintf(error, KB_ERROR, "%s", why_closed(why));
            return -1;
        }
        n = 0;
    }
    if (base->workspace->staged_length && push(t) < 0) { /* TLS itself has answered something */
        snprintf(error, KB_ERROR, "the connection broke while sending");
        return -1;
    }
    return n;
}

static int tls_has_pending(const kb_transport *base) { return SSL_has_pending(((const tls_transport *)base)->ssl); }

/* -- handshakes ----------------------------------------------------------------------------------------------------------- */

/* The one URI name of the peer's certificate into `uri` (KB_IDENTITY bytes); -1 when there is not exactly one. */
static int peer_uri(SSL *ssl, char *uri)
{
    X509 *certificate = SSL_get0_peer_certificate(ssl);
    GENERAL_NAMES *names = certificate ? X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL) : NULL;
    int found = 0;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        int length = ASN1_STRING_length(name->d.uniformResourceIdentifier);
        const unsigned char *text = ASN1_STRING_get0_data(name->d.uniformResourceIdentifier);
        if (length <= 0 || length > 255 || memchr(text, 0, (size_t)length)) {
            found = -1;
            break;
        }
        memcpy(uri, text, (size_t)length);
        uri[length] = 0;
        found++;
    }
    GENERAL_NAMES_free(names);
    return found == 1 ? 0 : -1;
}

static int tls_handshake(kb_transport *base, uint64_t now, char *identity, char *error)
{
    tls_transport *t = (tls_transport *)base;
    ERR_clear_error();
    errno = 0;
    base->workspace->staged_length = 0;
    int n = SSL_do_handshake(t->ssl);
    int why = n == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, n), number = errno;
    unsigned long code = ERR_peek_last_error();
    long verify = SSL_get_verify_result(t->ssl);
    if (push(t) < 0 && (why == SSL_ERROR_NONE || why == SSL_ERROR_WANT_READ)) {
        why = SSL_ERROR_SYSCALL;
        number = errno;
    }
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return 0;
    if (why != SSL_ERROR_NONE) {
        const char *text = code ? ERR_reason_error_string(code) : NULL;
        if (verify != X509_V_OK)
            snprintf(error, KB_ERROR, "certificate refused: %s", X509_verify_cert_error_string(verify));
        else
            snprintf(error, KB_ERROR, "TLS handshake failed: %s", text ? text : number ? strerror(number) : "closed by the peer");
        return -1;
    }
    if (verify != X509_V_OK || peer_uri(t->ssl, identity) < 0) {
        snprintf(error, KB_ERROR, "the peer's certificate does not have exactly one URI name");
        return -1;
    }
    t->up = 1;
    t->small = !SSL_free_buffers(t->ssl); /* they were for small messages; the next are for data */
    SSL_set_default_read_buffer_len(t->ssl, READ_AHEAD);
    kb_tcp_path_look(&t->path, &base->path, base->fd, now);
    return 1;
}

/* -- the rest of a transport ---------------------------------------------------------------------------------------------- */

static void tls_inspect_path(kb_transport *base, uint64_t now)
{
    tls_transport *t = (tls_transport *)base;
    if (kb_tcp_path_is_due(&t->path, now))
        kb_tcp_path_look(&t->path, &base->path, base->fd, now);
}

static void tls_release_buffers(kb_transport *base) { SSL_free_buffers(((tls_transport *)base)->ssl); }

static void tls_close(kb_transport *base)
{
    tls_transport *t = (tls_transport *)base;
    kb_workspace *w = base->workspace;
    w->staged_length = 0;
    if (t->up && !t->unsent) {
        SSL_shutdown(t->ssl);
        send_some(base->fd, w->staged, w->staged_length);
    }
    w->staged_length = 0;
    SSL_free(t->ssl);
    ERR_clear_error();
    free(t->unsent);
    free(t);
}

static const kb_transport_type tls_type = {
    .handshake = tls_handshake,
    .read = tls_read,
    .write = tls_write,
    .flush = tls_flush,
    .has_pending = tls_has_pending,
    .inspect_path = tls_inspect_path,
    .release_buffers = tls_release_buffers,
    .close = tls_close,
};

/* Which server the certificate must be for. 0, or -1 */
static int expect_server(SSL *ssl, const char *name)
{
    X509_VERIFY_PARAM *verify = SSL_get0_param(ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(verify, name) == 1)
        return 0;
    return X509_VERIFY_PARAM_set1_host(verify, name, 0) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1 ? 0 : -1;
}

/* An SSL that reads from the socket and writes into the workspace. NULL: no memory, or the socket is no socket */
static SSL *ssl_new(kb_workspace *workspace, int fd, const kb_tls *tls)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_method);
    SSL *ssl = SSL_new(tls->context);
    BIO *in = BIO_new_socket(fd, BIO_NOCLOSE), *out = out_method ? BIO_new(out_method) : NULL;
    if (!ssl || !in || !out || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) {
        BIO_free(in);
        BIO_free(out);
        SSL_free(ssl);
        return NULL;
    }
    BIO_set_data(out, workspace);
    BIO_set_init(out, 1);
    SSL_set_bio(ssl, in, out);
    return ssl;
}

kb_transport *kb_tls_open(kb_workspace *workspace, int fd, kb_tls *tls, const char *server_name, const char *congestion, uint64_t now, char *error)
{
    ERR_clear_error();
    int one = 1, user_timeout = 20000;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof user_timeout);
    tls_transport *t = calloc(1, sizeof *t);
    SSL *ssl = t ? ssl_new(workspace, fd, tls) : NULL;
    if (!ssl) {
        kb_tls_explain(error, "link", "");
        free(t);
        return NULL;
    }
    if (tls->server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
        if (expect_server(ssl, server_name) < 0) {
            kb_tls_explain(error, "server name", server_name);
            SSL_free(ssl);
            free(t);
            return NULL;
        }
        ERR_clear_error();
    }
    t->base = (kb_transport){.type = &tls_type, .workspace = workspace, .fd = fd, .want = EPOLLIN | EPOLLOUT};
    t->ssl = ssl;
    kb_tcp_path_open(&t->path, &t->base.path, fd, congestion, now);
    return &t->base;
}
