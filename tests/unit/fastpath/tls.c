/* Two links of one thread share the memory into which libssl writes. What it writes for one goes to that one, and nothing stays.
 *
 *     tls CA CERT KEY PEER-CERT PEER-KEY
 */
#include "link/tls.h"

#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REQUIRE(what)                                          \
    do {                                                       \
        if (!(what)) {                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #what); \
            exit(1);                                           \
        }                                                      \
    } while (0)

typedef struct {
    kb_transport *ours;
    SSL *peer;
    int up;
} pair;

static SSL_CTX *peers;
static kb_tls *tls;

static pair open_pair(kb_workspace *workspace)
{
    int fds[2], one = 1;
    char error[KB_ERROR] = "", identity[KB_IDENTITY];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    pair p = {kb_tls_open(workspace, fds[0], tls, "", "", 1000000, error), SSL_new(peers), 0};
    REQUIRE(p.ours && p.peer && SSL_set_fd(p.peer, fds[1]) == 1);
    SSL_set_connect_state(p.peer);
    for (int n = 0; n < 20 && one; n++) {
        SSL_do_handshake(p.peer);
        int done = p.ours->type->handshake(p.ours, 1000000, identity, error);
        if (done < 0)
            fprintf(stderr, "%s\n", error);
        REQUIRE(done >= 0);
        p.up = done;
        one = !done;
    }
    REQUIRE(p.up && !strncmp(identity, "spiffe://", 9));
    return p;
}

static void close_pair(pair *p)
{
    int fd = p->ours->fd, other = SSL_get_fd(p->peer);
    p->ours->type->close(p->ours);
    SSL_free(p->peer);
    close(fd);
    close(other);
}

static void transfer_works(pair *p)
{
    uint8_t got[16];
    char error[KB_ERROR];
    REQUIRE(SSL_write(p->peer, "ping", 4) == 4);
    REQUIRE(p->ours->type->read(p->ours, got, sizeof got, error) == 4 && !memcmp(got, "ping", 4));
    REQUIRE(p->ours->type->write(p->ours, (const uint8_t *)"pong", 4) == 0 && p->ours->type->flush(p->ours) == 0);
    REQUIRE(SSL_read(p->peer, got, sizeof got) == 4 && !memcmp(got, "pong", 4));
}

int main(int argc, char **argv)
{
    kb_workspace workspace;
    char error[KB_ERROR] = "";
    uint8_t got[16];
    REQUIRE(argc == 6);
    tls = kb_tls_new(argv[1], argv[2], argv[3], 1, error);
    peers = SSL_CTX_new(TLS_client_method());
    REQUIRE(tls && peers && kb_workspace_init(&workspace) == 0);
    REQUIRE(SSL_CTX_use_certificate_chain_file(peers, argv[4]) == 1 && SSL_CTX_use_PrivateKey_file(peers, argv[5], SSL_FILETYPE_PEM) == 1);
    pair a = open_pair(&workspace), b = open_pair(&workspace);
    transfer_works(&a);
    transfer_works(&b);
    /* a wants new keys from us, and has more to say */
    REQUIRE(SSL_key_update(a.peer, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_write(a.peer, "more", 4) == 4);
    REQUIRE(a.ours->type->read(a.ours, got, sizeof got, error) == 4);
    REQUIRE(workspace.staged_length == 0); /* or b's next call would send it to b */
    transfer_works(&b);
    transfer_works(&a);
    close_pair(&a);
    close_pair(&b);
    kb_workspace_free(&workspace);
    kb_tls_free(tls);
    SSL_CTX_free(peers);
    puts("ok");
    return 0;
}
