/* Slices of bytes that are owned elsewhere, and text that grows. */
#ifndef KUBEEDGE_HTTP_TEXT_H
#define KUBEEDGE_HTTP_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

typedef struct {
    const uint8_t *at;
    uint32_t length;
} kb_slice;

static inline int kb_slice_is(kb_slice s, const char *word) /* `word` in lower case */
{
    return s.length == strlen(word) && !strncasecmp((const char *)s.at, word, s.length);
}

static inline kb_slice kb_slice_cut(kb_slice s, uint32_t from) { return (kb_slice){s.at + from, s.length - from}; }

static inline kb_slice kb_slice_trim(kb_slice s)
{
    while (s.length && (s.at[0] == ' ' || s.at[0] == '\t'))
        s = kb_slice_cut(s, 1);
    while (s.length && (s.at[s.length - 1] == ' ' || s.at[s.length - 1] == '\t'))
        s.length--;
    return s;
}

static inline int kb_slice_starts(kb_slice s, kb_slice prefix) { return s.length >= prefix.length && !memcmp(s.at, prefix.at, prefix.length); }

/* The words of a list, one after the other; 0: there are no more. */
static inline int kb_slice_next_word(kb_slice *list, kb_slice *word)
{
    while (list->length) {
        const uint8_t *comma = memchr(list->at, ',', list->length);
        uint32_t length = comma ? (uint32_t)(comma - list->at) : list->length;
        *word = kb_slice_trim((kb_slice){list->at, length});
        *list = kb_slice_cut(*list, length < list->length ? length + 1 : length);
        if (word->length)
            return 1;
    }
    return 0;
}

typedef struct {
    uint8_t *data;
    size_t length, room;
    int failed;                /* no memory */
} kb_text;

void kb_add(kb_text *text, const void *data, size_t length);
void kb_add_string(kb_text *text, const char *string);
void kb_add_slice(kb_text *text, kb_slice slice);
void kb_add_number(kb_text *text, uint64_t number, unsigned base);
void kb_text_free(kb_text *text); /* empties it */

#endif
