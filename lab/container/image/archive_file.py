"""A tar archive of images as a set of files by name: looked at before anything of it is used, nothing is unpacked.

Links in it are followed within the archive, as ``docker save`` before version 25 writes them for layers that images
share. The last entry of a name counts, as for every reader of tar.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, BinaryIO, cast

from lab.container.storage.blobs import DOCUMENT_LIMIT_BYTES, READ_BYTES
from lab.container.storage.compression import Compression, compression_of, decompressed
from lab.errors import ContainerError, KernelError, LayerCorrupt

_ENTRIES_MAX = 100_000
_LINKS_MAX = 16
_HEAD_BYTES = 6


class ArchiveFile:
    """The files of an archive."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        """Read all headers.

        Raises:
            LayerCorrupt: the archive is damaged, or has more entries than any archive of images.
        """
        self._tar = tar
        self._entries: dict[str, tarfile.TarInfo] = {}
        for entry in tar:
            self._entries[_normal(entry.name)] = entry
            if len(self._entries) > _ENTRIES_MAX:
                raise LayerCorrupt(f"has more than {_ENTRIES_MAX} entries, which no archive of images has")

    def has(self, name: str) -> bool:
        """Return whether there is such an entry."""
        return _normal(name) in self._entries

    @contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """Give a file's content.

        Raises:
            LayerCorrupt: there is no such file, or its links lead nowhere.
        """
        content = self._tar.extractfile(self._file(name))
        assert content is not None, "it is a file"
        with content:
            yield content

    def size_bytes(self, name: str) -> int:
        """Return the length of a file; the errors are those of ``opened``."""
        return self._file(name).size

    def document(self, name: str) -> bytes:
        """Return the whole content of a small file; the errors are those of ``opened``."""
        if self.size_bytes(name) > DOCUMENT_LIMIT_BYTES:
            raise LayerCorrupt(f"{name} is too large for an image document")
        with self.opened(name) as content:
            data = content.read()
        if len(data) != self.size_bytes(name):
            raise LayerCorrupt(f"{name} ends too early")
        return data

    def _file(self, name: str) -> tarfile.TarInfo:
        path = _normal(name)
        for _ in range(_LINKS_MAX):
            entry = self._entries.get(path)
            if entry is None:
                raise LayerCorrupt(f"there is no {name} in it")
            if entry.isreg():
                return entry
            if entry.issym():
                path = _normal(posixpath.join(posixpath.dirname(path), entry.linkname))
            elif entry.islnk():
                path = _normal(entry.linkname)
            else:
                raise LayerCorrupt(f"{name} is not a file")
        raise LayerCorrupt(f"{name} is a link that leads round in circles")


def _normal(name: str) -> str:
    """Return a name as it counts within the archive, whose root is the root of all names."""
    return posixpath.normpath("/" + name).lstrip("/")


@contextmanager
def open_archive(source: BinaryIO, subject: str, scratch: str) -> Iterator[ArchiveFile]:
    """Give the files of an archive, compressed or not; a pipe or a compressed one is copied to ``scratch`` meanwhile.

    Raises:
        LayerCorrupt: it is not a whole tar archive; ``subject`` names it.
        KernelError: it could not be copied or read.
    """
    with ExitStack() as stack:
        try:
            file = _seekable(source, stack, scratch)
            # "r:" takes no compressed archive, of which every look would begin anew
            tar = stack.enter_context(tarfile.open(fileobj=file, mode="r:", errors="surrogateescape"))
            yield ArchiveFile(tar)
        except tarfile.TarError as error:
            raise LayerCorrupt(f"{subject} is not a whole tar archive: {error}") from error
        except LayerCorrupt as error:
            raise LayerCorrupt(f"{subject}: {error}", hint=error.hint) from error
        except (ValueError, OverflowError, RecursionError) as error:
            raise LayerCorrupt(f"{subject} has an impossible entry: {error}") from error
        except OSError as error:
            raise KernelError.of("load", subject, error) from error


def _seekable(source: BinaryIO, stack: ExitStack, scratch: str) -> BinaryIO:
    if source.seekable():
        begin = source.tell()
        head = source.read(_HEAD_BYTES)
        source.seek(begin)
        if compression_of(head) is Compression.NONE:
            return source
    os.makedirs(scratch, exist_ok=True)
    copy = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - the stack closes it; without a name, it goes with us
    stack.enter_context(copy)
    shutil.copyfileobj(cast(BinaryIO, decompressed(source)), copy, READ_BYTES)  # cast: it needs read() only
    copy.seek(0)
    return cast(BinaryIO, copy)  # cast: a file


def require_layout(archive: ArchiveFile) -> None:
    """Refuse an archive that holds no images.

    Raises:
        ContainerError: it has neither ``manifest.json`` nor ``index.json``.
    """
    if archive.has("manifest.json") or archive.has("index.json"):
        return
    hint = "for the files of one image without its configuration: lab import" if not archive.has("repositories") else ""
    raise ContainerError("it holds no images: neither manifest.json nor index.json is in it", hint=hint)
