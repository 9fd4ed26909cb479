/* See http1.h. */
#define _GNU_SOURCE
#include "http1.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* -- text --------------------------------------------------------------------------------------------------------------------------- */

void kb_add(kb_text *text, const void *data, size_t length)
{
    if (text->room - text->length < length) {
        size_t room = text->room ? text->room : 2048;
        while (room - text->length < length)
            room *= 2;
        uint8_t *grown = text->failed ? NULL : realloc(text->data, room);
        if (!grown) {
            text->failed = 1;
            return;
        }
        text->data = grown;
        text->room = room;
    }
    if (length)
        memcpy(text->data + text->length, data, length);
    text->length += length;
}

void kb_add_string(kb_text *text, const char *string) { kb_add(text, string, strlen(string)); }

void kb_add_slice(kb_text *text, kb_slice slice) { kb_add(text, slice.at, slice.length); }

void kb_add_number(kb_text *text, uint64_t number, unsigned base)
{
    char digits[24];
    size_t at = sizeof digits;
    do {
        digits[--at] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number);
    kb_add(text, digits + at, sizeof digits - at);
}

/* -- slices ------------------------------------------------------------------------------------------------------------------------- */

static int is(kb_slice s, const char *word) /* `word` in lower case */ { return s.length == strlen(word) && !strncasecmp((const char *)s.at, word, s.length); }

static kb_slice cut(kb_slice s, uint32_t from) { return (kb_slice){s.at + from, s.length - from}; }

static kb_slice trim(kb_slice s)
{
    while (s.length && (s.at[0] == ' ' || s.at[0] == '\t'))
        s = cut(s, 1);
    while (s.length && (s.at[s.length - 1] == ' ' || s.at[s.length - 1] == '\t'))
        s.length--;
    return s;
}

static int starts(kb_slice s, kb_slice prefix) { return s.length >= prefix.length && !memcmp(s.at, prefix.at, prefix.length); }

/* The words of a list, one after the other; 0: there are no more. */
static int next_word(kb_slice *list, kb_slice *word)
{
    while (list->length) {
        const uint8_t *comma = memchr(list->at, ',', list->length);
        uint32_t length = comma ? (uint32_t)(comma - list->at) : list->length;
        *word = trim((kb_slice){list->at, length});
        *list = cut(*list, length < list->length ? length + 1 : length);
        if (word->length)
            return 1;
    }
    return 0;
}

/* -- parsing ------------------------------------------------------------------------------------------------------------------------ */

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

static int is_forwarded(kb_slice n) { return is(n, "forwarded") || begins(n, "x-forwarded-") || (n.length == 9 && begins(n, "x-real-ip")); }

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
        if (is(n, known[i].name))
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
        if (h->chunked || !is(f->value, "chunked"))
            return -1;
        h->chunked = 1;
        return 0;
    case KB_F_CONNECTION:
        while (next_word(&list, &word)) {
            if (is(word, "close"))
                h->close = 1;
            else if (is(word, "keep-alive"))
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
        f->value = trim((kb_slice){colon + 1, (uint32_t)(stop - colon - 1)});
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
    line = cut(line, h->method.length + 1);
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
    if (!h->target.length || version_of(cut(line, h->target.length + 1), &h->minor) < 0 || parse_fields(fields, end, h, 0) < 0)
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
    h->reason = cut(line, line.length > 12 ? 13 : 12);
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
        target = cut(target, end);
    }
    *rest = target;
    return 0;
}

/* -- rewriting ---------------------------------------------------------------------------------------------------------------------- */

static void add_field(kb_text *out, kb_slice name, kb_slice value)
{
    kb_add_slice(out, name);
    kb_add(out, ": ", 2);
    kb_add_slice(out, value);
    kb_add(out, "\r\n", 2);
}

static void add_named(kb_text *out, const char *name, const char *value)
{
    kb_add_string(out, name);
    kb_add(out, ": ", 2);
    kb_add_string(out, value);
    kb_add(out, "\r\n", 2);
}

/* Connection names it, and it is not one that stays whatever Connection says (headers.py) */
static int named_by_connection(const kb_http_head *h, kb_slice name)
{
    if (!h->odd || is(name, "content-type") || is(name, "cookie") || is(name, "authorization"))
        return 0;
    for (uint32_t i = 0; i < h->count; i++) {
        kb_slice list = h->fields[i].value, word;
        while (h->fields[i].what == KB_F_CONNECTION && next_word(&list, &word))
            if (word.length == name.length && !strncasecmp((const char *)word.at, (const char *)name.at, name.length))
                return 1;
    }
    return 0;
}

static int stays(const kb_http_head *h, const kb_field *f)
{
    switch (f->what) {
    case KB_F_HOP:
    case KB_F_CONNECTION:
    case KB_F_CODING:
    case KB_F_EXPECT:
    case KB_F_UPGRADE:
        return 0;
    case KB_F_LENGTH:
    case KB_F_HOST:
        return 1;
    default:
        return !named_by_connection(h, f->name);
    }
}

static void add_request_line(kb_text *out, const kb_http_head *h, kb_slice service, kb_slice rest)
{
    kb_add_slice(out, h->method);
    kb_add(out, " ", 1);
    if (service.length) { /* without a slash behind it: the service's node redirects there */
        kb_add(out, "/", 1);
        kb_add_slice(out, service);
    } else if (!rest.length || rest.at[0] != '/') {
        kb_add(out, "/", 1);
    }
    kb_add_slice(out, rest);
    kb_add_string(out, " HTTP/1.1\r\n");
}

void kb_client_request(kb_text *out, const kb_http_head *h, const char *client, const char *proto)
{
    kb_slice labels[3], rest, host = {0};
    if (kb_split_target(h->target, 3, labels, &rest) < 0)
        return;
    add_request_line(out, h, labels[2], rest);
    for (uint32_t i = 0; i < h->count; i++) {
        const kb_field *f = &h->fields[i];
        if (f->what == KB_F_HOST)
            host = f->value;
        if (f->what != KB_F_FORWARDED && stays(h, f))
            add_field(out, f->name, f->value);
    }
    add_named(out, "x-forwarded-for", client);
    if (host.length)
        add_field(out, (kb_slice){(const uint8_t *)"x-forwarded-host", 16}, host);
    add_named(out, "x-forwarded-proto", proto);
    kb_add_string(out, "x-forwarded-prefix: ");
    kb_add(out, h->target.at, (size_t)(labels[2].at + labels[2].length - h->target.at));
    kb_add_string(out, "\r\nvia: 1.1 kubeedge\r\n\r\n");
}

void kb_service_request(kb_text *out, const kb_http_head *h)
{
    kb_slice service, rest, none = {0};
    if (kb_split_target(h->target, 1, &service, &rest) < 0)
        return;
    add_request_line(out, h, none, rest);
    for (uint32_t i = 0; i < h->count; i++) /* a token is not the service's to see (access.py) */
        if (stays(h, &h->fields[i]) && h->fields[i].what != KB_F_TOKEN)
            add_field(out, h->fields[i].name, h->fields[i].value);
    kb_add(out, "\r\n", 2);
}

/* The service knows its prefix and has used it. */
static int within(kb_slice prefix, kb_slice path)
{
    if (!starts(path, prefix))
        return 0;
    return path.length == prefix.length || strchr("/?#", path.at[prefix.length]) != NULL;
}

static void add_location(kb_text *out, kb_slice value, kb_slice prefix, kb_slice host)
{
    size_t authority = 0;
    if (value.length >= 7 && !strncasecmp((const char *)value.at, "http://", 7))
        authority = 7;
    else if (value.length >= 8 && !strncasecmp((const char *)value.at, "https://", 8))
        authority = 8;
    kb_slice path = value;
    if (authority) {
        kb_slice after = cut(value, (uint32_t)authority);
        uint32_t end = 0;
        while (end < after.length && !strchr("/?#", after.at[end]))
            end++;
        if (!host.length || end != host.length || strncasecmp((const char *)after.at, (const char *)host.at, end)) {
            kb_add_slice(out, value); /* another host */
            return;
        }
        path = cut(after, end);
    } else if (!path.length || path.at[0] != '/' || (path.length > 1 && path.at[1] == '/')) {
        kb_add_slice(out, value); /* relative, or another host */
        return;
    }
    if (within(prefix, path)) {
        kb_add_slice(out, value);
        return;
    }
    kb_add(out, value.at, (size_t)(path.at - value.at));
    kb_add_slice(out, prefix);
    if (authority && (!path.length || path.at[0] != '/'))
        kb_add(out, "/", 1);
    kb_add_slice(out, path);
}

/* A refresh leads where a location does: "5; url=/x", with all that browsers take (WHATWG HTML, shared declarative refresh steps). */
static void add_refresh(kb_text *out, kb_slice value, kb_slice prefix, kb_slice host)
{
    uint32_t at = 0;
    while (at < value.length && ((value.at[at] >= '0' && value.at[at] <= '9') || value.at[at] == '.'))
        at++;
    uint32_t digits = at;
    while (at < value.length && strchr(" \t;,", value.at[at]))
        at++;
    if (!digits || at == digits) {
        kb_add_slice(out, value);
        return;
    }
    if (value.length - at >= 4 && !strncasecmp((const char *)value.at + at, "url", 3)) {
        uint32_t after = at + 3;
        while (after < value.length && (value.at[after] == ' ' || value.at[after] == '\t'))
            after++;
        if (after < value.length && value.at[after] == '=') {
            at = after + 1;
            while (at < value.length && (value.at[at] == ' ' || value.at[at] == '\t'))
                at++;
        }
    }
    if (at < value.length && (value.at[at] == '"' || value.at[at] == '\''))
        at++;
    kb_add(out, value.at, at);
    add_location(out, cut(value, at), prefix, host);
}

/* Nothing but a cookie of the whole host may have this name (RFC 6265bis, section 4.1.3.2). */
static int is_host_cookie(kb_slice value) { return value.length >= 7 && !strncasecmp((const char *)value.at, "__host-", 7); }

static void add_cookie_path(kb_text *out, kb_slice path, kb_slice prefix)
{
    if (within(prefix, path)) {
        kb_add_slice(out, path);
        return;
    }
    kb_add_slice(out, prefix);
    if (path.length > 1) /* "/" becomes the prefix without a slash at its end */
        kb_add_slice(out, path);
}

/* A cookie is for its service alone: without a Domain, and with a Path below the prefix. */
static void add_cookie(kb_text *out, kb_slice value, kb_slice prefix, kb_slice directory)
{
    int found = 0;
    for (int first = 1; value.length; first = 0) {
        uint32_t from = first ? 0 : 1, end = from; /* a part, with the ';' before it */
        while (end < value.length && value.at[end] != ';')
            end++;
        kb_slice part = {value.at, end}, word = cut(part, from);
        const uint8_t *equals = memchr(word.at, '=', word.length);
        kb_slice name = trim((kb_slice){word.at, equals ? (uint32_t)(equals - word.at) : word.length});
        kb_slice path = equals ? trim(cut(word, (uint32_t)(equals - word.at) + 1)) : (kb_slice){0};
        value = cut(value, end);
        if (first || (!is(name, "path") && !is(name, "domain"))) {
            kb_add_slice(out, part);
        } else if (is(name, "path") && path.length && path.at[0] == '/') {
            kb_add(out, part.at, (size_t)(path.at - part.at));
            add_cookie_path(out, path, prefix);
            found = 1;
        }
    }
    if (!found && directory.length) {
        kb_add_string(out, "; Path=");
        kb_add_slice(out, directory);
    }
}

/* A field of an answer, as the client below `prefix` must see it; headers.py says why. */
static void add_answered(kb_text *out, const kb_http_head *h, const kb_field *f, kb_slice prefix, kb_slice host)
{
    if (f->what == KB_F_ORIGIN || (f->what == KB_F_COOKIE && is_host_cookie(f->value)))
        return;
    kb_add_slice(out, f->name);
    kb_add(out, ": ", 2);
    switch (f->what) {
    case KB_F_LOCATION:
        add_location(out, f->value, prefix, host);
        break;
    case KB_F_REFRESH:
        add_refresh(out, f->value, prefix, host);
        break;
    case KB_F_COOKIE:
        add_cookie(out, f->value, prefix, h->directory);
        break;
    case KB_F_WORKER:
        kb_add_slice(out, prefix);
        kb_add(out, "/", 1);
        break;
    default:
        kb_add_slice(out, f->value);
    }
    kb_add(out, "\r\n", 2);
}

void kb_answer(kb_text *out, const kb_http_head *h, kb_slice prefix, kb_slice host, int framed, int close)
{
    kb_add_string(out, "HTTP/1.1 ");
    kb_add_number(out, (uint64_t)h->status, 10);
    kb_add(out, " ", 1);
    kb_add_slice(out, h->reason);
    kb_add(out, "\r\n", 2);
    for (uint32_t i = 0; i < h->count; i++) {
        const kb_field *f = &h->fields[i];
        if (!stays(h, f))
            continue;
        if (prefix.length)
            add_answered(out, h, f, prefix, host);
        else
            add_field(out, f->name, f->value);
    }
    if (framed)
        kb_add_string(out, "transfer-encoding: chunked\r\n");
    if (close)
        kb_add_string(out, "connection: close\r\n");
    kb_add(out, "\r\n", 2);
}

/* -- chunks ------------------------------------------------------------------------------------------------------------------------- */

enum { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, LINE, LINE_LF, TRAILER, TRAILER_LF, OVER };
#define MOST_SKIPPED (16 * 1024)

static int digit(uint8_t c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; }

int kb_chunks_next(kb_chunks *c, const uint8_t *data, size_t length, size_t *skip, size_t *body)
{
    *skip = *body = 0;
    for (size_t i = 0; i < length; i++) {
        uint8_t b = data[i];
        switch (c->state) {
        case SIZE:
            if (digit(b) >= 0) {
                if (++c->digits > 15)
                    return -1;
                c->left = c->left << 4 | (uint64_t)digit(b);
                break;
            }
            if (!c->digits || (b != ';' && b != '\r' && b != ' ' && b != '\t'))
                return -1;
            c->state = b == '\r' ? SIZE_LF : EXTENSION;
            break;
        case EXTENSION:
            if (++c->skipped > MOST_SKIPPED || b == '\n' || b == 0)
                return -1;
            if (b == '\r')
                c->state = SIZE_LF;
            break;
        case SIZE_LF:
            if (b != '\n')
                return -1;
            c->state = c->left ? DATA : LINE;
            c->digits = 0;
            c->skipped = 0;
            break;
        case DATA: {
            size_t some = length - i;
            *skip = i;
            *body = c->left < some ? (size_t)c->left : some;
            c->left -= *body;
            if (!c->left)
                c->state = DATA_CR;
            return 0;
        }
        case DATA_CR:
            if (b != '\r')
                return -1;
            c->state = DATA_LF;
            break;
        case DATA_LF:
            if (b != '\n')
                return -1;
            c->state = SIZE;
            break;
        case LINE: /* the first byte of a trailer's line */
            c->state = b == '\r' ? LINE_LF : TRAILER;
            if (b == '\n' || ++c->skipped > MOST_SKIPPED)
                return -1;
            break;
        case LINE_LF:
            if (b != '\n')
                return -1;
            c->state = OVER;
            *skip = i + 1;
            return 1;
        case TRAILER:
            if (++c->skipped > MOST_SKIPPED || b == '\n' || b == 0)
                return -1;
            if (b == '\r')
                c->state = TRAILER_LF;
            break;
        case TRAILER_LF:
            if (b != '\n')
                return -1;
            c->state = LINE;
            break;
        default:
            return -1;
        }
    }
    *skip = length;
    return 0;
}
