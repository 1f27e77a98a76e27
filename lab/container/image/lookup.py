"""From a reference to an entry of the store's index, and from that to its image, or to those of several platforms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lab.container.image import indexes, names, platforms
from lab.container.image.stored import StoredImage
from lab.container.spec.image import Descriptor, ImageConfig, Manifest, Platform, is_digest
from lab.container.storage.blobs import BlobStore
from lab.errors import ContainerError, ImageNotFound

_HEX = frozenset("0123456789abcdef")
_TOLD = 8  # names, where one is not found


class Lookup:
    """Reads what entries lead to, each document once: what has a digest never changes."""

    def __init__(self, blobs: BlobStore) -> None:
        self.blobs = blobs
        self._read: dict[str, StoredImage] = {}

    def image(self, entry: Descriptor) -> StoredImage:
        """Return an entry's image; of an index this host's, or the first that is there.

        Raises:
            ContainerError: a document is missing or damaged.
        """
        return self.images(entry)[0]

    def images(self, entry: Descriptor) -> tuple[StoredImage, ...]:
        """Return an entry's image; of an index all that are there, this host's first, at least one.

        Raises:
            ContainerError: a document is missing or damaged.
        """
        reference = names.reference_of(entry)
        name = reference.familiar if reference else ""
        if not indexes.is_index(entry):
            return (replace(self._image(entry), name=name),)
        there = indexes.images(self.blobs, entry)
        if not there:
            raise ContainerError(f"none of the images that the index {entry.digest} names is there")
        found = [replace(self._image(each), name=name, index_digest=entry.digest) for each in there]
        first = platforms.choose(found, _platform, platforms.host_platform()) or found[0]
        return (first, *(image for image in found if image is not first))

    def _image(self, manifest: Descriptor) -> StoredImage:
        if manifest.digest not in self._read:
            self._read[manifest.digest] = self._read_image(manifest)
        return self._read[manifest.digest]

    def _read_image(self, entry: Descriptor) -> StoredImage:
        manifest = Manifest.from_json(self.blobs.read(entry.digest))
        return StoredImage(
            name="",
            manifest_digest=entry.digest,
            config_digest=manifest.config.digest,
            layers=manifest.layers,
            config=ImageConfig.from_json(self.blobs.read(manifest.config.digest)),
            size_bytes=entry.size + manifest.config.size + sum(layer.size for layer in manifest.layers),
        )

    def fault(self, entry: Descriptor) -> ContainerError | None:
        """Return why an entry cannot be read, None if it can."""
        try:
            self.images(entry)
        except ContainerError as error:
            return error
        return None

    def id_of(self, entry: Descriptor) -> str:
        """Return the id that lists show, which is the entry's digest where it cannot be read."""
        return self.ids_of(entry)[0]

    def ids_of(self, entry: Descriptor) -> tuple[str, ...]:
        """Return the ids of all images of an entry, that of ``id_of`` first."""
        try:
            return tuple(image.config_digest for image in self.images(entry))
        except ContainerError:
            return (entry.digest,)

    def named_by(self, entry: Descriptor) -> tuple[str, ...]:
        """Return the digests of the images of an index that are there; of a manifest, or a damaged index, none."""
        if not indexes.is_index(entry):
            return ()
        try:
            return tuple(manifest.digest for manifest in indexes.images(self.blobs, entry))
        except ContainerError:
            return ()

    def _digests_of(self, entry: Descriptor) -> tuple[str, ...]:
        """Return the digests by which an entry is found: its own, and of an index those of its images."""
        return (entry.digest, *self.named_by(entry))

    def find(self, entries: tuple[Descriptor, ...], reference: str) -> Descriptor:
        """Return the entry that a name, an id, a digest or a beginning of these leads to.

        Raises:
            ImageNotFound: there is none, or more than one id begins like this.
        """
        found = self._by_digest(entries, reference) if is_digest(reference) else self._by_name(entries, reference)
        found = found or self._by_beginning(entries, reference)
        if len({self.id_of(entry) for entry in found}) > 1:
            raise _ambiguous(reference)
        if not found:
            raise _not_found(reference, entries)
        return found[0]

    def one_of(self, entry: Descriptor, reference: str) -> StoredImage | None:
        """Return the one of an index's images whose own id or digest a reference is; None where the whole is meant.

        The id that lists show stands for the whole.
        """
        named = names.reference_of(entry)
        if not indexes.is_index(entry) or (named is not None and names.parsed(reference) == named):
            return None
        first, *others = self.images(entry)
        found = [image for image in others if _begins(image.config_digest, reference)]
        found += [image for image in (first, *others) if _begins(image.manifest_digest, reference)]
        if _begins(first.config_digest, reference) or _begins(entry.digest, reference):
            if found:
                raise _ambiguous(reference)
            return None
        if len({image.manifest_digest for image in found}) > 1:
            raise _ambiguous(reference)
        return found[0] if found else None

    def resolve(self, entry: Descriptor, reference: str, platform: Platform | None) -> StoredImage:
        """Return the image that a reference means, for ``platform`` if that is given.

        Raises:
            ImageNotFound: there is none for this platform.
            ContainerError: a document is missing or damaged.
        """
        one = self.one_of(entry, reference)
        images = (one,) if one else self.images(entry)
        if platform is None:
            return images[0]
        found = platforms.choose(images, _platform, platform)
        if found is None:
            raise _not_for(platform, reference, images)
        return found

    def descriptor(self, entry: Descriptor, reference: str) -> Descriptor:
        """Return what a reference means as a whole, without its name: a manifest, or an index."""
        one = self.one_of(entry, reference)
        if one is not None:
            there = indexes.images(self.blobs, entry)
            entry = next(each for each in there if each.digest == one.manifest_digest)
        return replace(entry, annotations={}, platform=None)

    def _by_digest(self, entries: tuple[Descriptor, ...], digest: str) -> list[Descriptor]:
        """Return the entry of a manifest, or of an image's id; the first will do, and to look at none is best."""
        found = (
            next((entry for entry in entries if entry.digest == digest), None)
            or next((entry for entry in entries if digest in self._digests_of(entry)), None)
            or next((entry for entry in entries if digest in self.ids_of(entry)), None)
        )
        return [found] if found else []

    def _by_name(self, entries: tuple[Descriptor, ...], text: str) -> list[Descriptor]:
        """Return the entries with this name; a name with a digest also means the repository's image of that digest."""
        reference = names.parsed(text)
        if reference is None:
            return []
        exact = [entry for entry in entries if names.reference_of(entry) == reference]
        if exact or not reference.digest:
            return exact
        return [
            entry
            for entry in entries
            if (found := names.reference_of(entry)) is not None
            and found.repository == reference.repository
            and reference.digest in self._digests_of(entry)
        ]

    def _by_beginning(self, entries: tuple[Descriptor, ...], reference: str) -> list[Descriptor]:
        digits = reference.removeprefix("sha256:")
        if not digits or not _HEX.issuperset(digits):
            return []
        by_id = [entry for entry in entries if any(_begins(id_, digits) for id_ in self.ids_of(entry))]
        return by_id or [entry for entry in entries if any(_begins(each, digits) for each in self._digests_of(entry))]


def _platform(image: StoredImage) -> Platform:
    return platforms.platform_of(image.config)


def _begins(digest: str, reference: str) -> bool:
    """Return whether a digest begins with a reference, or with what is behind a name's "@"."""
    digits = reference.rpartition("@")[2].removeprefix("sha256:")
    return bool(digits) and digest.removeprefix("sha256:").startswith(digits)


def _ambiguous(reference: str) -> ImageNotFound:
    return ImageNotFound(f"more than one image begins with '{reference}'", hint="give more digits of the id")


def _not_found(reference: str, entries: Iterable[Descriptor]) -> ImageNotFound:
    meant = names.parsed(reference)
    there = sorted(found.familiar for entry in entries if (found := names.reference_of(entry)))
    more = f" and {len(there) - _TOLD} more: lab images" if len(there) > _TOLD else ""
    hint = f"there are: {', '.join(there[:_TOLD])}{more}" if there else "lab image bootstrap all makes the base images"
    return ImageNotFound(f"No such image: {meant.familiar if meant else reference}", hint=hint)


def _not_for(wanted: Platform, reference: str, images: Iterable[StoredImage]) -> ImageNotFound:
    actual = ", ".join(str(_platform(image)) for image in images)
    return ImageNotFound(
        f"image with reference {reference} was found but does not match the specified platform: "
        f"wanted {wanted}, actual: {actual}",
        hint=f"lab pull --platform {wanted} {reference}",
    )
