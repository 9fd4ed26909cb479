"""`kubeedge mapper PROTOCOL`: a mapper of ours in the foreground, as a supervised process or in a container."""

from __future__ import annotations

import argparse

from kubeedge.cli.errors import UsageError
from kubeedge.errors import Invalid
from kubeedge.mapper.link import endpoint
from kubeedge.mapper.mapper import Mapper


def run(options: argparse.Namespace) -> int:
    """Exit status 0, after SIGTERM or SIGINT. Raises UsageError for an address that is none."""
    for address in filter(None, (options.broker, options.metrics)):
        try:
            endpoint(address)
        except Invalid as exc:
            raise UsageError(str(exc)) from exc
    _mapper(options.protocol).run(options.broker, metrics=options.metrics)
    return 0


def _mapper(protocol: str) -> Mapper:
    if protocol == "modbus":
        from kubeedge.mapper.modbus.driver import modbus_mapper

        return modbus_mapper()
    from kubeedge.mapper.virtual.driver import virtual_mapper

    return virtual_mapper()
