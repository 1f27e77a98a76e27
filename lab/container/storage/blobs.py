"""The content store: ``blobs/sha256/<hex>``, each file named by the digest of its bytes.

A blob comes into being whole: it is written under ``ingest/`` while it is hashed, made durable, and renamed. It is
never changed afterwards, and whoever reads it gets its digest checked.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from lab.container.spec.image import is_digest
from lab.container.storage import durable
from lab.errors import ContainerError, DigestMismatch

READ_BYTES = 1024 * 1024
DOCUMENT_LIMIT_BYTES = 4 * 1024 * 1024  # the size that registries accept for a manifest
_REMAKE_HINT = "lab image verify shows what else is damaged; lab image bootstrap --force makes a base image anew"


class BlobWriter:
    """One blob being written: a file in the making, hashed as it grows."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append ``data`` and return its length."""
        self._hash.update(data)
        self._file.write(data)
        self.size_bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: the bytes are made durable as a whole, at the end."""

    @property
    def digest(self) -> str:
        """The digest of what has been written so far."""
        return f"sha256:{self._hash.hexdigest()}"


class BlobReader:
    """A blob being read; ``finish`` tells whether its bytes were the right ones."""

    def __init__(self, file: BinaryIO, *, digest: str) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._digest = digest

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes (all that are left if negative), b"" at the end."""
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def finish(self) -> None:
        """Read what is left and compare the digest.

        Raises:
            DigestMismatch: the file's bytes are not those that its name promises.
        """
        while self.read(READ_BYTES):
            pass
        actual = f"sha256:{self._hash.hexdigest()}"
        if actual != self._digest:
            raise DigestMismatch(f"blob {self._file.name}", expected=self._digest, actual=actual, hint=_REMAKE_HINT)


class BlobStore:
    """The blobs below one OCI layout directory; nothing is created before something is written.

    ``ingest`` is where unfinished ones are, on the same file system.
    """

    def __init__(self, root: str) -> None:
        self._blobs = os.path.join(root, "blobs", "sha256")
        self.ingest = os.path.join(root, "ingest")

    def path(self, digest: str) -> str:
        """Return where the blob is, or would be.

        Raises:
            ContainerError: ``digest`` is no sha256 digest.
        """
        if not is_digest(digest):  # a digest becomes a path: nothing else may pass here
            raise ContainerError(f"not a digest: {digest!r}", hint="sha256: and 64 hexadecimal digits")
        return os.path.join(self._blobs, digest.removeprefix("sha256:"))

    def has(self, digest: str) -> bool:
        """Return whether there is such a blob; its bytes are not looked at."""
        return os.path.exists(self.path(digest))

    def digests(self) -> tuple[str, ...]:
        """Return the digests of all blobs, sorted."""
        if not os.path.isdir(self._blobs):
            return ()
        return tuple(sorted(digest for name in os.listdir(self._blobs) if is_digest(digest := f"sha256:{name}")))

    @contextmanager
    def writing(self) -> Iterator[BlobWriter]:
        """Give a writer; what was written is a blob after the block, and nothing is left if the block fails."""
        for directory in (self._blobs, self.ingest):
            os.makedirs(directory, exist_ok=True)
        from tempfile import mkstemp  # not on the way to a start

        descriptor, temporary = mkstemp(dir=self.ingest)
        try:
            with os.fdopen(descriptor, "wb") as file:
                writer = BlobWriter(file)
                yield writer
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.rename(temporary, self.path(writer.digest))
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        durable.sync_directory(self._blobs)

    def add(self, data: bytes) -> str:
        """Store ``data`` and return its digest."""
        with self.writing() as writer:
            writer.write(data)
        return writer.digest

    @contextmanager
    def reading(self, digest: str) -> Iterator[BlobReader]:
        """Give a reader of the blob; its digest is checked at the end of the block.

        Raises:
            ContainerError: there is no such blob.
            DigestMismatch: its bytes are not those that its name promises.
        """
        try:
            file = open(self.path(digest), "rb")  # noqa: SIM115 - closed by the with block below
        except FileNotFoundError as error:
            raise ContainerError(f"blob {digest} is missing from {self._blobs}", hint=_REMAKE_HINT) from error
        with file:
            reader = BlobReader(file, digest=digest)
            yield reader
            reader.finish()

    def read(self, digest: str) -> bytes:
        """Return the bytes of a small blob (a manifest or configuration), checked.

        Raises:
            ContainerError: there is no such blob, or it is too large for a document.
            DigestMismatch: its bytes are not those that its name promises.
        """
        with self.reading(digest) as reader:
            data = reader.read(DOCUMENT_LIMIT_BYTES + 1)
            if len(data) > DOCUMENT_LIMIT_BYTES:
                raise ContainerError(f"blob {digest} is too large for an image document")
        return data

    def verify(self, digest: str) -> None:
        """Hash the blob anew.

        Raises:
            DigestMismatch: its bytes are not those that its name promises.
        """
        with self.reading(digest):
            pass

    def remove(self, digest: str) -> int:
        """Remove the blob, if it is there, and return the freed bytes."""
        try:
            size_bytes = os.path.getsize(self.path(digest))
            os.unlink(self.path(digest))
        except FileNotFoundError:
            return 0
        return size_bytes

    def remove_unfinished(self) -> None:
        """Remove what killed writers left; call it only while nobody writes."""
        if os.path.isdir(self.ingest):
            for name in os.listdir(self.ingest):
                os.unlink(os.path.join(self.ingest, name))
