"""One name for images of several platforms: an index is made of images that are in the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from lab.container.image import indexes
from lab.container.image.indexes import Member
from lab.container.image.platforms import platform_of
from lab.container.image.store import ImageStore
from lab.container.image.stored import StoredImage
from lab.container.spec.image import Descriptor
from lab.errors import ImageNotFound, StateConflict


def combine(store: ImageStore, name: str, sources: Sequence[str], *, amend: bool = False) -> StoredImage:
    """Give ``name`` to an index of images; of an index among them all that is there is taken.

    With ``amend`` what the name stands for so far stays, but for the platforms of ``sources``.

    Raises:
        ImageNotFound: there is no such image.
        SpecError: two images are for one platform, or the name is none.
        StateConflict: the name is taken, and ``amend`` is not set.
    """
    with store.content_shared():
        before = _members(store, name) if _is_there(store, name) else ()
        if before and not amend:
            raise StateConflict(f"refusing to amend an existing manifest list with no --amend flag: {name}")
        given = tuple(member for source in sources for member in _members(store, source))
        replaced = {member.manifest.platform for member in given}
        kept = tuple(member for member in before if member.manifest.platform not in replaced)
        index = indexes.merged((*kept, *given))
        data = index.to_json()
        descriptor = Descriptor(media_type=index.media_type, digest=store.blobs.add(data), size=len(data))
        return store.add_manifest(name, descriptor)


def _is_there(store: ImageStore, name: str) -> bool:
    try:
        store.descriptor(name)
    except ImageNotFound:
        return False
    return True


def _members(store: ImageStore, source: str) -> tuple[Member, ...]:
    return tuple(Member(subject=source, manifest=manifest) for manifest in _manifests(store, source))


def _manifests(store: ImageStore, source: str) -> Iterator[Descriptor]:
    """Give the manifests that a name stands for as an index names them, each with its platform."""
    entry = store.descriptor(source)
    by_digest = {image.manifest_digest: platform_of(image.config) for image in store.images_of(source)}
    for manifest in indexes.manifests(store.blobs, entry) if indexes.is_index(entry) else (entry,):
        yield replace(manifest, platform=manifest.platform or by_digest.get(manifest.digest))
