"""What is done with a container's files in the process aside (``aside.py``): look, pack, unpack, export.

Source: docs.docker.com/reference/api/engine, "Get an archive of a filesystem resource in a container"; the bits of a
mode are those of Go's os.FileMode (pkg.go.dev/io/fs).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import BinaryIO, cast

from lab.api.aside import Work
from lab.api.refusals import NoSuchPath
from lab.container import inside
from lab.container.containers import Container, Containers
from lab.container.log_file import timestamp
from lab.container.spec.runtime import Spec
from lab.container.storage.compression import decompressed
from lab.errors import SpecError
from lab.paths import Paths

KEEPS_KINDS = "keeps kinds"
"""The argument of ``extract`` that lets no file replace a directory, and no directory a file."""

_CHUNK_BYTES = 1 << 16
_PERMISSIONS = 0o777
_GO_BITS = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))
_GO_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: (1 << 26) | (1 << 21),
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}

Arguments = Mapping[str, str]


def go_mode(mode: int) -> int:
    """Return a mode as stat(2) has it in the bits of Go's os.FileMode."""
    bits = sum(go for ours, go in _GO_BITS if mode & ours)
    return (mode & _PERMISSIONS) | bits | _GO_TYPES.get(stat.S_IFMT(mode), 0)


def arguments(paths: Paths, container_id: str, path: str = "") -> dict[str, str]:
    """Return what each work is told: the root, the container, and a path in it."""
    return {"root": paths.root, "cache": paths.cache, "run": paths.run, "container": container_id, "path": path}


def _opened(given: Arguments) -> tuple[Container, Spec]:
    with Containers(Paths(root=given["root"], cache=given["cache"], run=given["run"])) as containers:
        container = containers.get(given["container"])
        return container, containers.engine.directory.load_spec(container.id)


def _absolute(path: str) -> str:
    """Return a path from the root on; what says that a directory's content is meant stays at its end."""
    return path if path.startswith("/") else f"/{path}"


def _found(container: Container, spec: Spec, path: str) -> inside.PathStat:
    found = inside.look(container.state, spec, path, follow=path.endswith(("/", "/.")))
    if found is None:
        raise NoSuchPath(f"Could not find the file {path} in container {container.name}")
    return found


def look(given: Arguments, _: tuple[int, ...]) -> object:
    """Return what is at a path, as docker's header X-Docker-Container-Path-Stat has it."""
    container, spec = _opened(given)
    path = _absolute(given["path"])
    found = _found(container, spec, path)
    target = _leads_to(container, spec, path) if found.link_target else ""
    return {
        "name": found.name,
        "size": found.size,
        "mode": go_mode(found.mode),
        "mtime": timestamp(found.mtime_ns),
        "linkTarget": target,
    }


def _leads_to(container: Container, spec: Spec, path: str) -> str:
    def tell(target: BinaryIO) -> None:
        target.write(os.fsencode(os.path.realpath(path)))

    with inside.reading(container.state, spec, tell) as source:
        return os.fsdecode(source.read())


def pack(given: Arguments, descriptors: tuple[int, ...]) -> object:
    """Write what is at a path to the descriptor as a tar."""
    container, spec = _opened(given)
    path = _absolute(given["path"])
    found = _found(container, spec, path)
    write = inside.pack_path(path, found.name, follow=path.endswith(("/", "/.")), keeps_owner=True)
    with inside.reading(container.state, spec, write) as source:
        _copy(source, descriptors[0])
    return None


def _copy(source: BinaryIO, target: int) -> None:
    with os.fdopen(os.dup(target), "wb") as stream:
        while data := source.read(_CHUNK_BYTES):
            stream.write(data)


def extract(given: Arguments, descriptors: tuple[int, ...]) -> object:
    """Unpack the tar that comes from the descriptor, compressed or not, into a directory."""
    container, spec = _opened(given)
    path = _absolute(given["path"])
    found = inside.look(container.state, spec, path, follow=True)
    if found is None:
        raise NoSuchPath(f"Could not find the file {path} in container {container.name}")
    if not found.is_directory:
        raise SpecError("extraction point is not a directory")
    with os.fdopen(os.dup(descriptors[0]), "rb") as source:
        archive = cast(BinaryIO, decompressed(source))  # it is only read
        inside.extract(container.state, spec, path, archive, replaces_kinds=not given.get(KEEPS_KINDS))
        while source.read(_CHUNK_BYTES):  # what stands behind the archive's end
            continue
    return None


def export(given: Arguments, descriptors: tuple[int, ...]) -> object:
    """Write a container's whole root to the descriptor as a tar."""
    container, _ = _opened(given)
    with os.fdopen(os.dup(descriptors[0]), "wb") as target:
        inside.export_root(container.state, target)
    return None


WORKS: Mapping[str, Work] = {"look": look, "pack": pack, "extract": extract, "export": export}
