"""A blob that comes in parts: what a killed or cancelled transfer left is taken up where it ends."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from lab.container.storage import durable
from lab.container.storage.blobs import READ_BYTES, BlobStore
from lab.errors import DigestMismatch, KernelError

_FULL = (errno.ENOSPC, errno.EDQUOT)


class PartialBlob:
    """The first ``size_bytes`` of a blob, hashed as they come."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        while data := file.read(READ_BYTES):
            self._hash.update(data)
            self.size_bytes += len(data)

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        self._file.write(data)
        self._hash.update(data)
        self.size_bytes += len(data)

    def restart(self) -> None:
        """Forget what is there."""
        self._file.seek(0)
        self._file.truncate()
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    @property
    def digest(self) -> str:
        """The digest of what is there."""
        return f"sha256:{self._hash.hexdigest()}"


@contextmanager
def completing(blobs: BlobStore, digest: str, *, source: str) -> Iterator[PartialBlob | None]:
    """Give what there is of a blob, to be completed in the block, or None if the blob is there.

    What an exception interrupts is kept for the next time, unless the disk is full. One process works on a blob at a
    time, the others wait. ``source`` is where it comes from, for errors.

    Raises:
        DigestMismatch: what came is something else; nothing is left of it.
        KernelError: it cannot be written.
    """
    target = blobs.path(digest)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.makedirs(blobs.ingest, exist_ok=True)
    path = os.path.join(blobs.ingest, f"{os.path.basename(target)}.part")
    if os.path.exists(target):
        yield None
        return
    with durable.locked(f"{path}.lock"):
        if os.path.exists(target):
            with suppress(FileNotFoundError):
                os.unlink(f"{path}.lock")
            yield None
            return
        try:
            with open(path, "a+b") as file:
                file.seek(0)
                partial = PartialBlob(file)
                yield partial
                _finish(file, partial, digest, source)
            os.rename(path, target)
        except DigestMismatch:
            os.unlink(path)
            raise
        except OSError as error:
            if error.errno in _FULL:
                with suppress(FileNotFoundError):
                    os.unlink(path)
            raise KernelError("write", target, error.strerror or str(error)) from error
        durable.sync_directory(os.path.dirname(target))
        os.unlink(f"{path}.lock")  # whoever waits for it finds the blob


def _finish(file: BinaryIO, partial: PartialBlob, digest: str, source: str) -> None:
    if partial.digest != digest:
        raise DigestMismatch(
            f"content from {source}",
            expected=digest,
            actual=partial.digest,
            hint="it was thrown away: try again, and distrust the registry or what is between if it stays so",
        )
    file.flush()
    os.fchmod(file.fileno(), 0o644)
    os.fsync(file.fileno())
