/* See transport.h. */
#include "link/transport.h"

#include <stdlib.h>

int kb_workspace_init(kb_workspace *w)
{
    *w = (kb_workspace){.plain = malloc(KB_RECORD), .staged = malloc(KB_STAGED_BYTES)};
    return w->plain && w->staged ? 0 : -1;
}

void kb_workspace_free(kb_workspace *w)
{
    kb_pool_clear(&w->pool);
    free(w->plain);
    free(w->staged);
    *w = (kb_workspace){0};
}
