"""Images for several platforms under one name: an index, and those of its manifests that are in the store.

A pull brings the images of the platforms that were asked for, and the whole index, which names the others as well.
What is there has its manifest among the blobs, since that comes last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.container.image.platforms import is_image
from lab.container.spec.image import Descriptor, Index, Manifest, MediaType, Platform
from lab.container.storage.blobs import BlobStore
from lab.errors import ContainerError, SpecError

DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
INDEXES = (MediaType.INDEX.value, DOCKER_INDEX)
DEPTH_MAX = 4
"""How deep indexes may be within each other."""


def is_index(entry: Descriptor) -> bool:
    """Return whether a descriptor is that of an index."""
    return entry.media_type in INDEXES


def below(blobs: BlobStore, entry: Descriptor, depth: int = 0) -> Iterator[Descriptor]:
    """Give all that an index names, and what indexes in it name as far as they are there, the inner ones first.

    Raises:
        ContainerError: an index is missing or damaged, or there are indexes in indexes without an end.
    """
    if depth > DEPTH_MAX:
        raise ContainerError(f"the indexes of {entry.digest} are nested too deeply")
    for inner in Index.from_json(blobs.read(entry.digest)).manifests:
        if is_index(inner) and blobs.has(inner.digest):
            yield from below(blobs, inner, depth + 1)
        yield inner


def manifests(blobs: BlobStore, entry: Descriptor) -> tuple[Descriptor, ...]:
    """Return the manifests below an index that are there, those included that are no images.

    Raises:
        ContainerError: said at ``below``.
    """
    named = {inner.digest: inner for inner in below(blobs, entry) if not is_index(inner)}
    return tuple(inner for inner in named.values() if blobs.has(inner.digest))


def images(blobs: BlobStore, entry: Descriptor) -> tuple[Descriptor, ...]:
    """Return the manifests of the images below an index that are there.

    Raises:
        ContainerError: said at ``below``.
    """
    return tuple(inner for inner in manifests(blobs, entry) if is_image(inner))


def content(blobs: BlobStore, entry: Descriptor) -> Iterator[Descriptor]:
    """Give all blobs that a manifest or an index needs and that are there, what names others after those.

    Raises:
        ContainerError: a document is missing or damaged.
    """
    if is_index(entry):
        for inner in below(blobs, entry):
            if blobs.has(inner.digest):
                yield from _parts(blobs, inner)
    yield from _parts(blobs, entry)


def _parts(blobs: BlobStore, entry: Descriptor) -> Iterator[Descriptor]:
    if not is_index(entry):
        manifest = Manifest.from_json(blobs.read(entry.digest))
        yield from manifest.layers
        yield manifest.config
    yield entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What is to be named by an index: ``subject`` says whose it is, for errors."""

    subject: str
    manifest: Descriptor


def merged(members: Sequence[Member]) -> Index:
    """Return an index of members, each with its platform; one that is given twice is there once.

    Raises:
        SpecError: two images are for one platform.
    """
    taken: dict[Platform, Member] = {}
    kept: dict[str, Descriptor] = {}
    for member in members:
        manifest = member.manifest
        other = taken.setdefault(manifest.platform, member) if manifest.platform and is_image(manifest) else member
        if other.manifest.digest != manifest.digest:
            raise SpecError(
                f"{other.subject} and {member.subject} are both for {manifest.platform}",
                hint="an index names one image for each platform",
            )
        kept.setdefault(manifest.digest, manifest)
    return Index(manifests=tuple(kept.values()))
