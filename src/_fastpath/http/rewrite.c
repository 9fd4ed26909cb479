/* See rewrite.h. */
#include "http/rewrite.h"

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
    if (!h->odd || kb_slice_is(name, "content-type") || kb_slice_is(name, "cookie") || kb_slice_is(name, "authorization"))
        return 0;
    for (uint32_t i = 0; i < h->count; i++) {
        kb_slice list = h->fields[i].value, word;
        while (h->fields[i].what == KB_F_CONNECTION && kb_slice_next_word(&list, &word))
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
    if (!kb_slice_starts(path, prefix))
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
        kb_slice after = kb_slice_cut(value, (uint32_t)authority);
        uint32_t end = 0;
        while (end < after.length && !strchr("/?#", after.at[end]))
            end++;
        if (!host.length || end != host.length || strncasecmp((const char *)after.at, (const char *)host.at, end)) {
            kb_add_slice(out, value); /* another host */
            return;
        }
        path = kb_slice_cut(after, end);
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
    add_location(out, kb_slice_cut(value, at), prefix, host);
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
        kb_slice part = {value.at, end}, word = kb_slice_cut(part, from);
        const uint8_t *equals = memchr(word.at, '=', word.length);
        kb_slice name = kb_slice_trim((kb_slice){word.at, equals ? (uint32_t)(equals - word.at) : word.length});
        kb_slice path = equals ? kb_slice_trim(kb_slice_cut(word, (uint32_t)(equals - word.at) + 1)) : (kb_slice){0};
        value = kb_slice_cut(value, end);
        if (first || (!kb_slice_is(name, "path") && !kb_slice_is(name, "domain"))) {
            kb_add_slice(out, part);
        } else if (kb_slice_is(name, "path") && path.length && path.at[0] == '/') {
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
