"""Programs of ours in C, made by the host's compiler when they are first needed, and kept."""

from __future__ import annotations

import hashlib
import os

from lab.errors import UnavailableError
from lab.linux.compiler import compile_c

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


def slumber(cache: str) -> str:
    """Return the path of the program of ``slumber.c``; "" where there is no compiler for it."""
    try:
        return ensure(cache, "slumber.c", _KEEPER_FLAGS)
    except UnavailableError:
        return ""


def _compile(source: bytes, path: str, flags: tuple[str, ...]) -> None:
    import fcntl  # once for a root

    directory, temporary = os.path.dirname(path), f"{path}.new"
    os.makedirs(directory, exist_ok=True)
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a hundred commands on a new root wait for the one that does it
        if not os.path.exists(path):
            compile_c(source, temporary, (*flags, "-Wextra", "-Werror"), purpose=os.path.basename(path))
            os.replace(temporary, path)
    finally:
        os.close(lock)
