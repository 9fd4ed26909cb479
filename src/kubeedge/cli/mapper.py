"""`kubeedge mapper VERB`: mappers of ours or of a file in the foreground, and what makes new ones."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

from kubeedge.cli.errors import CommandError, UsageError
from kubeedge.errors import Invalid
from kubeedge.mapper import project
from kubeedge.mapper.broker import LOGIN, endpoint, node_broker
from kubeedge.mapper.mapper import Mapper

_TARGET = "/mapper"  # in an image


def run(options: argparse.Namespace) -> int:
    """Exit status 0, of a mapper after SIGTERM or SIGINT. Raises UsageError for an address, a file or a directory that is none, CommandError
    for an image that cannot be made."""
    match options.protocol:
        case "new":
            return _new(options)
        case "image":
            return _image(options)
    login = {name: getattr(options, name, "") for name in LOGIN}
    metrics = getattr(options, "metrics", "")
    try:
        broker = node_broker(options.broker, login)
        for address in filter(None, (metrics, getattr(options, "listen", ""))):
            endpoint(address)
    except Invalid as exc:
        raise UsageError(str(exc)) from exc
    if options.protocol == "several":
        from kubeedge.mapper import several

        wanted = dict.fromkeys(options.protocols)
        found = [_mapper(argparse.Namespace(protocol=protocol, listen="")) for protocol in wanted]
        several.run(found, broker, until_stdin_ends=options.until_stdin_ends)
        return 0
    _mapper(options).run(options.broker, metrics=metrics, **login)
    return 0


def _mapper(options: argparse.Namespace) -> Mapper:
    match options.protocol:
        case "modbus":
            from kubeedge.mapper.modbus.driver import modbus_mapper

            return modbus_mapper()
        case "http":
            from kubeedge.mapper.http.driver import http_mapper

            return http_mapper(endpoint(options.listen) if options.listen else None)
        case "mqtt":
            try:
                from kubeedge.mapper.mqtt.driver import mqtt_mapper
            except ImportError as exc:
                raise CommandError(str(exc), "pip install kubeedge[broker]") from exc

            return mqtt_mapper()
        case "opcua":
            from kubeedge.mapper.opcua.driver import opcua_mapper

            return opcua_mapper()
        case "gpio":
            from kubeedge.mapper.gpio.driver import gpio_mapper

            return gpio_mapper()
        case "serial":
            from kubeedge.mapper.serial.driver import serial_mapper

            return serial_mapper()
        case "can":
            from kubeedge.mapper.can.driver import can_mapper

            return can_mapper()
        case "ble":
            from kubeedge.mapper.ble.driver import ble_mapper

            return ble_mapper()
        case "onvif":
            from kubeedge.mapper.onvif.driver import onvif_mapper

            return onvif_mapper(endpoint(options.listen) if options.listen else None)
        case "run":
            return _of_file(Path(options.file))
    from kubeedge.mapper.virtual.driver import virtual_mapper

    return virtual_mapper()


def _of_file(path: Path) -> Mapper:
    """What a file calls `mapper`; the file's own errors are its author's to see."""
    if not path.is_file():
        inside = path / "mapper.py"
        raise UsageError(f"{path} is not a file{f': kubeedge mapper run {inside}' if inside.is_file() else ''}")
    sys.path.insert(0, str(path.resolve().parent))  # for the modules beside it
    try:
        found = runpy.run_path(str(path)).get("mapper")
    except SyntaxError as exc:
        raise UsageError(f"{exc.filename or path}, line {exc.lineno or 0}: this is no Python: {exc.msg}") from exc
    if not isinstance(found, Mapper):
        raise UsageError(f"{path} has no Mapper of the name `mapper`")
    return found


def _new(options: argparse.Namespace) -> int:
    try:
        files = project.files_of(options.name)
    except Invalid as exc:
        raise UsageError(str(exc)) from exc
    directory = Path(options.directory or options.name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise UsageError(f"{directory} is not empty")
        for path, text in files.items():
            (directory / path).write_text(text)
    except OSError as exc:
        raise CommandError(str(exc)) from exc
    print(f"{directory}: {', '.join(files)}. README.md says what to do with them.")
    return 0


def _image(options: argparse.Namespace) -> int:
    from kubeedge.appengine.images.append import append

    directory, base, output = Path(options.directory), Path(options.base), Path(options.output)
    for path, is_there in ((directory / "mapper.py", (directory / "mapper.py").is_file()), (base, base.is_file())):
        if not is_there:
            raise UsageError(f"{path} is not a file")
    command = ["kubeedge", "mapper", "run", f"{_TARGET}/mapper.py", "--metrics", f"127.0.0.1:{project.METRICS}"]
    config = {"Entrypoint": [], "Cmd": command, "WorkingDir": _TARGET, "Volumes": {}, "User": ""}
    try:
        name = append(base, directory, _TARGET, config, options.name, output)
    except (Invalid, OSError, LookupError, TypeError, ValueError) as exc:
        raise CommandError(f"cannot make {output} of {base}: {exc}") from exc
    print(f"{output}: {name}")
    return 0
