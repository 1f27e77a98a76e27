"""Where a build's files come from: a directory, an archive on standard input or at a URL, a repository, or nowhere.

Source: https://docs.docker.com/build/concepts/context/.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from typing import IO

from lab.container.image.build_select import Origin
from lab.container.image.build_sources import begins_as_archive, download
from lab.container.image.ignore import IgnoreRules, parse_ignore
from lab.container.image.repository import clone, is_repository
from lab.container.storage.blobs import READ_BYTES
from lab.container.storage.compression import Readable, decompressed
from lab.container.storage.unpack import UnpackLimits, unpack
from lab.errors import BuildFailed, LayerCorrupt

DOCKERFILE = "Dockerfile"
STDIN = "-"
_REMOTE = re.compile(r"https?://")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSource:
    """What the user names: ``location`` is a path, a URL or "-"; ``dockerfile`` a path or "-", "" for the default.

    ``stdin`` is read where one of them is "-".
    """

    location: str
    dockerfile: str = ""
    stdin: IO[bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """An open context: the Dockerfile's text and its name in messages, and the files that COPY may take."""

    dockerfile: str
    path: str
    origin: Origin


def open_context(source: ContextSource, work: str) -> Context:
    """Return the context that a user names; what has to be fetched or unpacked for it is put below ``work``.

    Raises:
        BuildFailed: it, or its Dockerfile, is not to be had.
        SpecError: its ignore file has a fault.
    """
    if source.location == STDIN == source.dockerfile:
        raise BuildFailed("invalid argument: can't use stdin for both build context and dockerfile")
    text = _all_of_stdin(source) if source.dockerfile == STDIN else None
    if source.location == STDIN:
        assert source.stdin is not None, "it was asked for"
        return _archive_or_text(source.stdin, source, work)
    if is_repository(source.location):
        return _remote(clone(source.location, _empty(work)), source, text)
    if _REMOTE.match(source.location):
        path = os.path.join(work, "fetched")
        download(source.location, path)
        with open(path, "rb") as file:
            return _archive_or_text(file, source, work, text)
    return _local(source, text)


def _local(source: ContextSource, text: str | None) -> Context:
    directory = source.location
    if not os.path.isdir(directory):
        raise BuildFailed(f"unable to prepare context: path {directory!r} not found")
    path = os.path.abspath(source.dockerfile) if source.dockerfile and text is None else _default_file(directory)
    content = _read(path) if text is None else text
    return Context(
        dockerfile=content,
        path=DOCKERFILE if text is not None else os.path.relpath(path),
        origin=_origin(directory, path),
    )


def _remote(directory: str, source: ContextSource, text: str | None) -> Context:
    """Return the context in a directory that is not the user's: its Dockerfile is named from its root."""
    named = source.dockerfile if source.dockerfile != STDIN else ""
    path = os.path.join(directory, named.lstrip("/")) if named else _default_file(directory)
    if not os.path.realpath(path).startswith(os.path.realpath(directory) + "/"):
        raise BuildFailed(f"the Dockerfile {named} must be within the build context")
    content = _read(path) if text is None else text
    return Context(dockerfile=content, path=os.path.relpath(path, directory), origin=_origin(directory, path))


def _archive_or_text(stream: IO[bytes], source: ContextSource, work: str, text: str | None = None) -> Context:
    head = stream.read(READ_BYTES)
    rest = _Rejoined(head, stream)
    if _is_archive(head):
        directory = _empty(work)
        unpack(decompressed(rest), directory, UnpackLimits(devices=False), subject="the build context")
        return _remote(directory, source, text)
    if source.dockerfile and text is None:
        raise BuildFailed("the build context is not a tar archive", hint="tar -c . | lab build -f FILE -")
    content = rest.read_all().decode("utf-8", "surrogateescape")
    return Context(dockerfile=content, path=DOCKERFILE, origin=_origin(_empty(work), os.path.join(work, DOCKERFILE)))


def _is_archive(head: bytes) -> bool:
    try:
        return begins_as_archive(decompressed(io.BytesIO(head)))
    except LayerCorrupt:
        return False


class _Rejoined:
    """A stream of which the first bytes have been read already."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head, self._stream = io.BytesIO(head), stream

    def read(self, size: int, /) -> bytes:
        return self._head.read(size) or self._stream.read(size)

    def read_all(self) -> bytes:
        pieces = []
        while piece := self.read(READ_BYTES):
            pieces.append(piece)
        return b"".join(pieces)


def _all_of_stdin(source: ContextSource) -> str:
    assert source.stdin is not None, "it was asked for"
    return source.stdin.read().decode("utf-8", "surrogateescape")


def _empty(work: str) -> str:
    directory = os.path.join(work, "context")
    os.mkdir(directory, 0o755)
    return directory


def _default_file(directory: str) -> str:
    names = (DOCKERFILE, DOCKERFILE.lower())
    found = next((name for name in names if os.path.exists(os.path.join(directory, name))), DOCKERFILE)
    return os.path.join(os.path.abspath(directory), found)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except (FileNotFoundError, IsADirectoryError) as error:
        hint = "name the file with -f FILE"
        raise BuildFailed(f"failed to read dockerfile {path}: {error.strerror}", hint=hint) from None


def _origin(directory: str, dockerfile: str) -> Origin:
    root = os.path.realpath(directory)
    own, shared = f"{dockerfile}.dockerignore", os.path.join(root, ".dockerignore")
    path = own if os.path.isfile(own) else shared
    rules = parse_ignore(_read(path), path=os.path.relpath(path)) if os.path.isfile(path) else IgnoreRules()
    return Origin(root=root, subject="build context", rules=rules)
