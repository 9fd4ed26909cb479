/* Small keep-alive GETs at a constant rate over HTTP/1.1, one after the other on each of COUNT connections.
 *
 *     load ADDRESS PORT PATH HOST CONNECTIONS RATE SECONDS
 *
 * Latency counts from the moment at which the request was due, so that a stall counts for everybody who had to wait behind it. Prints
 * "requests errors p50 p99 max" in microseconds, of the time after the first half second.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int fd, busy;
    uint64_t due;
    size_t got;
    char in[16384];
} link_t;

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Bytes of the answer when it is whole, 0: not yet, -1: not an answer of 200 with a length */
static long whole(const link_t *l)
{
    const char *end = memmem(l->in, l->got, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (strncmp(l->in, "HTTP/1.1 200", 12))
        return -1;
    long length = -1;
    for (const char *line = l->in; line < end; line = memchr(line, '\n', (size_t)(end + 2 - line)) + 1)
        if (!strncasecmp(line, "content-length:", 15))
            length = atol(line + 15);
    if (length < 0)
        return -1;
    long size = end + 4 - l->in + length;
    return (long)l->got >= size ? size : 0;
}

int main(int argc, char **argv)
{
    if (argc != 8)
        return 2;
    int count = atoi(argv[5]);
    double rate = atof(argv[6]), seconds = atof(argv[7]);
    char request[1024];
    int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", argv[3], argv[4]);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &to.sin_addr);
    link_t *links = calloc((size_t)count, sizeof *links);
    uint64_t total = (uint64_t)(rate * seconds), sent = 0, done = 0, errors = 0;
    uint32_t *times = calloc(total + 1, sizeof *times);
    size_t measured = 0;
    int epoll = epoll_create1(0), one = 1;
    for (int i = 0; i < count; i++) {
        links[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(links[i].fd, (struct sockaddr *)&to, sizeof to) < 0) {
            perror("connect");
            return 1;
        }
        setsockopt(links[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event e = {.events = EPOLLIN, .data = {.u32 = (uint32_t)i}};
        epoll_ctl(epoll, EPOLL_CTL_ADD, links[i].fd, &e);
    }
    uint64_t begun = now_us(), give_up = begun + (uint64_t)(seconds * 1e6) + 5000000;
    int next = 0;
    while (done + errors < total && now_us() < give_up) {
        uint64_t now = now_us();
        while (sent < total && begun + (uint64_t)((double)sent * 1e6 / rate) <= now) {
            int tries = 0;
            while (links[next].busy && tries++ < count)
                next = (next + 1) % count;
            link_t *l = &links[next];
            if (l->busy)
                break; /* all are waiting: the request stays due */
            l->due = begun + (uint64_t)((double)sent * 1e6 / rate);
            l->busy = 1;
            l->got = 0;
            if (send(l->fd, request, (size_t)length, MSG_NOSIGNAL) != length)
                errors++;
            sent++;
            next = (next + 1) % count;
        }
        uint64_t due = sent < total ? begun + (uint64_t)((double)sent * 1e6 / rate) : give_up;
        now = now_us();
        struct timespec wait = {0, due > now ? (long)((due - now) % 1000000) * 1000 : 0};
        struct epoll_event events[64];
        int n = epoll_pwait2(epoll, events, 64, &wait, NULL);
        now = now_us();
        for (int i = 0; i < n; i++) {
            link_t *l = &links[events[i].data.u32];
            ssize_t got = recv(l->fd, l->in + l->got, sizeof l->in - l->got, MSG_DONTWAIT);
            if (got <= 0) {
                if (got < 0 && errno == EAGAIN)
                    continue;
                errors += (uint64_t)l->busy;
                epoll_ctl(epoll, EPOLL_CTL_DEL, l->fd, NULL);
                l->busy = 1; /* never again */
                continue;
            }
            l->got += (size_t)got;
            long size = whole(l);
            if (size == 0)
                continue;
            if (size < 0) {
                errors++;
            } else {
                done++;
                if (l->due - begun >= 500000)
                    times[measured++] = (uint32_t)(now - l->due);
            }
            l->busy = 0;
        }
    }
    qsort(times, measured, sizeof *times, compare);
    errors += total - done - errors;
    if (!measured)
        return 1;
    printf("%llu %llu %u %u %u\n", (unsigned long long)done, (unsigned long long)errors, times[measured / 2],
           times[measured * 99 / 100], times[measured - 1]);
    return 0;
}
