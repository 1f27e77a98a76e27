"""The program of ``--init``: process 1 of a container, which reaps and hands signals on.

``init_program.c`` is compiled by the host's compiler when it is first needed, and kept. Without a compiler a static
program of the same kind takes its place, where the host has one.
"""

from __future__ import annotations

import struct

from lab.container import compiled
from lab.errors import UnavailableError
from lab.linux import compiler

_FLAGS = ("-Os", "-static", "-s")
_OTHERS = ("/usr/bin/tini-static", "/usr/bin/catatonit", "/usr/libexec/podman/catatonit", "/usr/bin/docker-init")
_ELF_HEADER = struct.Struct("<16x2HI3QI6H")  # of a 64-bit program
_ELF64_LITTLE = b"\x7fELF\x02\x01"
_PT_INTERP = 3


def ensure(cache: str) -> str:
    """Return the path of the program on the host; it is compiled at first use and kept below ``cache``.

    Raises:
        UnavailableError: there is no compiler, nor another such program.
    """
    try:
        return compiled.ensure(cache, "init_program.c", _FLAGS)
    except UnavailableError as error:
        other = next((each for each in _OTHERS if is_static(each)), None)
        if other is None:
            hint = f"{compiler.HINT}, or apt install tini"
            raise UnavailableError(f"no program of --init: {error}", hint=hint) from error
        return other


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
