/* L4 in the data plane's thread: one endpoint for all tenants of a plane. */
#ifndef KUBEEDGE_L4_IN_PLANE_H
#define KUBEEDGE_L4_IN_PLANE_H

#include "l4/l4.h"
#include "plane/handler.h"

#define KB_L4_BUDGET (64u * 1024 * 1024) /* bytes that wait in all connections of a process */

/* The plane's connections, made when they are first asked for. NULL: no memory. With the plane's lock held. */
kb_l4 *kb_plane_l4(kb_plane *plane);
/* As kb_unlock, which wakes the thread only when L4 has work for it. */
void kb_unlock_l4(kb_plane *plane);

#endif
