/* See chunks.h. */
#include "http/chunks.h"

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
