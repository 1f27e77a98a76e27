"""The program of ``--init``: process 1 of a container, which reaps and hands signals on.

``init_program.c`` is compiled by the host's compiler when it is first needed, and kept. Without a compiler a static
program of the same kind takes its place, where the host has one.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import struct

from lab.errors import UnavailableError
from lab.linux import command

_COMPILE = ("cc", "-Os", "-static", "-s", "-Wall", "-Wextra", "-Werror")
_OTHERS = ("/usr/bin/tini-static", "/usr/bin/catatonit", "/usr/libexec/podman/catatonit", "/usr/bin/docker-init")
_HINT = "apt install gcc libc6-dev, or apt install tini"
_ELF_HEADER = struct.Struct("<16x2HI3QI6H")  # of a 64-bit program
_ELF64_LITTLE = b"\x7fELF\x02\x01"
_PT_INTERP = 3


def ensure(cache: str) -> str:
    """Return the path of the program on the host; it is compiled at first use and kept below ``cache``.

    Raises:
        UnavailableError: there is no compiler, nor another such program.
    """
    source = importlib.resources.files("lab.container").joinpath("init_program.c").read_bytes()
    path = os.path.join(cache, "init", f"init-{hashlib.sha256(source).hexdigest()[:16]}")
    if os.path.exists(path):
        return path
    try:
        _compile(source, path)
    except UnavailableError:
        other = next((each for each in _OTHERS if is_static(each)), None)
        if other is None:
            raise
        return other
    return path


def _compile(source: bytes, path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}.new"
    try:
        done = command.run((*_COMPILE, "-o", temporary, "-x", "c", "-"), stdin=source)
        if done.exit_code:
            raise UnavailableError(f"cannot compile the program of --init: {done.error_text[-300:]}", hint=_HINT)
        os.replace(temporary, path)  # many may make it at once: the last one stays, and all are the same
    except FileNotFoundError as error:
        raise UnavailableError("no C compiler, needed for the program of --init", hint=_HINT) from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def is_static(path: str) -> bool:
    """Return whether a file is a program of this machine that needs no loader, and so runs in any image."""
    try:
        with open(path, "rb") as file:
            data = file.read(4096)
    except OSError:
        return False
    if not data.startswith(_ELF64_LITTLE) or len(data) < _ELF_HEADER.size:
        return False
    fields = _ELF_HEADER.unpack_from(data)
    table, size, count = fields[4], fields[8], fields[9]  # of its segments
    places = range(table, table + size * count, size) if size else range(0)
    kinds = [struct.unpack_from("<I", data, place)[0] for place in places if place + 4 <= len(data)]
    return bool(kinds) and _PT_INTERP not in kinds
