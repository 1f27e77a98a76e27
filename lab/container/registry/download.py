"""One blob from a repository into the store, whatever the connection does."""

from __future__ import annotations

from lab.container.registry.client import Repository
from lab.container.registry.failures import TRIES
from lab.container.registry.progress import Observer, Step
from lab.container.registry.transport import Interrupted
from lab.container.spec.image import Descriptor
from lab.container.storage.blobs import BlobStore
from lab.container.storage.partial import PartialBlob, completing
from lab.errors import RegistryError


def download(blobs: BlobStore, repository: Repository, wanted: Descriptor, observer: Observer) -> None:
    """Have a blob in the store; a broken connection is taken up where it ended, as long as it gets on.

    Raises:
        RegistryError: it is not to be had.
        DigestMismatch: what came is something else.
        KernelError: it cannot be written.
    """
    with completing(blobs, wanted.digest, source=repository.name) as partial:
        if partial is None:
            return
        if partial.size_bytes > wanted.size:
            partial.restart()
        fruitless = 0
        while partial.size_bytes < wanted.size:
            before = partial.size_bytes
            try:
                _receive(repository, wanted, partial, observer)
            except Interrupted:
                fruitless = fruitless + 1 if partial.size_bytes <= before else 0
                if fruitless >= TRIES - 1:
                    raise
                observer.layer(wanted.digest, Step.RETRYING)
                repository.registry.exchange.pause(fruitless)
        observer.layer(wanted.digest, Step.VERIFYING)


def _receive(repository: Repository, wanted: Descriptor, partial: PartialBlob, observer: Observer) -> None:
    answer, offset = repository.blob(wanted.digest, partial.size_bytes)
    with answer:
        if offset != partial.size_bytes:
            partial.restart()
        for piece in answer.pieces():
            partial.write(piece)
            if partial.size_bytes > wanted.size:
                partial.restart()
                raise RegistryError(
                    f"{repository.registry.host} sent more than the {wanted.size} bytes of {wanted.digest}"
                )
            observer.layer(wanted.digest, Step.DOWNLOADING, done_bytes=partial.size_bytes, of_bytes=wanted.size)
    if partial.size_bytes < wanted.size:
        raise Interrupted(
            f"{repository.registry.host} ended after {partial.size_bytes} of the {wanted.size} bytes of {wanted.digest}"
        )
