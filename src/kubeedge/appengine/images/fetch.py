"""Brings images to the store: from an archive, or from a registry. A helper process, with everything heavy in it.

    python -m kubeedge.appengine.images.fetch        one JSON object on stdin, one on stdout

    {"root", "archive", "names"}                     -> {"names": [...]}
    {"root", "pull": NAME, "auth": {registry: "base64 user:password"}, ...} -> {"names": [NAME]}
        "registries": [{"registry", "mirrors", "plainHttp", "ca"}], "insecure": [...]    how registries are reached
        "dockerConfigs": [PATH], "providers": {"config": PATH, "directory": PATH}        credentials of the node
        "parallel": layers at a time
    {"root", "save": NAME, "archive"}                -> {"names": [NAME]}
    failures                                         -> {"error": "...", "full": the disk is}

Lives elsewhere: archives (archive.py), registries (registry.py), credentials (credentials.py), layers on their way into the store (layers.py).
"""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeedge.errors import Invalid

if TYPE_CHECKING:
    from kubeedge.appengine.images.store import ImageStore

MAX_MEMORY = 512 * 1024 * 1024  # bytes of address space of the helper: an archive's headers may ask for any amount
_TIMEOUT = (
    6 * 3600.0
)  # seconds: 100 MB by 64 kbit/s take more than three hours. A line without a byte is given up long before
_MAX_ERROR = 1024  # characters; names out of an archive can be as long as they like


class NoSpace(Invalid):
    """The disk has no space left for an image."""


# -- in the agent --------------------------------------------------------------------------------------------------------------


async def run_helper(request: dict[str, Any], *, timeout: float = _TIMEOUT) -> list[str]:
    """Run a request in a helper; the names that the image has now. Raises Invalid with the helper's reason."""
    # only the agent needs them, which has them: the helper lives beside it
    import asyncio

    from kubeedge.kit import helper_process

    process = await asyncio.create_subprocess_exec(
        *helper_process.command("kubeedge.appengine.images.fetch"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(timeout):
            out, _ = await process.communicate(json.dumps(request).encode())
    except TimeoutError as exc:
        raise Invalid(f"not finished within {timeout:g} s") from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        answer = json.loads(out)
    except ValueError as exc:
        raise Invalid(f"the image helper ended with status {process.returncode}") from exc
    if "error" in answer:
        raise NoSpace(answer["error"]) if answer.get("full") else Invalid(answer["error"])
    names: list[str] = answer["names"]
    return names


# -- in the helper -------------------------------------------------------------------------------------------------------------


def main() -> int:
    """One request from stdin, one answer on stdout; always 0, since a failure is part of the answer. The address space is limited to
    MAX_MEMORY bytes."""
    import resource
    import signal

    from kubeedge._fastpath import libc
    from kubeedge.kit import deferred

    libc.limit_malloc(1, 64 * 1024)
    libc.read_single_pages()
    deferred.standard_library()  # what is saved here is 1.2 MB beside the agent
    libc.set_parent_death_signal(signal.SIGKILL)  # the next agent sweeps what we leave
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    print(json.dumps(_answer(json.loads(sys.stdin.read(1 << 20)))))
    return 0


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"names": _perform(request)}
    except MemoryError:
        return {"error": f"it takes more than {MAX_MEMORY} bytes of memory to read it"}
    except (LookupError, TypeError, AttributeError) as exc:
        return {"error": f"a document of the image has not the fields it should have ({exc!r})"[:_MAX_ERROR]}
    except Exception as exc:  # whatever bad input, a bad disk or a bad network may raise
        full = {"full": True} if getattr(exc, "errno", None) in (errno.ENOSPC, errno.EDQUOT) else {}
        return {"error": (str(exc) or type(exc).__name__)[:_MAX_ERROR], **full}


def _perform(request: dict[str, Any]) -> list[str]:
    from kubeedge._fastpath import libc
    from kubeedge.appengine.images.store import ImageStore

    libc.read_single_pages()  # of libcrypto as well, which has come with it
    store = ImageStore(Path(request["root"]))
    if "pull" in request:
        return _pull(store, request)
    if "save" in request:
        from kubeedge.appengine.images.export import export_archive

        return export_archive(store, request["save"], Path(request["archive"]))
    from kubeedge.appengine.images.archive import import_archive

    return import_archive(store, Path(request["archive"]), request.get("names", ()))


def _pull(store: ImageStore, request: dict[str, Any]) -> list[str]:
    from kubeedge.appengine.images import credentials
    from kubeedge.appengine.images.endpoints import RegistryMirrors
    from kubeedge.appengine.images.names import parse
    from kubeedge.appengine.images.registry import PARALLEL, Puller, PullSettings

    name = parse(request["pull"])
    auth = {**credentials.of_files(request.get("dockerConfigs", ())), **request.get("auth", {})}
    if providers := request.get("providers"):
        auth = {**credentials.of_providers(providers["config"], providers["directory"], name), **auth}
    registries = RegistryMirrors.of(request.get("registries", ()), request.get("insecure", ()))
    settings = PullSettings(registries=registries, auth=auth, parallel=request.get("parallel", PARALLEL))
    return Puller(store, settings).pull(name)


if __name__ == "__main__":
    sys.exit(main())
