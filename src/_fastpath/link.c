/* A link: TLS by libssl over one TCP connection, frames in and out of it.
 *
 * What TLS writes is gathered and goes to the socket in one call of up to `batch` bytes; what the socket does not take is kept, and
 * nothing more is encrypted until it is gone, so an urgent frame waits behind a batch at most. A path that is slow gets smaller
 * batches, a smaller TCP_NOTSENT_LOWAT and smaller super-packets. A link that is idle gives its buffers back.
 */
#include "plane_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAN_RTT 3000u           /* us: from here a path counts as a long one */
#define LOOK_EVERY 1000000u     /* us between two looks at the path of a busy link */
#define STARTUP_EVERY 100000u   /* while BBR is in its startup */
#define STARTUP_FLAT 3          /* looks without growth that are enough */
#define STARTUP_GAIN 512u       /* BBR's pacing gain there is 739/256; later 320/256 at most */
#define SLOW 40000000u          /* bytes/s: below, a path is too slow for packets of 64 KiB */

static void explain(char *error, const char *what, const char *which)
{
    if (!error)
        return;
    unsigned long code = ERR_peek_error();
    const char *reason = !code ? strerror(errno) : ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    snprintf(error, 256, "%s%s%.150s: %s", what, *which ? " " : "", which, reason ? reason : "TLS error");
    ERR_clear_error();
}

/* -- TLS contexts --------------------------------------------------------------------------------------------------------- */

kb_tls *kb_tls_new(const char *ca, const char *cert, const char *key, int server, char *error)
{
    ERR_clear_error();
    kb_tls *tls = calloc(1, sizeof *tls);
    SSL_CTX *c = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (!tls || !c) {
        explain(error, "no memory for TLS", "");
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
        explain(error, "cannot load the CA certificate", ca);
        goto failed;
    }
    if (SSL_CTX_use_certificate_chain_file(c, cert) != 1) {
        explain(error, "cannot load the certificate", cert);
        goto failed;
    }
    if (SSL_CTX_use_PrivateKey_file(c, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(c) != 1) {
        explain(error, "cannot load the key", key);
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

/* -- the socket ----------------------------------------------------------------------------------------------------------- */

/* libssl writes here, into the plane's memory; push() follows each call of libssl that may write */
static int tls_out(BIO *bio, const char *data, int length)
{
    port *p = BIO_get_data(bio);
    kb_plane *plane = p->plane;
    BIO_clear_retry_flags(bio);
    if (length <= 0 || plane->tx_length + (size_t)length > TX_BYTES) {
        BIO_set_retry_write(bio);
        return -1;
    }
    memcpy(plane->tx + plane->tx_length, data, (size_t)length);
    plane->tx_length += (size_t)length;
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
static int push(kb_plane *plane, port *p)
{
    if (p->unsent) {
        ssize_t n = send_some(p->fd, p->unsent + p->unsent_at, p->unsent_length - p->unsent_at);
        if (n < 0)
            return -1;
        p->unsent_at += (size_t)n;
        if (p->unsent_at == p->unsent_length) {
            free(p->unsent);
            p->unsent = NULL;
            p->unsent_at = p->unsent_length = 0;
        }
    }
    size_t sent = 0;
    if (!p->unsent && plane->tx_length) {
        ssize_t n = send_some(p->fd, plane->tx, plane->tx_length);
        if (n < 0)
            return -1;
        sent = (size_t)n;
    }
    size_t left = plane->tx_length - sent;
    if (left) {
        size_t before = p->unsent_length - p->unsent_at;
        if (before + left > 2 * TX_BYTES) {
            errno = ENOBUFS;
            return -1;
        }
        uint8_t *kept = malloc(before + left);
        if (!kept)
            return -1;
        if (before)
            memcpy(kept, p->unsent + p->unsent_at, before);
        memcpy(kept + before, plane->tx + sent, left);
        free(p->unsent);
        p->unsent = kept;
        p->unsent_at = 0;
        p->unsent_length = before + left;
    }
    plane->tx_length = 0;
    p->blocked = p->unsent != NULL;
    if (kb_port_poll(plane, p, p->blocked ? EPOLLIN | EPOLLOUT : EPOLLIN) < 0)
        return -1;
    return p->blocked;
}

/* -- the path ------------------------------------------------------------------------------------------------------------- */

static void set_congestion(port *p, const char *wanted)
{
    socklen_t size = sizeof p->congestion - 1;
    p->complaint[0] = 0;
    if (setsockopt(p->fd, IPPROTO_TCP, TCP_CONGESTION, wanted, (socklen_t)strlen(wanted)) < 0)
        snprintf(p->complaint, sizeof p->complaint, "%s: %s", wanted,
                 errno == EPERM    ? "not allowed"
                 : errno == ENOENT ? "not in this kernel"
                                   : strerror(errno));
    memset(p->congestion, 0, sizeof p->congestion);
    if (getsockopt(p->fd, IPPROTO_TCP, TCP_CONGESTION, p->congestion, &size) < 0)
        p->congestion[0] = 0; /* no TCP: a socket pair of a test */
    p->startup = strcmp(p->congestion, "bbr") == 0;
}

/* BBR leaves its startup when the delivered rate stops growing in rounds in which the sender was not the limit. A tunnel is always
 * the limit: the connections inside wait for acknowledgements that pass through the queue that BBR has built, so our own queue is
 * empty and BBR sends at 2.9 times the path's rate for ever, into a full buffer. When that shows (more in flight than the path holds,
 * the round trip far above its minimum, no growth), the rate is capped at the path's: the backlog moves into our fair queue, BBR sees a
 * sender that is not the limit, finds the pipe full, and the cap goes. */
static uint64_t bbr_startup(port *p, const struct tcp_info *info, uint32_t min_rtt)
{
    union tcp_cc_info cc;
    socklen_t size = sizeof cc;
    memset(&cc, 0, sizeof cc);
    if (strcmp(p->congestion, "bbr") != 0 || getsockopt(p->fd, IPPROTO_TCP, TCP_CC_INFO, &cc, &size) < 0 || size < sizeof cc.bbr)
        return 0;
    uint64_t rate = (uint64_t)cc.bbr.bbr_bw_hi << 32 | cc.bbr.bbr_bw_lo;
    p->startup = cc.bbr.bbr_pacing_gain > STARTUP_GAIN;
    uint64_t flying = (uint64_t)info->tcpi_unacked * info->tcpi_snd_mss, held = rate * min_rtt / 1000000;
    unsigned long cap = 0;
    if (rate > p->startup_rate + p->startup_rate / 4) { /* it still grows */
        p->startup_rate = rate;
        p->flat = 0;
    } else if (p->flat < 255) {
        p->flat++;
    }
    if (p->startup && !p->capped && p->flat >= STARTUP_FLAT && rate && flying > held && info->tcpi_rtt > min_rtt + min_rtt / 4 + 1000)
        cap = (unsigned long)(rate - rate / 8);
    else if (!p->startup && p->capped)
        cap = ~0ul;
    if (cap && setsockopt(p->fd, SOL_SOCKET, SO_MAX_PACING_RATE, &cap, sizeof cap) == 0)
        p->capped = cap != ~0ul;
    return rate;
}

/* Round trip and rate of the path decide how much may wait in the kernel, and which congestion control fits. */
static void look_at_path(kb_plane *plane, port *p)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    memset(&info, 0, sizeof info);
    p->tuned = plane->now;
    if (getsockopt(p->fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return;
    uint32_t rtt = info.tcpi_min_rtt && info.tcpi_min_rtt != UINT32_MAX ? info.tcpi_min_rtt : info.tcpi_rtt;
    uint64_t rate = info.tcpi_delivery_rate; /* bytes/s; 0: not known */
    int wan = rtt >= WAN_RTT, slow = wan || (rate && rate < SLOW && !info.tcpi_delivery_rate_app_limited);
    p->counters.rtt = info.tcpi_rtt;
    p->counters.min_rtt = rtt;
    p->counters.rate = rate;
    uint64_t bandwidth = bbr_startup(p, &info, rtt);
    if (bandwidth)
        rate = bandwidth;
    if (!p->fixed_congestion && (wan != p->wan || !p->congestion[0]))
        set_congestion(p, wan ? "bbr" : "cubic");
    p->wan = (uint8_t)wan;
    int lowat = 128 * 1024;
    p->batch = 64 * 1024;
    p->burst = 0;
    if (slow) { /* about 2 ms of the path in the kernel, and packets of less than that */
        uint64_t bytes = rate / 500;
        lowat = bytes < 32 * 1024 ? 32 * 1024 : bytes > 128 * 1024 ? 128 * 1024 : (int)bytes;
        p->batch = (uint32_t)lowat / 2;
        p->burst = rate < 2500000 ? 3000 : rate < SLOW ? (uint32_t)(rate / 1000 < 6000 ? 6000 : rate / 1000) : 0;
        if (!rate)
            p->burst = 16 * 1024;
    }
    if (lowat != (int)p->counters.lowat && setsockopt(p->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat) == 0)
        p->counters.lowat = (uint64_t)lowat;
}

int kb_link_open(kb_plane *plane, port *p, int fd, kb_tls *tls, const char *server_name, const char *control, char *error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_method);
    ERR_clear_error();
    int one = 1, user_timeout = 20000;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof user_timeout);
    p->batch = 64 * 1024;
    SSL *ssl = SSL_new(tls->context);
    BIO *in = BIO_new_socket(fd, BIO_NOCLOSE), *out = out_method ? BIO_new(out_method) : NULL;
    if (!ssl || !in || !out || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) {
        explain(error, "link", "");
        BIO_free(in);
        BIO_free(out);
        SSL_free(ssl);
        return -1;
    }
    BIO_set_data(out, p);
    BIO_set_init(out, 1);
    SSL_set_bio(ssl, in, out);
    if (tls->server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
        X509_VERIFY_PARAM *verify = SSL_get0_param(ssl);
        if (X509_VERIFY_PARAM_set1_ip_asc(verify, server_name) != 1 &&
            (X509_VERIFY_PARAM_set1_host(verify, server_name, 0) != 1 || SSL_set_tlsext_host_name(ssl, server_name) != 1)) {
            explain(error, "server name", server_name);
            SSL_free(ssl);
            return -1;
        }
        ERR_clear_error();
    }
    p->ssl = ssl;
    p->fd = fd;
    if (*control) {
        p->fixed_congestion = 1;
        set_congestion(p, control);
    }
    look_at_path(plane, p);
    return 0;
}

void kb_link_close(kb_plane *plane, port *p)
{
    if (p->ssl) {
        plane->tx_length = 0;
        if (p->up && !p->unsent) {
            SSL_shutdown(p->ssl);
            send_some(p->fd, plane->tx, plane->tx_length);
        }
        plane->tx_length = 0;
        SSL_free(p->ssl);
        p->ssl = NULL;
    }
    ERR_clear_error();
    if (p->queue) {
        kb_count_queued(plane, p, p->queue->bytes, 0);
        kb_queue_clear(p->queue, &plane->pool);
        free(p->queue);
        p->queue = NULL;
    }
    free(p->unsent);
    p->unsent = NULL;
    kb_buffer_free(&plane->pool, p->reader.frame);
    p->reader.frame = NULL;
    free(p->prefixes);
    p->prefixes = NULL;
}

/* Nothing moved for a while: what libssl and the queue hold goes back. */
void kb_link_release_buffers(port *p)
{
    if (p->ssl)
        SSL_free_buffers(p->ssl);
    if (p->queue && !p->queue->bytes && !p->queue->control && !p->queue->flows) {
        free(p->queue);
        p->queue = NULL;
    }
}

/* -- sending -------------------------------------------------------------------------------------------------------------- */

size_t kb_link_queued(const port *p)
{
    size_t waiting = p->unsent_length - p->unsent_at;
    return p->queue ? waiting + p->queue->bytes + p->queue->control_bytes : waiting;
}

void kb_count_queued(kb_plane *plane, port *p, size_t before, size_t after)
{
    tenant *t = p->peer ? NULL : kb_tenant_of(plane, p->tenant, 0);
    plane->queued += after - before;
    if (t)
        t->queued += after - before;
}

static void put_header(kb_buffer *b, int kind, size_t payload)
{
    b->start -= KB_HEADER;
    uint8_t *to = b->data + b->start;
    to[0] = (uint8_t)kind;
    to[1] = (uint8_t)(payload >> 16);
    to[2] = (uint8_t)(payload >> 8);
    to[3] = (uint8_t)payload;
    b->length = (uint32_t)(KB_HEADER + payload);
}

static kb_queue *queue_of(port *p)
{
    if (!p->queue)
        p->queue = calloc(1, sizeof *p->queue);
    return p->queue;
}

static void count_drops(kb_plane *plane, port *p, kb_buffer *dropped, uint64_t *counter)
{
    while (dropped) {
        kb_buffer *b = dropped;
        dropped = b->next;
        (*counter)++;
        (void)p;
        kb_buffer_free(&plane->pool, b);
    }
}

int kb_link_enqueue(kb_plane *plane, port *to, int kind, uint32_t tenant_number, kb_buffer *b, size_t length, uint32_t flow, int own)
{
    kb_queue *q = queue_of(to);
    /* all links of a tenant together have a bound too; beyond it each has an eighth of its own. A link to a relay carries many tenants */
    const tenant *t = to->peer ? NULL : kb_tenant_of(plane, to->tenant, 0);
    size_t limit = t && t->queued > kb_share_of(KB_QUEUES_BYTES, plane->queued, KB_QUEUE_BYTES) ? KB_QUEUE_BYTES / 8 : KB_QUEUE_BYTES;
    size_t waiting = to->unsent_length - to->unsent_at; /* what TLS has written and the socket has not taken counts, too */
    limit -= waiting < limit / 2 ? waiting : limit / 2;
    if (!q || (own && q->bytes > limit)) {
        to->counters.queue_full++;
        kb_buffer_free(&plane->pool, b);
        return -1;
    }
    b->start = KB_HEADROOM;
    if (to->peer) {
        b->start -= 4;
        put32(b->data + b->start, tenant_number);
        length += 4;
        kind += KB_TENANT_PACKET - KB_PACKET;
    }
    put_header(b, kind, length);
    kb_buffer *dropped = NULL;
    size_t before = q->bytes;
    kb_queue_put(q, b, flow, (uint32_t)plane->now, own ? SIZE_MAX : limit, &dropped);
    kb_count_queued(plane, to, before, q->bytes);
    int kept = dropped != b;
    count_drops(plane, to, dropped, &to->counters.queue_full);
    if (!to->blocked)
        kb_port_enlist(plane, to, TO_FLUSH);
    return kept ? 0 : -1;
}

int kb_link_enqueue_control(kb_plane *plane, port *to, const uint8_t *data, size_t length)
{
    kb_queue *q = queue_of(to);
    /* control may pass a full queue, but not without end: a link that takes nothing is closed by its silence */
    kb_buffer *b = q && q->control_bytes <= KB_QUEUE_BYTES ? kb_buffer_new(&plane->pool, length) : NULL;
    if (!b) {
        to->counters.queue_full++;
        return -1;
    }
    if (length)
        memcpy(b->data + KB_HEADROOM, data, length);
    put_header(b, KB_CONTROL, length);
    kb_queue_put_control(q, b);
    if (!to->blocked)
        kb_port_enlist(plane, to, TO_FLUSH);
    return 0;
}

static int encrypt(port *p, const uint8_t *data, size_t length)
{
    while (length) {
        if (++p->records > KB_REKEY_RECORDS) {
            p->records = 1;
            SSL_key_update(p->ssl, SSL_KEY_UPDATE_NOT_REQUESTED); /* goes out with the next record */
        }
        int n = SSL_write(p->ssl, data, (int)(length < RECORD ? length : RECORD));
        if (n <= 0)
            return -1; /* the memory behind it has room: this is no wait but an end */
        data += n;
        length -= (size_t)n;
        p->counters.tx_bytes += (uint64_t)n;
    }
    return 0;
}

/* Encrypts frames until a batch is full or the queue is empty. */
static int fill(kb_plane *plane, port *p)
{
    size_t gathered = 0;
    int broken = 0;
    while (!broken && plane->tx_length + gathered < p->batch) {
        kb_buffer *dropped = NULL;
        size_t before = p->queue->bytes;
        kb_buffer *b = kb_queue_get(p->queue, (uint32_t)plane->now, &dropped);
        kb_count_queued(plane, p, before, p->queue->bytes);
        count_drops(plane, p, dropped, &p->counters.delay_dropped);
        p->counters.marked += p->queue->marked;
        p->queue->marked = 0;
        if (!b)
            break;
        const uint8_t *frame = b->data + b->start;
        if (gathered && gathered + b->length > RECORD) {
            broken = encrypt(p, plane->plain, gathered);
            gathered = 0;
        }
        if (b->length < COALESCE) {
            memcpy(plane->plain + gathered, frame, b->length);
            gathered += b->length;
        } else {
            if (gathered) { /* fill its record up with the beginning of this frame */
                size_t rest = RECORD - gathered < b->length ? RECORD - gathered : b->length;
                memcpy(plane->plain + gathered, frame, rest);
                broken = encrypt(p, plane->plain, gathered + rest) < 0 || encrypt(p, frame + rest, b->length - rest) < 0;
                gathered = 0;
            } else {
                broken = encrypt(p, frame, b->length);
            }
        }
        kb_buffer_free(&plane->pool, b);
    }
    if (!broken && gathered)
        broken = encrypt(p, plane->plain, gathered);
    return broken ? -1 : 0;
}

void kb_link_flush(kb_plane *plane, port *p)
{
    size_t total = 0;
    if (!p->up || p->down)
        return;
    ERR_clear_error();
    plane->tx_length = 0;
    for (;;) {
        if (p->blocked) {
            int left = push(plane, p);
            if (left < 0) {
                kb_port_down(plane, p, errno ? strerror(errno) : "the connection broke while sending");
                return;
            }
            if (left)
                break;
        }
        if (total >= FLUSH_BYTES) {
            kb_port_enlist(plane, p, TO_FLUSH);
            break;
        }
        if (!p->queue || (!p->queue->bytes && !p->queue->control))
            break;
        errno = 0;
        if (fill(plane, p) < 0 || push(plane, p) < 0) {
            kb_port_down(plane, p, errno ? strerror(errno) : "the connection broke while sending");
            return;
        }
        total += p->batch;
        if (p->blocked)
            break;
    }
    if (plane->now - p->tuned >= (p->startup ? STARTUP_EVERY : LOOK_EVERY))
        look_at_path(plane, p);
    kb_port_set_deadline_list(plane, p, WARM);
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

void kb_link_read(kb_plane *plane, port *p)
{
    size_t total = 0;
    kb_port_set_deadline_list(plane, p, WARM);
    if (p->small && SSL_free_buffers(p->ssl))
        p->small = 0;
    while (total < READ_BYTES) {
        uint8_t *into;
        size_t room = kb_reader_want(&p->reader, &into, plane->plain, RECORD);
        ERR_clear_error();
        errno = 0;
        int n = SSL_read(p->ssl, into, (int)room);
        if (n <= 0) {
            int why = SSL_get_error(p->ssl, n);
            if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
                kb_port_down(plane, p, why_closed(why));
                return;
            }
            if (plane->tx_length && push(plane, p) < 0) /* an answer of TLS itself */
                kb_port_down(plane, p, "the connection broke while sending");
            return;
        }
        total += (size_t)n;
        p->counters.rx_bytes += (uint64_t)n;
        int got = kb_reader_took(&p->reader, (size_t)n, p->admitted, &plane->pool);
        if (got < 0) {
            char reason[96];
            const uint8_t *h = p->reader.head;
            if (got == -2)
                snprintf(reason, sizeof reason, "no memory for a frame");
            else
                snprintf(reason, sizeof reason, "frame of kind %d with %u bytes", h[0], (unsigned)(h[1] << 16 | h[2] << 8 | h[3]));
            kb_port_down(plane, p, reason);
            return;
        }
        if (got) {
            kb_buffer *b = p->reader.frame;
            p->reader.frame = NULL;
            kb_forward_frame(plane, p, p->reader.kind, b);
            if (p->down)
                return;
        }
    }
    kb_port_enlist(plane, p, TO_READ); /* TLS may hold what epoll does not see */
}

/* -- handshakes ----------------------------------------------------------------------------------------------------------- */

/* The one URI name of the peer's certificate into `uri` (256 bytes); -1 when there is not exactly one. */
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

void kb_link_handshake(kb_plane *plane, port *p)
{
    ERR_clear_error();
    errno = 0;
    plane->tx_length = 0;
    int n = SSL_do_handshake(p->ssl);
    int why = n == 1 ? SSL_ERROR_NONE : SSL_get_error(p->ssl, n), error = errno;
    unsigned long code = ERR_peek_last_error();
    long verify = SSL_get_verify_result(p->ssl);
    if (push(plane, p) < 0 && (why == SSL_ERROR_NONE || why == SSL_ERROR_WANT_READ)) {
        why = SSL_ERROR_SYSCALL;
        error = errno;
    }
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return;
    char reason[200], uri[256];
    if (why != SSL_ERROR_NONE) {
        const char *text = code ? ERR_reason_error_string(code) : NULL;
        if (verify != X509_V_OK)
            snprintf(reason, sizeof reason, "certificate refused: %s", X509_verify_cert_error_string(verify));
        else
            snprintf(reason, sizeof reason, "TLS handshake failed: %s", text ? text : error ? strerror(error) : "closed by the peer");
        kb_port_down(plane, p, reason);
        return;
    }
    if (verify != X509_V_OK || peer_uri(p->ssl, uri) < 0) {
        kb_port_down(plane, p, "the peer's certificate does not have exactly one URI name");
        return;
    }
    p->up = 1;
    plane->handshakes--;
    p->small = !SSL_free_buffers(p->ssl); /* they were for small messages; the next are for data */
    SSL_set_default_read_buffer_len(p->ssl, READ_AHEAD);
    kb_port_set_deadline_list(plane, p, WARM);
    look_at_path(plane, p);
    kb_emit(plane, KB_EVENT_UP, p, 0, 0, 0, uri, strlen(uri));
    kb_port_enlist(plane, p, TO_FLUSH);
    kb_port_enlist(plane, p, TO_READ); /* the first frame may have come with the handshake */
}
