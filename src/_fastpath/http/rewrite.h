/* The rewriting of heads that kubebus/http/headers.py explains. Pure functions of bytes. */
#ifndef KUBEEDGE_HTTP_REWRITE_H
#define KUBEEDGE_HTTP_REWRITE_H

#include "http/head.h"

/* The request for a node: /<service>/<rest>, who asked and under which address. */
void kb_client_request(kb_text *out, const kb_http_head *head, const char *client, const char *proto);
/* The request for a service: its own path. */
void kb_service_request(kb_text *out, const kb_http_head *head);
/* The answer. `prefix` "": none to add. `framed`: the body will come in chunks of our own. `close`: nothing comes after it. */
void kb_answer(kb_text *out, const kb_http_head *head, kb_slice prefix, kb_slice host, int framed, int close);

#endif
