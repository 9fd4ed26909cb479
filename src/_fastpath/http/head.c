/* See head.h. */
#define _GNU_SOURCE
#include "http/head.h"

static const uint8_t TOKEN[256] = {
    ['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1, ['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1, ['^'] = 1, ['_'] = 1, ['`'] = 1,
    ['|'] = 1, ['~'] = 1, ['0'] = 1, ['1'] = 1, ['2'] = 1, ['3'] = 1,  ['4'] = 1, ['5'] = 1, ['6'] = 1, ['7'] = 1, ['8'] = 1, ['9'] = 1, ['A'] = 1,
    ['B'] = 1, ['C'] = 1, ['D'] = 1, ['E'] = 1, ['F'] = 1, ['G'] = 1,  ['H'] = 1, ['I'] = 1, ['J'] = 1, ['K'] = 1, ['L'] = 1, ['M'] = 1, ['N'] = 1,
    ['O'] = 1, ['P'] = 1, ['Q'] = 1, ['R'] = 1, ['S'] = 1, ['T'] = 1,  ['U'] = 1, ['V'] = 1, ['W'] = 1, ['X'] = 1, ['Y'] = 1, ['Z'] = 1, ['a'] = 1,
    ['b'] = 1, ['c'] = 1, ['d'] = 1, ['e'] = 1, ['f'] = 1, ['g'] = 1,  ['h'] = 1, ['i'] = 1, ['j'] = 1, ['k'] = 1, ['l'] = 1, ['m'] = 1, ['n'] = 1,
    ['o'] = 1, ['p'] = 1, ['q'] = 1, ['r'] = 1, ['s'] = 1, ['t'] = 1,  ['u'] = 1, ['v'] = 1, ['w'] = 1, ['x'] = 1, ['y'] = 1, ['z'] = 1,
};

/* `n` begins with `word`; "_" counts as "-", because CGI and what came after it read both as one name */
static int begins(kb_slice n, const char *word)
{
    uint32_t i = 0;
    for (; word[i]; i++) {
        if (i == n.length)
            return 0;
        uint8_t c = n.at[i] == '_' ? '-' : n.at[i];
        if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != (uint8_t)word[i])
            return 0;
    }
    return 1;
}

static int is_forwarded(kb_slice n) { return kb_slice_is(n, "forwarded") || begins(n, "x-forwarded-") || (n.length == 9 && begins(n, "x-real-ip")); }

static uint8_t kind_of(kb_slice n)
{
    static const struct {
        const char *name;
        uint8_t what;
    } known[] = {
        {"connection", KB_F_CONNECTION},
        {"transfer-encoding", KB_F_CODING},
        {"content-length", KB_F_LENGTH},
        {"host", KB_F_HOST},
        {"expect", KB_F_EXPECT},
        {"upgrade", KB_F_UPGRADE},
        {"keep-alive", KB_F_HOP},
        {"proxy-authenticate", KB_F_HOP},
        {"proxy-authorization", KB_F_HOP},
        {"proxy-connection", KB_F_HOP},
        {"te", KB_F_HOP},
        {"trailer", KB_F_HOP},
        {"proxy", KB_F_HOP},
        {"location", KB_F_LOCATION},
        {"content-location", KB_F_LOCATION},
        {"refresh", KB_F_REFRESH},
        {"set-cookie", KB_F_COOKIE},
        {"x-kubeedge-token", KB_F_TOKEN},
        {"destination", KB_F_RESOURCE},
        {"if", KB_F_RESOURCE},
        {"service-worker-allowed", KB_F_WORKER},
        {"clear-site-data", KB_F_ORIGIN},
        {"set-cookie2", KB_F_ORIGIN},
        {"strict-transport-security", KB_F_ORIGIN},
        {"public-key-pins", KB_F_ORIGIN},
        {"public-key-pins-report-only", KB_F_ORIGIN},
        {"expect-ct", KB_F_ORIGIN},
        {"alt-svc", KB_F_ORIGIN},
        {"origin-agent-cluster", KB_F_ORIGIN},
        {"origin-isolation", KB_F_ORIGIN},
        {"origin-policy", KB_F_ORIGIN},
        {"nel", KB_F_ORIGIN},
        {"report-to", KB_F_ORIGIN},
        {"accept-ch", KB_F_ORIGIN},
        {"accept-ch-lifetime", KB_F_ORIGIN},
        {"critical-ch", KB_F_ORIGIN},
        {"set-login", KB_F_ORIGIN},
        {"use-as-dictionary", KB_F_ORIGIN},
    };
    if (is_forwarded(n))
        return KB_F_FORWARDED;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (kb_slice_is(n, known[i].name))
            return known[i].what;
    return KB_F_OTHER;
}

static int number_of(kb_slice s, int64_t *number)
{
    *number = 0;
    if (!s.length || s.length > 18)
        return -1;
    for (uint32_t i = 0; i < s.length; i++) {
        if (s.at[i] < '0' || s.at[i] > '9')
            return -1;
        *number = *number * 10 + (s.at[i] - '0');
    }
    return 0;
}

static int take_field(kb_http_head *h, kb_field *f)
{
    kb_slice list = f->value, word;
    int64_t length;
    f->what = kind_of(f->name);
    switch (f->what) {
    case KB_F_HOST:
        h->hosts++;
        return 0;
    case KB_F_LENGTH:
        if (number_of(f->value, &length) < 0 || (h->body >= 0 && h->body != length))
            return -1;
        if (h->body >= 0)
            f->what = KB_F_HOP; /* said twice, sent once */
        h->body = length;
        return 0;
    case KB_F_CODING:
        if (h->chunked || !kb_slice_is(f->value, "chunked"))
            return -1;
        h->chunked = 1;
        return 0;
    case KB_F_CONNECTION:
        while (kb_slice_next_word(&list, &word)) {
            if (kb_slice_is(word, "close"))
                h->close = 1;
            else if (kb_slice_is(word, "keep-alive"))
                h->keep = 1;
            else
                h->odd = 1;
        }
        return 0;
    case KB_F_EXPECT:
    case KB_F_UPGRADE:
    case KB_F_RESOURCE:
        h->odd = 1;
        return 0;
    default:
        return 0;
    }
}

/* Fields from `at` to the empty line at `end`. `spaces`: white space before the colon is taken, as RFC 9112, section 5.1 wants it of a proxy
 * for answers; in a request it is an attack. */
static int parse_fields(const uint8_t *at, const uint8_t *end, kb_http_head *h, int spaces)
{
    while (at < end) {
        const uint8_t *line = at, *stop = memchr(at, '\r', (size_t)(end - at));
        if (!stop)
            stop = end;
        const uint8_t *colon = memchr(line, ':', (size_t)(stop - line));
        if (!colon || colon == line || h->count == KB_HEAD_FIELDS)
            return -1;
        const uint8_t *named = colon;
        while (spaces && named > line + 1 && (named[-1] == ' ' || named[-1] == '\t'))
            named--;
        for (const uint8_t *p = line; p < named; p++)
            if (!TOKEN[*p])
                return -1;
        for (const uint8_t *p = colon + 1; p < stop; p++)
            if ((*p < 0x20 && *p != '\t') || *p == 0x7f)
                return -1;
        kb_field *f = &h->fields[h->count++];
        f->name = (kb_slice){line, (uint32_t)(named - line)};
        f->value = kb_slice_trim((kb_slice){colon + 1, (uint32_t)(stop - colon - 1)});
        if (take_field(h, f) < 0)
            return -1;
        if (stop < end && stop[1] != '\n') /* end[0..1] are CRLF, so stop[1] can be read */
            return -1;
        at = stop < end ? stop + 2 : end;
    }
    return h->chunked && h->body >= 0 ? -1 : 0;
}

/* A line that ends with LF alone: HTTP for some, and no empty line of ours will ever end it. */
static int has_bare_feed(const uint8_t *data, size_t length)
{
    const uint8_t *at = data, *end = data + length;
    while ((at = memchr(at, '\n', (size_t)(end - at)))) {
        if (at == data || at[-1] != '\r')
            return 1;
        at++;
    }
    return 0;
}

/* The first line, without its end, in *line; the fields begin at *fields and the empty line at *end. */
static int find_head(const uint8_t *data, size_t length, kb_slice *line, const uint8_t **fields, const uint8_t **end)
{
    size_t most = length < KB_HEAD_BYTES ? length : KB_HEAD_BYTES;
    const uint8_t *empty = memmem(data, most, "\r\n\r\n", 4);
    if (!empty)
        return length >= KB_HEAD_BYTES || has_bare_feed(data, most) ? -1 : 0;
    const uint8_t *stop = memchr(data, '\r', (size_t)(empty - data) + 1);
    if (stop[1] != '\n')
        return -1;
    *line = (kb_slice){data, (uint32_t)(stop - data)};
    *fields = stop < empty ? stop + 2 : empty;
    *end = empty;
    return (int)(empty - data) + 4;
}

static int version_of(kb_slice s, int *minor)
{
    if (s.length != 8 || memcmp(s.at, "HTTP/1.", 7) || (s.at[7] != '0' && s.at[7] != '1'))
        return -1;
    *minor = s.at[7] - '0';
    return 0;
}

static void begin(kb_http_head *h)
{
    memset(h, 0, offsetof(kb_http_head, fields));
    h->body = -1;
}

int kb_parse_request(const uint8_t *data, size_t length, kb_http_head *h)
{
    const uint8_t *fields, *end;
    kb_slice line;
    begin(h);
    int size = find_head(data, length, &line, &fields, &end);
    if (size <= 0)
        return size;
    const uint8_t *space = memchr(line.at, ' ', line.length);
    if (!space)
        return -1;
    h->method = (kb_slice){line.at, (uint32_t)(space - line.at)};
    line = kb_slice_cut(line, h->method.length + 1);
    space = memchr(line.at, ' ', line.length);
    if (!space || !h->method.length)
        return -1;
    h->target = (kb_slice){line.at, (uint32_t)(space - line.at)};
    for (uint32_t i = 0; i < h->method.length; i++)
        if (!TOKEN[h->method.at[i]])
            return -1;
    for (uint32_t i = 0; i < h->target.length; i++)
        if (h->target.at[i] <= 0x20 || h->target.at[i] >= 0x7f)
            return -1;
    if (!h->target.length || version_of(kb_slice_cut(line, h->target.length + 1), &h->minor) < 0 || parse_fields(fields, end, h, 0) < 0)
        return -1;
    return size;
}

int kb_parse_response(const uint8_t *data, size_t length, kb_http_head *h)
{
    const uint8_t *fields, *end;
    kb_slice line;
    begin(h);
    int size = find_head(data, length, &line, &fields, &end);
    if (size <= 0)
        return size;
    if (line.length < 12 || version_of((kb_slice){line.at, 8}, &h->minor) < 0 || line.at[8] != ' ' || (line.length > 12 && line.at[12] != ' '))
        return -1;
    for (int i = 9; i < 12; i++) {
        if (line.at[i] < '0' || line.at[i] > '9')
            return -1;
        h->status = h->status * 10 + (line.at[i] - '0');
    }
    h->reason = kb_slice_cut(line, line.length > 12 ? 13 : 12);
    for (uint32_t i = 0; i < h->reason.length; i++)
        if ((h->reason.at[i] < 0x20 && h->reason.at[i] != '\t') || h->reason.at[i] == 0x7f)
            return -1;
    if (h->status < 100 || h->status > 599 || parse_fields(fields, end, h, 1) < 0)
        return -1;
    return size;
}

int kb_plain_request(const kb_http_head *h)
{
    int method = (h->method.length == 3 && !memcmp(h->method.at, "GET", 3)) || (h->method.length == 4 && !memcmp(h->method.at, "HEAD", 4));
    return method && h->minor == 1 && h->hosts == 1 && !h->chunked && h->body <= 0 && !h->odd && h->target.at[0] == '/';
}

static int is_label(kb_slice s)
{
    if (!s.length || s.length > 63)
        return 0;
    for (uint32_t i = 0; i < s.length; i++) {
        uint8_t c = s.at[i];
        int plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!plain && (c != '-' || i == 0 || i == s.length - 1))
            return 0;
    }
    return 1;
}

int kb_split_target(kb_slice target, int count, kb_slice *labels, kb_slice *rest)
{
    for (int i = 0; i < count; i++) {
        if (!target.length || target.at[0] != '/')
            return -1;
        uint32_t end = 1;
        while (end < target.length && target.at[end] != '/' && target.at[end] != '?')
            end++;
        labels[i] = (kb_slice){target.at + 1, end - 1};
        if (!is_label(labels[i]))
            return -1;
        target = kb_slice_cut(target, end);
    }
    *rest = target;
    return 0;
}
