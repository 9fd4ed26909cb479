/* See tcp_path.h. */
#include "link/tcp_path.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define WAN_RTT 3000u           /* us: from here a path counts as a long one */
#define LOOK_EVERY 1000000u     /* us between two looks at the path of a busy link */
#define STARTUP_EVERY 100000u   /* while BBR is in its startup */
#define STARTUP_FLAT 3          /* looks without growth that are enough */
#define STARTUP_GAIN 512u       /* BBR's pacing gain there is 739/256; later 320/256 at most */
#define SLOW 40000000u          /* bytes/s: below, a path is too slow for packets of 64 KiB */

static void set_congestion(kb_tcp_path *p, kb_path *path, int fd, const char *wanted)
{
    socklen_t size = sizeof path->congestion - 1;
    path->problem[0] = 0;
    if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, wanted, (socklen_t)strlen(wanted)) < 0)
        snprintf(path->problem, sizeof path->problem, "%s: %s", wanted,
                 errno == EPERM    ? "not allowed"
                 : errno == ENOENT ? "not in this kernel"
                                   : strerror(errno));
    memset(path->congestion, 0, sizeof path->congestion);
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, path->congestion, &size) < 0)
        path->congestion[0] = 0; /* no TCP: a socket pair of a test */
    p->startup = strcmp(path->congestion, "bbr") == 0;
}

/* BBR leaves its startup when the delivered rate stops growing in rounds in which the sender was not the limit. A tunnel is always
 * the limit: the connections inside wait for acknowledgements that pass through the queue that BBR has built, so our own queue is
 * empty and BBR sends at 2.9 times the path's rate for ever, into a full buffer. When that shows (more in flight than the path holds,
 * the round trip far above its minimum, no growth), the rate is capped at the path's: the backlog moves into our fair queue, BBR sees a
 * sender that is not the limit, finds the pipe full, and the cap goes. */
static uint64_t bbr_startup(kb_tcp_path *p, const kb_path *path, int fd, const struct tcp_info *info, uint32_t min_rtt)
{
    union tcp_cc_info cc;
    socklen_t size = sizeof cc;
    memset(&cc, 0, sizeof cc);
    if (strcmp(path->congestion, "bbr") != 0 || getsockopt(fd, IPPROTO_TCP, TCP_CC_INFO, &cc, &size) < 0 || size < sizeof cc.bbr)
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
    if (cap && setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &cap, sizeof cap) == 0)
        p->capped = cap != ~0ul;
    return rate;
}

/* Round trip and rate of the path decide how much may wait in the kernel, and which congestion control fits. */
void kb_tcp_path_look(kb_tcp_path *p, kb_path *path, int fd, uint64_t now)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    memset(&info, 0, sizeof info);
    p->looked_at = now;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return;
    uint32_t rtt = info.tcpi_min_rtt && info.tcpi_min_rtt != UINT32_MAX ? info.tcpi_min_rtt : info.tcpi_rtt;
    uint64_t rate = info.tcpi_delivery_rate; /* bytes/s; 0: not known */
    int wan = rtt >= WAN_RTT, slow = wan || (rate && rate < SLOW && !info.tcpi_delivery_rate_app_limited);
    path->rtt = info.tcpi_rtt;
    path->min_rtt = rtt;
    path->rate = rate;
    uint64_t bandwidth = bbr_startup(p, path, fd, &info, rtt);
    if (bandwidth)
        rate = bandwidth;
    if (!p->fixed && (wan != p->wan || !path->congestion[0]))
        set_congestion(p, path, fd, wan ? "bbr" : "cubic");
    p->wan = (uint8_t)wan;
    int lowat = 128 * 1024;
    path->batch = 64 * 1024;
    path->burst = 0;
    if (slow) { /* about 2 ms of the path in the kernel, and packets of less than that */
        uint64_t bytes = rate / 500;
        lowat = bytes < 32 * 1024 ? 32 * 1024 : bytes > 128 * 1024 ? 128 * 1024 : (int)bytes;
        path->batch = (uint32_t)lowat / 2;
        path->burst = rate < 2500000 ? 3000 : rate < SLOW ? (uint32_t)(rate / 1000 < 6000 ? 6000 : rate / 1000) : 0;
        if (!rate)
            path->burst = 16 * 1024;
    }
    if (lowat != (int)path->lowat && setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat) == 0)
        path->lowat = (uint64_t)lowat;
}

void kb_tcp_path_open(kb_tcp_path *p, kb_path *path, int fd, const char *congestion, uint64_t now)
{
    path->batch = 64 * 1024;
    if (*congestion) {
        p->fixed = 1;
        set_congestion(p, path, fd, congestion);
    }
    kb_tcp_path_look(p, path, fd, now);
}

int kb_tcp_path_is_due(const kb_tcp_path *p, uint64_t now) { return now - p->looked_at >= (p->startup ? STARTUP_EVERY : LOOK_EVERY); }
