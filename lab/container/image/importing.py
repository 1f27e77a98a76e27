"""A tar of files -> an image of one layer, as ``docker import`` makes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from lab.container.image.assemble import rfc3339
from lab.container.image.change import changed
from lab.container.image.packages import debian_architecture
from lab.container.image.store import ImageStore
from lab.container.image.stored import StoredImage
from lab.container.spec.image import ExecutionConfig, History, ImageConfig, RootFS
from lab.container.storage.compression import decompressed
from lab.container.storage.layers import LayerSource
from lab.container.storage.pack import Layer, pack_stream
from lab.errors import ContainerError, LayerCorrupt

_DOWNLOAD_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportWishes:
    """How the image is called ("" for not at all), described and configured; ``created_s`` is since the epoch."""

    name: str
    message: str
    changes: Sequence[str]
    created_s: int


def is_url(source: str) -> bool:
    """Return whether a tar has to be downloaded."""
    return source.startswith(("http://", "https://"))


@contextmanager
def downloading(url: str) -> Iterator[BinaryIO]:
    """Give what is at a URL as it comes.

    Raises:
        ContainerError: it cannot be had.
    """
    import urllib.error  # these cost tens of milliseconds, and few imports need them
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT_S) as answer:
            yield answer
    except urllib.error.URLError as error:
        raise ContainerError(f"cannot read {url}: {error.reason}", hint="check the address and the network") from error


def import_image(store: ImageStore, source: BinaryIO, subject: str, wishes: ImportWishes) -> StoredImage:
    """Store the image that the files of a tar, compressed or not, make; they are unpacked at once, and so checked.

    Raises:
        LayerCorrupt: it is no tar, or not one to be unpacked; nothing is stored.
        DockerfileError: a change is wrong.
        SpecError: the name is not a reference.
    """
    config = changed(ExecutionConfig(), wishes.changes)
    try:
        with store.content_shared():
            layer = pack_stream(store.blobs, decompressed(source))
            store.layers.directory(
                LayerSource(descriptor=layer.descriptor, diff_id=layer.diff_id, chain_id=layer.diff_id)
            )
            return store.add(wishes.name, _configuration(layer, config, wishes), [layer])
    except LayerCorrupt as error:
        store.collect()
        raise LayerCorrupt(f"cannot import {subject}: {error}", hint=error.hint) from error


def _configuration(layer: Layer, config: ExecutionConfig, wishes: ImportWishes) -> ImageConfig:
    created = rfc3339(wishes.created_s)
    return ImageConfig(
        architecture=debian_architecture(),
        os="linux",
        created=created,
        config=config,
        rootfs=RootFS(diff_ids=(layer.diff_id,)),
        history=(History(created=created, comment=wishes.message),),
    )
