"""Unpacked layers, one directory per chain id, each unpacked once and shared by all images that stand on it.

A chain id names a layer together with everything below it. A layer's directory gets its name when all that is in it is
on the disk, so that what is there after a power loss is whole: who finds it need not look. Source:
https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lab.container.spec.image import Descriptor
from lab.container.storage import disk, durable
from lab.container.storage.blobs import READ_BYTES, BlobReader, BlobStore
from lab.container.storage.trees import remove_tree
from lab.errors import ContainerError, DigestMismatch, LayerCorrupt
from lab.linux.filesystem import syncfs

TYPE_CHECKING = False
if TYPE_CHECKING:  # tarfile and compression are imported where a layer is unpacked, which is not on the way to a start
    from lab.container.storage.compression import Readable
    from lab.container.storage.unpack import UnpackLimits

_TAR_TYPES = (".tar", ".tar+gzip", ".tar.gzip", ".tar+zstd", ".tar.zstd")
_UNFINISHED = ".unfinished"


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the chain id of each layer, lowest first."""
    found: list[str] = []
    for diff_id in diff_ids:
        found.append(_digest(f"{found[-1]} {diff_id}".encode()) if found else diff_id)
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSource:
    """A layer to be unpacked: its blob, the digest of its tar, and its place on the layers below."""

    descriptor: Descriptor
    diff_id: str
    chain_id: str


class LayerStore:
    """The unpacked layers of one lab root."""

    def __init__(self, root: str, blobs: BlobStore, *, limits: UnpackLimits | None = None) -> None:
        self._root = root
        self._blobs = blobs
        self._given_limits = limits

    @property
    def _limits(self) -> UnpackLimits:
        from lab.container.storage.unpack import UnpackLimits

        return self._given_limits or UnpackLimits.of_the_user()

    def path(self, chain_id: str) -> str:
        """Return where the layer is, or would be, unpacked."""
        return os.path.join(self._root, chain_id.removeprefix("sha256:"))

    def chain_ids(self) -> tuple[str, ...]:
        """Return the chain ids of all unpacked layers, sorted."""
        return tuple(sorted(f"sha256:{name}" for name in self._names() if "." not in name))

    def directory(self, source: LayerSource) -> str:
        """Return the layer's directory, unpacking it if need be; of several who ask at once, one does the work.

        Raises:
            DigestMismatch: the blob or its tar has another digest.
            LayerCorrupt: the tar is damaged, too large, or tries to leave its root.
        """
        path = self.path(source.chain_id)
        if os.path.isdir(path):
            return path
        os.makedirs(self._root, mode=0o711, exist_ok=True)
        with durable.locked(f"{path}.lock"):
            if not os.path.isdir(path):
                with self._unfinished(path) as unfinished:
                    self._note_size(source.chain_id, self._unpack_blob(unfinished, source))
        return path

    def fill(self, chain_id: str, diff_id: str, tar: Readable, *, subject: str) -> None:
        """Unpack a layer from its ``tar`` as that comes from elsewhere; one that is there already stays as it is.

        ``tar`` is read in another thread, to its end, and only there. ``subject`` names it in errors.

        Raises:
            DigestMismatch: the tar has another digest than ``diff_id``; nothing is left.
            LayerCorrupt: the tar is damaged, too large, or tries to leave its root; nothing is left.
        """
        path = self.path(chain_id)
        os.makedirs(self._root, mode=0o711, exist_ok=True)
        with durable.locked(f"{path}.lock"), self._unfinished(path) as directory:
            self._note_size(chain_id, self._unpack(tar, directory, diff_id, subject))

    def adopt(self, makers: Mapping[str, Callable[[str], bool]]) -> None:
        """Take over layers that come from no tar: by chain id, what makes a directory and says whether it could.

        Those that are there already stay as they are; the disk is waited for once.
        """
        os.makedirs(self._root, mode=0o711, exist_ok=True)
        with ExitStack() as stack:
            made = [path for chain_id, make in makers.items() if (path := self._adopt(chain_id, make, stack))]
            if made:
                syncfs(self._root)
                for path in made:
                    os.rename(path + _UNFINISHED, path)
                durable.sync_directory(self._root)

    def _adopt(self, chain_id: str, make: Callable[[str], bool], stack: ExitStack) -> str:
        """Make an unfinished layer and return what it is to be called, "" if there is nothing to do."""
        path = self.path(chain_id)
        if os.path.isdir(path):
            return ""
        stack.enter_context(durable.locked(f"{path}.lock"))
        if os.path.isdir(path):
            return ""
        remove_tree(path + _UNFINISHED)  # we hold the lock, so whoever made it is dead
        stack.callback(remove_tree, path + _UNFINISHED)  # which is no more there if all goes well
        return path if make(path + _UNFINISHED) else ""

    def content_bytes(self, source: LayerSource) -> int:
        """Return the bytes of the layer's files and targets of links, hard links counted once; read once, then known.

        Raises:
            DigestMismatch: the blob has another digest.
            LayerCorrupt: the tar is damaged.
        """
        try:
            with open(self._size_path(source.chain_id), encoding="ascii") as file:
                return int(file.read())
        except (FileNotFoundError, ValueError):  # never there, or lost with the power
            pass
        path = self.path(source.chain_id)
        size_bytes = disk.content_bytes(path) if os.path.isdir(path) else self._measured(source)
        os.makedirs(self._root, mode=0o711, exist_ok=True)
        self._note_size(source.chain_id, size_bytes)
        return size_bytes

    def remove(self, chain_id: str) -> int:
        """Remove the unpacked layer and what killed commands left of it, if there is any; return the freed bytes."""
        path = self.path(chain_id)
        if not os.path.isdir(self._root):
            return 0
        freed = 0
        with durable.locked(f"{path}.lock"):
            if os.path.isdir(path):
                if os.path.isdir(path + _UNFINISHED):
                    remove_tree(path + _UNFINISHED)
                os.rename(path, path + _UNFINISHED)  # what is half removed must never look like a layer
            if os.path.isdir(path + _UNFINISHED):
                freed = disk.used_bytes(path + _UNFINISHED)
                remove_tree(path + _UNFINISHED)
            for name in self._names():  # its size, what was to become its size, and last of all the lock
                if name.startswith(f"{os.path.basename(path)}."):
                    os.unlink(os.path.join(self._root, name))
        return freed

    def leftovers(self) -> tuple[str, ...]:
        """Return the chain ids of layers that are not unpacked but have left something, as killed commands do."""
        names = self._names()
        there = {name for name in names if "." not in name}
        return tuple(sorted(f"sha256:{name}" for name in {name.partition(".")[0] for name in names} - there))

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._root)
        except FileNotFoundError:
            return []

    def _size_path(self, chain_id: str) -> str:
        return f"{self.path(chain_id)}.size"

    def _note_size(self, chain_id: str, size_bytes: int) -> None:
        durable.write_whole(self._size_path(chain_id), str(size_bytes).encode())

    def _measured(self, source: LayerSource) -> int:
        with self._blobs.reading(source.descriptor.digest) as blob:
            subject = f"layer {source.descriptor.digest}"
            from lab.container.storage.unpack import measure

            return measure(_uncompressed(blob, source.descriptor.media_type), self._limits, subject=subject)

    @contextmanager
    def _unfinished(self, path: str) -> Iterator[str]:
        """Give a directory that becomes ``path`` after the block, and goes if the block fails; we hold the lock."""
        unfinished = path + _UNFINISHED
        if os.path.isdir(unfinished):  # we hold the lock, so whoever made it is dead
            remove_tree(unfinished)
        os.mkdir(unfinished, mode=0o755)
        try:
            yield unfinished
            syncfs(unfinished)
            if os.path.isdir(path):  # only where the caller did not look first
                remove_tree(unfinished)
            else:
                os.rename(unfinished, path)
        except BaseException:
            remove_tree(unfinished)
            raise
        durable.sync_directory(self._root)

    def _unpack_blob(self, directory: str, source: LayerSource) -> int:
        descriptor = source.descriptor
        subject = f"layer {descriptor.digest}"
        with self._blobs.reading(descriptor.digest) as blob:
            try:
                tar = _uncompressed(blob, descriptor.media_type)
                return self._unpack(tar, directory, source.diff_id, subject)
            except (LayerCorrupt, DigestMismatch):
                blob.finish()  # damage on disk is told as that, not as a bad archive
                raise

    def _unpack(self, tar: Readable, directory: str, diff_id: str, subject: str) -> int:
        """Unpack a tar, compare its digest, and return the bytes of its files."""
        hashed = _HashedStream(tar, self._limits.stream_bytes)
        from lab.container.storage.read_ahead import ReadAhead
        from lab.container.storage.unpack import unpack

        with ReadAhead(hashed, piece_bytes=READ_BYTES) as pieces:
            size_bytes = unpack(pieces, directory, self._limits, subject=subject)
            while pieces.read(READ_BYTES):
                pass
        if hashed.digest != diff_id:
            raise DigestMismatch(
                f"tar of {subject}",
                expected=diff_id,
                actual=hashed.digest,
                hint="the image's configuration and its layers do not belong together: pull or make it anew",
            )
        return size_bytes


class _HashedStream:
    """The uncompressed tar, hashed as it is read."""

    def __init__(self, source: Readable, limit_bytes: int) -> None:
        self._source = source
        self._limit_bytes = limit_bytes
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        self._limit_bytes -= len(data)
        if self._limit_bytes < 0:
            from lab.container.storage.unpack import RAISE_LIMITS

            raise LayerCorrupt("is longer than the limits allow", hint=RAISE_LIMITS)
        return data

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def _uncompressed(blob: BlobReader, media_type: str) -> Readable:
    if not media_type.endswith(_TAR_TYPES):
        raise ContainerError(f"layers of type {media_type} are not understood", hint="tar, gzip and zstd are")
    from lab.container.storage.compression import decompressed

    return decompressed(blob)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
