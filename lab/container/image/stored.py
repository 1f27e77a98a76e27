"""An image as the store knows it."""

from __future__ import annotations

from dataclasses import dataclass

from lab.container.spec.image import Descriptor, ImageConfig
from lab.container.storage.layers import chain_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """An image of the store; ``name`` is "" when its name has moved on, ``layers`` are lowest first.

    The name is docker's short form with the tag; ``config_digest`` is docker's image id. ``size_bytes`` is that of its
    blobs, compressed as they are. ``index_digest`` is that of the index through which it was found, "" if it was none:
    then its name is also that of the images for other platforms.
    """

    name: str
    manifest_digest: str
    config_digest: str
    layers: tuple[Descriptor, ...]
    config: ImageConfig
    size_bytes: int
    index_digest: str = ""

    @property
    def chain_ids(self) -> tuple[str, ...]:
        """The chain ids of the layers, lowest first."""
        return chain_ids(self.config.rootfs.diff_ids)
