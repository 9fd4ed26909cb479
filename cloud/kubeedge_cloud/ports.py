"""Are the ports of the configuration free? Asked once, at start: later on a module that cannot listen is started again, alone."""

from __future__ import annotations

import dataclasses
import logging
import os

from kubeedge.config.cloud import Listener, Listeners
from kubeedge.errors import Unavailable
from kubeedge.kit.streams import listening_socket

log = logging.getLogger("kubeedge")


def check_free(listeners: Listeners) -> None:
    """A line in the log for each that is not; then raises Unavailable. One that the kernel chooses is free."""
    busy = []
    for field in dataclasses.fields(listeners):
        listener: Listener = getattr(listeners, field.name)
        if not listener.enable or not listener.port:
            continue
        try:
            listening_socket(listener.address, listener.port).close()
        except OSError as exc:
            log.error(
                "listeners.%s: %s port %d: %s", field.name, listener.address, listener.port, os.strerror(exc.errno or 0)
            )
            busy.append(f"{field.name} {listener.port}")
    if busy:
        error = Unavailable(f"cannot listen on {len(busy)} of the ports ({', '.join(busy)})")
        error.add_note(
            "is another cloud running here? Otherwise choose other ports under `listeners` in the configuration"
        )
        raise error
