/* Host names whose requests are not for published services: Gateways of tenants have them, and their rules are Python's. */
#include "http/internal.h"

#define LONGEST 255

static int compare(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static int has(const kb_proxy *proxy, const char *name) { return bsearch(&name, proxy->hosts, proxy->host_count, sizeof *proxy->hosts, compare) != NULL; }

void kb_proxy_hosts_free(kb_proxy *proxy)
{
    free(proxy->hosts);
    proxy->hosts = NULL;
    proxy->host_count = 0;
}

int kb_proxy_set_hosts(kb_proxy *proxy, const char *names, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += names[i] == '\n';
    const char **hosts = malloc(count * sizeof *hosts + length + 1); /* the pointers, then what they point to */
    if (!hosts)
        return -1;
    char *text = (char *)(hosts + count);
    memcpy(text, names, length);
    text[length] = 0;
    char *at = text;
    for (size_t i = 0; i < count; i++) {
        char *end = strchr(at, '\n');
        *end = 0;
        hosts[i] = at;
        at = end + 1;
    }
    qsort(hosts, count, sizeof *hosts, compare);
    kb_proxy_hosts_free(proxy);
    proxy->hosts = hosts;
    proxy->host_count = count;
    return 0;
}

int kb_proxy_has_host(const kb_proxy *proxy, const uint8_t *host, uint32_t length)
{
    char name[LONGEST + 2]; /* a '*' before what is looked for */
    if (!proxy->host_count)
        return 0;
    for (uint32_t i = length; i-- > 0;) /* without the port */
        if (host[i] == ':') {
            length = i;
            break;
        } else if (host[i] < '0' || host[i] > '9')
            break;
    if (length && host[length - 1] == '.')
        length--;
    if (length > LONGEST)
        return 1; /* whoever sends it does not need to be fast */
    for (uint32_t i = 0; i < length; i++)
        name[i + 1] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] + 32 : host[i]);
    name[length + 1] = 0;
    if (memchr(name + 1, 0, length))
        return 1;
    if (has(proxy, name + 1))
        return 1;
    for (char *dot = strchr(name + 1, '.'); dot; dot = strchr(dot + 1, '.')) {
        dot[-1] = '*'; /* what is before it is not looked at again */
        if (has(proxy, dot - 1))
            return 1;
    }
    return 0;
}
