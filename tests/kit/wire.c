/* The user-space wire of wire.py in C: the same conditions, for rates that Python cannot carry.
 *
 *   wire FD_A FD_B SEED        two TUN descriptors that the caller opened; "RATE DELAY LOSS QUEUE\n" lines on stdin change the
 *                              conditions (bits/s, seconds, probability, bytes); "ready" on stdout; ends with stdin.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define LARGEST 65536

typedef struct packet {
    struct packet *next;
    int64_t due;
    size_t length;
    unsigned char data[];
} packet;

typedef struct {
    int from, to;
    int64_t free_at; /* when the last queued bit leaves */
    packet *first, *last;
} direction;

static double rate = 1e9, delay, loss, queue = 500000;
static uint64_t state;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static double chance(void) /* xorshift64*: 53 random bits */
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (double)((state * 2685821657736338717ULL) >> 11) / 9007199254740992.0;
}

static void take(direction *d, const unsigned char *data, size_t length, int64_t now)
{
    int64_t start = d->free_at > now ? d->free_at : now;
    if ((double)(start - now) * 1e-9 * rate / 8 + (double)length > queue)
        return; /* the queue is full */
    d->free_at = start + (int64_t)((double)length * 8e9 / rate);
    if (loss > 0 && chance() < loss)
        return;
    packet *p = malloc(sizeof *p + length);
    if (!p)
        return;
    p->next = NULL;
    p->due = d->free_at + (int64_t)(delay * 1e9);
    p->length = length;
    memcpy(p->data, data, length);
    if (d->last)
        d->last->next = p;
    else
        d->first = p;
    d->last = p;
}

static void deliver(direction *d, int64_t now)
{
    while (d->first && d->first->due <= now) {
        packet *p = d->first;
        d->first = p->next;
        if (!d->first)
            d->last = NULL;
        if (write(d->to, p->data, p->length) < 0 && errno == EBADF)
            exit(1);
        free(p);
    }
}

static int conditions(void)
{
    static char line[256];
    static size_t have;
    ssize_t n = read(0, line + have, sizeof line - 1 - have);
    if (n <= 0)
        return 0;
    have += (size_t)n;
    line[have] = 0;
    char *end, *at = line;
    while ((end = strchr(at, '\n'))) {
        double r, d, l, q;
        if (sscanf(at, "%lf %lf %lf %lf", &r, &d, &l, &q) == 4 && r > 0)
            rate = r, delay = d, loss = l, queue = q;
        at = end + 1;
    }
    have = (size_t)(line + have - at);
    memmove(line, at, have);
    return have < sizeof line - 1;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int a = atoi(argv[1]), b = atoi(argv[2]);
    state = strtoull(argv[3], NULL, 10) * 2654435769ULL + 88172645463325252ULL;
    prctl(PR_SET_TIMERSLACK, 1UL);
    direction way[2] = {{.from = a, .to = b}, {.from = b, .to = a}};
    static unsigned char data[LARGEST];
    if (!conditions())
        return 1;
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct pollfd fds[3] = {{a, POLLIN, 0}, {b, POLLIN, 0}, {0, POLLIN, 0}};
        int64_t next = -1, now = now_ns();
        for (int i = 0; i < 2; i++)
            if (way[i].first && (next < 0 || way[i].first->due < next))
                next = way[i].first->due;
        struct timespec wait = {0, 0}, *until = NULL;
        if (next >= 0) {
            if (next > now) {
                wait.tv_sec = (next - now) / 1000000000LL;
                wait.tv_nsec = (next - now) % 1000000000LL;
            }
            until = &wait;
        }
        if (ppoll(fds, 3, until, NULL) < 0 && errno != EINTR)
            return 1;
        if (fds[2].revents && !conditions())
            return 0;
        for (int i = 0; i < 2; i++) {
            if (!(fds[i].revents & POLLIN))
                continue;
            for (int n = 0; n < BATCH; n++) {
                ssize_t length = read(way[i].from, data, sizeof data);
                if (length <= 0)
                    break;
                take(&way[i], data, (size_t)length, now_ns());
            }
        }
        now = now_ns();
        deliver(&way[0], now);
        deliver(&way[1], now);
    }
}
