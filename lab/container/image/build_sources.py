"""What a COPY or ADD names, as files on this host: paths of an origin, here-documents, archives, URLs, repositories."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lab.container.image.build_select import Choice, Item, Origin, Source, select
from lab.container.image.build_steps import CopyFiles, Inline
from lab.container.image.repository import clone, is_repository
from lab.container.storage.compression import Readable, decompressed
from lab.container.storage.unpack import UnpackLimits, unpack
from lab.errors import BuildFailed, LayerCorrupt

_REMOTE = re.compile(r"https?://")
_TIMEOUT_S = 60
_BLOCK_BYTES = 512
_MAGIC_AT, _MAGIC = 257, b"ustar"
_INLINE_MODE, _FETCHED_MODE = 0o644, 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """An empty directory for what has to be made first, and the time that such files get, since the epoch."""

    work: str
    created_s: int


def sources_of(action: CopyFiles, origin: Origin, place: Workplace) -> tuple[Source, ...]:
    """Return what an instruction copies, in its order.

    Raises:
        BuildFailed: something is not to be had.
        ContainerError: the origin has no such file.
    """
    found: list[Source] = []
    for source in action.sources:
        found += _named(action, source, origin, place)
    return (*found, *(_inline(each, place) for each in action.inline))


def _named(action: CopyFiles, source: str, origin: Origin, place: Workplace) -> Iterator[Source]:
    if action.unpacks and is_repository(source):
        yield _cloned(action, source, place)
    elif action.unpacks and _REMOTE.match(source):
        yield _fetched(action, source, place)
    else:
        for each in select(origin, source, Choice(excludes=action.excludes, parents=action.parents)):
            yield _unpacked(each, place) if action.unpacks and _is_archive(each) else each


def _inline(inline: Inline, place: Workplace) -> Source:
    path = os.path.join(tempfile.mkdtemp(dir=place.work), "inline")
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(inline.text)
    os.chmod(path, _INLINE_MODE)
    os.utime(path, (place.created_s, place.created_s))
    return _file(path, inline.name)


def _file(path: str, name: str) -> Source:
    return Source(name=name, is_directory=False, items=(Item(path=path, name=name, status=os.lstat(path)),))


def _directory(path: str, subject: str, action: CopyFiles, *, keeps_owners: bool) -> Source:
    origin = Origin(root=path, subject=subject, keeps_owners=keeps_owners)
    return select(origin, "/", Choice(excludes=action.excludes))[0]


def _cloned(action: CopyFiles, url: str, place: Workplace) -> Source:
    directory = clone(url, tempfile.mkdtemp(dir=place.work), keep_git_directory=action.keep_git_dir)
    return _directory(directory, url, action, keeps_owners=False)


def _is_archive(source: Source) -> bool:
    """Return whether a file is a tar archive, compressed or not; its name does not matter."""
    if source.is_directory or not os.path.isfile(source.items[0].path):
        return False
    try:
        with open(source.items[0].path, "rb") as file:
            return begins_as_archive(decompressed(file))
    except (LayerCorrupt, OSError):
        return False


def begins_as_archive(stream: Readable) -> bool:
    """Return whether a stream, which is read for that, begins as a tar archive does."""
    block = b""
    while len(block) < _BLOCK_BYTES and (data := stream.read(_BLOCK_BYTES - len(block))):
        block += data
    return block[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


def _unpacked(source: Source, place: Workplace) -> Source:
    directory = tempfile.mkdtemp(dir=place.work)
    os.chmod(directory, 0o755)
    with open(source.items[0].path, "rb") as file:
        unpack(decompressed(file), directory, UnpackLimits(), subject=source.name)
    found = _directory(directory, source.name, CopyFiles(sources=(), destination="/"), keeps_owners=True)
    return replace(found, items=found.items[1:])


def _fetched(action: CopyFiles, url: str, place: Workplace) -> Source:
    name = posixpath.basename(re.split(r"[?#]", url)[0])
    if not name and action.destination.endswith("/"):
        raise BuildFailed(f"cannot tell a file name from {url}", hint="give the destination a file name")
    path = os.path.join(tempfile.mkdtemp(dir=place.work), "fetched")
    download(url, path)
    _check(action, path, url)
    os.chmod(path, _FETCHED_MODE)
    return _file(path, name)


def download(url: str, path: str) -> None:
    """Write what a URL gives to a file, and set its time to what the server says.

    Raises:
        BuildFailed: it cannot be had.
    """
    import email.utils  # these cost tens of milliseconds, and few builds need them
    import shutil
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer, open(path, "wb") as file:
            shutil.copyfileobj(answer, file)
            modified = answer.headers.get("Last-Modified", "")
    except OSError as error:
        raise BuildFailed(f"cannot fetch {url}: {error}") from error
    parsed = email.utils.parsedate_to_datetime(modified).timestamp() if modified else 0
    os.utime(path, (parsed, parsed))


def _check(action: CopyFiles, path: str, url: str) -> None:
    if not action.checksum:
        return
    algorithm, _, expected = action.checksum.partition(":")
    if algorithm != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise BuildFailed(f"invalid --checksum: {action.checksum}", hint="sha256: and 64 hexadecimal digits")
    with open(path, "rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        raise BuildFailed(f"digest mismatch sha256:{actual}: {expected} of {url}")
