#include "dns/query.h"

#include "packet/bytes.h"

#define TYPE_OPT 41
#define CLASS_IN 1
#define NOT_PLAIN 0xfa00 /* an answer, an operation other than a query, or cut off: QR, OPCODE, TC */
#define OPT_BYTES 11 /* root name, type, size, extended flags, length */

/* Where the name that begins at `at` ends, 0 when it has a pointer or does not fit; in small letters into `key`. */
static size_t read_name(const uint8_t *data, size_t length, size_t at, uint8_t *key)
{
    size_t start = at;
    for (;;) {
        if (at >= length)
            return 0;
        uint8_t label = data[at];
        if (label > 63 || at - start + label + 2 > KB_DNS_NAME + (label ? 0 : 1) || at + label >= length)
            return 0;
        key[at - start] = label;
        if (!label)
            return at + 1;
        for (size_t end = at++ + label; at <= end; at++)
            key[at - start] = (uint8_t)(data[at] >= 'A' && data[at] <= 'Z' ? data[at] + 32 : data[at]);
    }
}

static int read_opt(const uint8_t *data, size_t length, size_t at, kb_dns_query *query)
{
    if (at + OPT_BYTES > length || data[at] || get16(data + at + 1) != TYPE_OPT || data[at + 6])
        return -1; /* the last one is the version */
    uint16_t size = get16(data + at + 3);
    if (at + OPT_BYTES + get16(data + at + 9) != length)
        return -1;
    query->edns = 1;
    query->limit = size < KB_DNS_MIN_UDP ? KB_DNS_MIN_UDP : size > KB_DNS_MAX_UDP ? KB_DNS_MAX_UDP : size;
    return 0;
}

int kb_dns_query_read(const uint8_t *data, size_t length, kb_dns_query *query)
{
    if (length <= KB_DNS_HEADER || length > KB_DNS_MAX_QUERY)
        return -1;
    uint16_t additional = get16(data + 10);
    if (get16(data + 2) & NOT_PLAIN || get16(data + 4) != 1 || get32(data + 6) || additional > 1)
        return -1;
    size_t at = read_name(data, length, KB_DNS_HEADER, query->key);
    if (!at || at + 4 > length || get16(data + at + 2) != CLASS_IN)
        return -1;
    size_t name = at - KB_DNS_HEADER;
    for (size_t i = 0; i < 4; i++)
        query->key[name + i] = data[at + i];
    query->question = (uint16_t)(name + 4);
    query->edns = 0;
    query->limit = KB_DNS_MIN_UDP;
    if (additional ? read_opt(data, length, at + 4, query) : at + 4 != length)
        return -1;
    query->key[name + 4] = query->edns;
    query->key_length = (uint16_t)(name + 5);
    return 0;
}
