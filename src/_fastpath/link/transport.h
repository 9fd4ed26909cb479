/* What carries the bytes of a link: a reliable, ordered, encrypted stream to a peer that has proved who it is.
 *
 * There is one kind, TLS 1.3 over a connected TCP socket (tls.c). Nothing above this header knows that it is TCP or TLS. */
#ifndef KUBEEDGE_LINK_TRANSPORT_H
#define KUBEEDGE_LINK_TRANSPORT_H

#include "link/buffer.h"

#include <sys/types.h>

#define KB_ERROR 256                /* bytes of an error's text */
#define KB_IDENTITY 256             /* bytes of a peer's URI name */
#define KB_RECORD (16 * 1024)       /* the most that is encrypted in one piece */
#define KB_STAGED_BYTES (256 * 1024) /* encrypted bytes that are written to a socket at once, at most */

/* What the transports of one thread use in turn. */
typedef struct {
    kb_pool pool;
    uint8_t *plain;  /* KB_RECORD bytes: small frames that are to share a record */
    uint8_t *staged; /* KB_STAGED_BYTES: encrypted bytes of the transport at hand, on their way to its socket */
    size_t staged_length;
} kb_workspace;

int kb_workspace_init(kb_workspace *workspace); /* 0, or -1: no memory */
void kb_workspace_free(kb_workspace *workspace);

/* The path below, when it was last looked at. 0: not known. */
typedef struct {
    uint64_t rtt, min_rtt;              /* us */
    uint64_t rate, lowat;               /* bytes/s delivered; bytes that may wait unsent in the kernel */
    uint32_t batch, burst;              /* bytes: of a write; of a super-packet, 0: any */
    char congestion[16], problem[48]; /* congestion control; why it is not the one that was wanted */
} kb_path;

typedef struct kb_transport kb_transport;

/* Every call is with the lock of the thread held and returns at once. `error` has KB_ERROR bytes. */
typedef struct {
    int (*handshake)(kb_transport *t, uint64_t now, char *identity, char *error); /* 1: done, 0: not yet, -1: it failed */
    ssize_t (*read)(kb_transport *t, uint8_t *into, size_t room, char *error);    /* bytes, 0: none now, -1: it has ended */
    int (*write)(kb_transport *t, const uint8_t *data, size_t length);            /* into memory: 0, -1: broken. `flush` follows */
    int (*flush)(kb_transport *t);                  /* to the socket. 0: all of it, 1: some waits for `want`, -1: broken, see errno */
    int (*has_pending)(const kb_transport *t);      /* has it bytes to read that poll() cannot see? */
    void (*inspect_path)(kb_transport *t, uint64_t now); /* brings `path` up to date, when it is time to */
    void (*release_buffers)(kb_transport *t);       /* nothing has moved for a while */
    void (*close)(kb_transport *t);                 /* says goodbye if it can, and frees `t`. The descriptor is the caller's */
} kb_transport_type;

struct kb_transport {
    const kb_transport_type *type;
    kb_workspace *workspace;
    int fd;
    uint32_t want; /* events of epoll to wait for */
    size_t unsent; /* encrypted bytes that the socket has not taken; nothing more is written until they are gone */
    kb_path path;
};

#endif
