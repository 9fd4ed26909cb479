/* See text.h. */
#include "http/text.h"

#include <stdlib.h>

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

void kb_text_free(kb_text *text)
{
    free(text->data);
    memset(text, 0, sizeof *text);
}
