"""Programs of ours in C, made by the host's compiler when they are first needed, and kept."""

from __future__ import annotations

import hashlib
import os
import threading

from lab.errors import UnavailableError
from lab.linux.compiler import compile_c

_COMPILING = threading.Lock()
_KEEPER_FLAGS = ("-Os", "-static", "-s")  # a page or two for each terminal
_MACHINE_FLAGS = ("-O2", "-shared", "-fPIC", "-s")


def ensure(cache: str, source_name: str, flags: tuple[str, ...]) -> str:
    """Return the path of what a source file of this package is compiled to, below ``cache``, named by its content.

    Raises:
        UnavailableError: there is no compiler, or it refuses.
    """
    with open(os.path.join(os.path.dirname(__file__), source_name), "rb") as file:
        source = file.read()
    name = f"{source_name.removesuffix('.c')}-{hashlib.sha256(source).hexdigest()[:16]}"
    path = os.path.join(cache, "compiled", name)
    if not os.path.exists(path):
        with _COMPILING:  # the others of this process wait for the one that does it
            if not os.path.exists(path):
                _compile(source, path, flags)
    return path


def machine(cache: str) -> str:
    """Return the path of the library of ``machine.c``; "" where there is no compiler, and plans take Python."""
    try:
        return ensure(cache, "machine.c", _MACHINE_FLAGS)
    except UnavailableError:
        return ""


def terminal_keeper(cache: str) -> str:
    """Return the path of the program of ``terminal_keeper.c``; "" where there is no compiler for it."""
    try:
        return ensure(cache, "terminal_keeper.c", _KEEPER_FLAGS)
    except UnavailableError:
        return ""


def _compile(source: bytes, path: str, flags: tuple[str, ...]) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}.new"
    try:
        compile_c(source, temporary, (*flags, "-Wextra", "-Werror"), purpose=os.path.basename(path))
        os.replace(temporary, path)  # many processes may make it at once: the last one stays, and all are the same
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
