"""A finished stage -> an image in the store: its layers packed, its configuration and history written."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from lab.container.image.assemble import rfc3339
from lab.container.image.build_cache import BuildCache, Cached, link_tree
from lab.container.image.build_stage import BuiltStep
from lab.container.image.packages import debian_architecture
from lab.container.image.store import ImageStore, StoredImage
from lab.container.spec.image import ExecutionConfig, History, ImageConfig, RootFS
from lab.container.storage.layers import chain_ids
from lab.container.storage.pack import Layer, pack_directory

# a tree too deep for paths, a file with too many names: such a layer is unpacked when a container needs it
_UNLINKABLE = (errno.ENAMETOOLONG, errno.EMLINK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What becomes an image: the one below, None for scratch, all steps on it, and the configuration after them."""

    base: StoredImage | None
    steps: Sequence[BuiltStep]
    config: ExecutionConfig


class Packer:
    """Packs the files of steps into layers while later steps run; what was packed before is found again."""

    def __init__(self, store: ImageStore, cache: BuildCache) -> None:
        """Start no thread before there is something to pack."""
        self._store, self._cache = store, cache
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="build-packer")
        self._layers: dict[str, Future[Layer]] = {}

    def begin(self, key: str, cached: Cached) -> None:
        """Have a step's files packed."""
        if key not in self._layers:
            self._layers[key] = self._pool.submit(self._pack, key, cached)

    def layer(self, key: str, cached: Cached) -> Layer:
        """Return the layer that a step's files are, once they have been packed.

        Raises:
            OSError: they cannot be read, or there is no space.
        """
        self.begin(key, cached)
        return self._layers[key].result()

    def close(self) -> None:
        """Let the thread go, and forget what it has not begun."""
        self._pool.shutdown(cancel_futures=True)

    def _pack(self, key: str, cached: Cached) -> Layer:
        known = cached.layer
        if known is not None and self._store.blobs.has(known.descriptor.digest):
            return known
        layer = pack_directory(self._store.blobs, self._cache.directory(cached))
        self._cache.remember(key, cached, layer)
        return layer


def export(
    store: ImageStore, cache: BuildCache, packer: Packer, finished: Finished, names: Sequence[str]
) -> StoredImage:
    """Store the image under all of ``names``, nameless if there are none, and return it.

    Its unpacked layers share their files with the cache, so that a container can start on it at once.
    """
    below = (
        ()
        if finished.base is None
        else tuple(
            Layer(descriptor=source.descriptor, diff_id=source.diff_id) for source in store.layer_sources(finished.base)
        )
    )
    made = [step for step in finished.steps if step.cached.name]
    layers = [*below, *(packer.layer(step.key, step.cached) for step in made)]
    config = configuration(finished, layers)
    chains = chain_ids(config.rootfs.diff_ids)
    directories = (cache.directory(step.cached) for step in made)
    makers = {
        chain: partial(_linked, directory) for chain, directory in zip(chains[len(below) :], directories, strict=True)
    }
    store.layers.adopt(makers)
    image = store.add(names[0] if names else "", config, layers)
    for name in names[1:]:
        store.tag(image.manifest_digest, name)
    return image


def configuration(finished: Finished, layers: Sequence[Layer]) -> ImageConfig:
    """Return the configuration of the finished image; it was created when its last step was."""
    history = tuple(_history(step) for step in finished.steps)
    base = ImageConfig(architecture=debian_architecture(), os="linux", rootfs=RootFS(diff_ids=()))
    if finished.base is not None:
        base = finished.base.config
    author = next((step.planned.author for step in reversed(finished.steps) if step.planned.author), base.author)
    return replace(
        base,
        created=history[-1].created if history else base.created,
        author=author,
        config=finished.config,
        rootfs=RootFS(diff_ids=tuple(layer.diff_id for layer in layers)),
        history=(*base.history, *(replace(entry, author=author) for entry in history)),
    )


def _history(step: BuiltStep) -> History:
    return History(
        created=rfc3339(step.cached.created_s), created_by=step.planned.created_by, empty_layer=not step.cached.name
    )


def _linked(source: str, target: str) -> bool:
    try:
        link_tree(source, target)
    except OSError as error:
        if error.errno not in _UNLINKABLE:
            raise
        return False
    return True
