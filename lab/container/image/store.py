"""Images by name: one OCI layout directory whose ``index.json`` maps names to manifests, or to indexes of several.

What is stored can be read by other tools as it lies there (``skopeo inspect oci:DIR:busybox:latest``). An image whose
name has moved on stays, nameless, until it is removed: a run that started on it can end on it. Several commands may
work at once: those that add or use content hold the content lock together, the one that removes content holds it alone.
While that is not to be had, names and images go all the same, and their content with the next command that finds it
free.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from lab.container.image import indexes, names, removal, usage
from lab.container.image.lookup import Lookup
from lab.container.image.reference import Reference, parse_reference
from lab.container.image.stored import StoredImage as StoredImage  # who opens a store works with its images
from lab.container.image.usage import ContainerUse
from lab.container.spec.image import (
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    MediaType,
    Platform,
    layout_json,
)
from lab.container.storage import durable
from lab.container.storage.blobs import BlobStore
from lab.container.storage.layers import LayerSource, LayerStore, chain_ids
from lab.errors import ContainerError, DigestMismatch, StateConflict
from lab.paths import Paths

TYPE_CHECKING = False
if TYPE_CHECKING:  # it imports tarfile, which is not on the way to a start
    from lab.container.storage.pack import Layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What a removal did: names, then the ids of images and chain ids of layers; ``freed_bytes`` of the disk.

    ``image_id`` is that of the one image that was asked for. ``deferred``: another command uses the store, so that
    content goes later.
    """

    image_id: str = ""
    untagged: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    freed_bytes: int = 0
    deferred: bool = False


class ImageStore:
    """The images of one lab root."""

    def __init__(self, root: str, layers_root: str = "", containers_root: str = "") -> None:
        """Nothing is created before something is added; ``containers_root`` tells who needs images."""
        self.root = root
        self.blobs = BlobStore(root)
        self.layers = LayerStore(layers_root or os.path.join(root, "layers"), self.blobs)
        self._containers_root = containers_root
        self._index_path = os.path.join(root, "index.json")
        self._lookup = Lookup(self.blobs)

    @classmethod
    def open(cls, paths: Paths) -> ImageStore:
        """Return the store of a lab root; nothing is created before something is added."""
        return cls(paths.images, paths.layers, paths.containers)

    def images(self) -> tuple[StoredImage, ...]:
        """Return all images, one for each name, sorted by name, nameless ones last; of an index this host's.

        Raises:
            ContainerError: a manifest or configuration is missing or damaged.
        """
        found = [self._lookup.image(entry) for entry in self._index().manifests]
        return tuple(sorted(found, key=lambda image: (not image.name, image.name, image.manifest_digest)))

    def damaged(self) -> tuple[tuple[str, ContainerError], ...]:
        """Return the names (or digests) of images that cannot be read, each with the reason."""
        return tuple(
            (_called(entry), error) for entry in self._index().manifests if (error := self._lookup.fault(entry))
        )

    def readable(self) -> tuple[StoredImage, ...]:
        """Return what ``images`` does, of an index all of its images, without what is damaged."""
        entries = (entry for entry in self._index().manifests if self._lookup.fault(entry) is None)
        found = [image for entry in entries for image in self._lookup.images(entry)]
        return tuple(sorted(found, key=lambda image: (not image.name, image.name, image.manifest_digest)))

    def resolve(self, reference: str, platform: Platform | None = None) -> StoredImage:
        """Return the image of this name, id or manifest digest; a unique beginning of either is enough.

        Of an index it is the image for ``platform``; without one this host's, or the first that there is.

        Raises:
            ImageNotFound: there is none, or none for this platform, or more than one id begins like this.
            ContainerError: its manifest or configuration is missing or damaged.
        """
        return self._lookup.resolve(self._find(reference), reference, platform)

    def images_of(self, reference: str) -> tuple[StoredImage, ...]:
        """Return what a name or id means: an image, or of an index all that are there, this host's first.

        Raises:
            ImageNotFound: there is none, or more than one id begins like this.
            ContainerError: what it names is missing or damaged.
        """
        entry = self._find(reference)
        one = self._lookup.one_of(entry, reference)
        return (one,) if one else self._lookup.images(entry)

    def descriptor(self, reference: str) -> Descriptor:
        """Return what a name, id or digest means as a whole: an index, or a manifest.

        Raises:
            ImageNotFound: there is none, or more than one id begins like this.
            ContainerError: what it names is missing or damaged.
        """
        return self._lookup.descriptor(self._find(reference), reference)

    def layer_directories(self, reference: str) -> tuple[str, ...]:
        """Return the image's layers as directories, topmost first (overlay's order), unpacking what is not yet.

        Raises:
            ImageNotFound: there is no such image.
            DigestMismatch: a blob has other bytes than its name promises.
            LayerCorrupt: a layer cannot be unpacked.
        """
        sources = self.layer_sources(self.resolve(reference))
        with self.content_shared():
            return tuple(self.layers.directory(source) for source in reversed(sources))

    def layer_sources(self, image: StoredImage) -> tuple[LayerSource, ...]:
        """Return the image's layers as they are to be unpacked, lowest first.

        Raises:
            ContainerError: manifest and configuration have different numbers of layers.
        """
        diff_ids = image.config.rootfs.diff_ids
        if len(diff_ids) != len(image.layers):
            raise ContainerError(
                f"image {image.manifest_digest} has {len(image.layers)} layers, its configuration {len(diff_ids)}"
            )
        return tuple(
            LayerSource(descriptor=descriptor, diff_id=diff_id, chain_id=chain_id)
            for descriptor, diff_id, chain_id in zip(image.layers, diff_ids, chain_ids(diff_ids), strict=True)
        )

    def content_bytes(self, image: StoredImage) -> int:
        """Return the bytes of all files in the image's layers, which is the size that docker shows."""
        return sum(self.layers.content_bytes(source) for source in self.layer_sources(image))

    def add(self, name: str, config: ImageConfig, layers: Iterable[Layer]) -> StoredImage:
        """Store an image made of layers that are in the store; call it within ``content_shared``.

        ``name`` is a reference, or "" for an image that is found by its id only.

        Raises:
            SpecError: ``name`` is not a reference.
        """
        manifest = self.add_documents(config.to_json(), [layer.descriptor for layer in layers])
        return self.add_manifest(name, manifest)

    def add_documents(self, config_json: bytes, layers: Iterable[Descriptor]) -> Descriptor:
        """Store a configuration, whose bytes are the image's id, and a manifest for it; no name leads there yet."""
        manifest = Manifest(
            config=Descriptor(media_type=MediaType.CONFIG, digest=self.blobs.add(config_json), size=len(config_json)),
            layers=tuple(layers),
        ).to_json()
        return Descriptor(media_type=MediaType.MANIFEST, digest=self.blobs.add(manifest), size=len(manifest))

    def add_manifest(self, name: str, manifest: Descriptor) -> StoredImage:
        """Store an image whose blobs, the manifest included, are in the store; else like ``add``.

        Raises:
            SpecError: ``name`` is not a reference.
        """
        reference = parse_reference(name) if name else None
        with self._index_changing() as change:
            change(
                lambda index: names.named(index, reference, manifest) if reference else names.nameless(index, manifest)
            )
        return self.resolve(reference.familiar if reference else manifest.digest)

    def tag(self, source: str, target: str) -> StoredImage:
        """Give an image another name.

        Raises:
            ImageNotFound: there is no such image.
            SpecError: ``target`` is not a reference, or one with a digest.
        """
        return self.add_manifest(target, self.descriptor(source))

    def grouped(self) -> tuple[tuple[StoredImage, tuple[Reference, ...]], ...]:
        """Return each readable image once, with all its names, sorted; those with a digest last."""
        images: dict[str, StoredImage] = {}
        references: dict[str, set[Reference]] = {}
        for entry in self._index().manifests:
            if self._lookup.fault(entry) is not None:
                continue
            image, reference = self._lookup.image(entry), names.reference_of(entry)
            images.setdefault(image.config_digest, image)
            references.setdefault(image.config_digest, set()).update({reference} if reference else ())
        return tuple((image, _sorted(references[image_id])) for image_id, image in images.items())

    def names_of(self, image: StoredImage) -> tuple[Reference, ...]:
        """Return all names that lead to the image with this id, also to one of several platforms; as ``grouped``."""
        found = {
            reference
            for entry in self._index().manifests
            if (reference := names.reference_of(entry)) and image.config_digest in self._lookup.ids_of(entry)
        }
        return _sorted(found)

    def remove(self, reference: str, *, force: bool = False) -> Removed:
        """Remove a name, and with its last name the image; or by id, the image with all its names.

        Raises:
            ImageNotFound: there is no such image.
            StateConflict: docker's rules refuse it: it is in use, or has several names.
        """
        with self._index_changing() as change:
            entry = self._find(reference)
            self._refuse_one_of_several(entry, reference)
            by_name = names.parsed(reference)
            by_name = by_name if by_name is not None and names.reference_of(entry) == by_name else None
            standing = self._standing(entry)
            planned = removal.plan(standing, reference, by_name, force=force)
            removed = self._carry_out({standing.image_id: planned}, change)
        return replace(self._with_content_freed(removed), image_id=standing.image_id)

    def prune(self, wanted: Callable[[StoredImage], bool], *, with_names: bool = False) -> Removed:
        """Remove images that no container uses and that are ``wanted``: those without name, or any ``with_names``."""
        with self._index_changing() as change:
            uses, mounted = usage.container_uses(self._containers_root), usage.mounted_by(self._layer_paths())
            planned = {}
            for image, references in self.grouped():
                has_tag = any(not name.digest for name in references)  # one by digest alone is none, as in docker
                if (has_tag and not with_names) or not wanted(image):
                    continue
                standing = self._standing(self._find(image.manifest_digest), uses, mounted)
                if not (standing.running or standing.stopped or standing.mounted):
                    planned[image.config_digest] = removal.Removal(untag=references, delete=True)
            removed = self._carry_out(planned, change)
        return self._with_content_freed(removed)

    def _carry_out(
        self, planned: Mapping[str, removal.Removal], change: Callable[[Callable[[Index], Index]], None]
    ) -> Removed:
        """Take images, given by their ids, or names of them out of the index; their content stays for ``collect``."""
        before, entries = self._needed_chains(), self._index().manifests
        ids_before = {id_ for entry in entries for id_ in self._lookup.ids_of(entry)}
        going = {image_id for image_id, removed in planned.items() if removed.delete}
        digests = {entry.digest for entry in entries if self._lookup.id_of(entry) in going}
        gone = [name for removed in planned.values() for name in removed.untag]
        covered = {each for entry in entries if entry.digest not in digests for each in self._lookup.named_by(entry)}
        change(lambda index: names.without(names.untagged(index, gone), digests, covered))
        needed = {*self._needed_chains(), *self._chains_of_containers()}
        chains = tuple(chain for chain in reversed(before) if going and chain not in needed)
        ids = ids_before - {id_ for entry in self._index().manifests for id_ in self._lookup.ids_of(entry)}
        return Removed(untagged=tuple(name.familiar for name in gone), deleted=(*sorted(ids), *chains))

    def _refuse_one_of_several(self, entry: Descriptor, reference: str) -> None:
        """Refuse to remove the images for all platforms where one of them is asked for."""
        if self._lookup.fault(entry) is None and self._lookup.one_of(entry, reference) is not None:
            told = f"conflict: unable to delete {reference} (cannot be forced) - it is one platform's image of an index"
            raise StateConflict(told, hint=f"all of them: lab rmi {_called(entry)}")

    def _with_content_freed(self, removed: Removed) -> Removed:
        freed = self.collect()
        return Removed(
            untagged=removed.untagged, deleted=removed.deleted, freed_bytes=freed or 0, deferred=freed is None
        )

    def collect(self) -> int | None:
        """Remove content that nothing needs, and return the freed bytes; None if another command uses the store."""
        if not os.path.isdir(self.root):
            return 0
        with durable.locked_if_free(self._lock("content")) as held:
            if not held:
                with open(self._garbage_mark, "wb"):
                    return None
            with suppress(FileNotFoundError):
                os.unlink(self._garbage_mark)
            return self._remove_unneeded()

    def container_is_gone(self) -> None:
        """Remove what only containers kept; to be called when one was removed, and nearly free if none kept a thing."""
        if os.path.exists(self._orphans_mark):
            self.collect()

    def verify(self) -> Iterator[tuple[str, DigestMismatch | None]]:
        """Hash every blob anew; give each digest with None, or with what is wrong."""
        for digest in self.blobs.digests():
            try:
                self.blobs.verify(digest)
            except DigestMismatch as error:
                yield digest, error
            else:
                yield digest, None

    @contextmanager
    def content_shared(self) -> Iterator[None]:
        """Keep what is added during the block, or used in it, from being removed as unneeded."""
        os.makedirs(self.root, exist_ok=True)
        with durable.shared(self._lock("content")):
            yield
        if os.path.exists(self._garbage_mark):  # somebody wanted to remove content meanwhile
            self.collect()

    def export_docker_archive(self, reference: str, name: str, path: str) -> None:
        """Write one image as ``name`` to an archive for ``docker load``; docker's image id is the config digest.

        Raises:
            ImageNotFound: there is no such image.
            KernelError: the archive cannot be written; nothing is left at ``path``.
        """
        from lab.container.image.export import Exported, replacing, write_archive  # not on the way to a start

        image = self.resolve(reference)
        with replacing(path) as temporary, open(temporary, "wb") as target:
            write_archive(self.blobs, [Exported(image=image, names=(parse_reference(name),))], target)

    def export_oci_layout(self, reference: str, name: str, directory: str) -> None:
        """Write one image as ``name`` to an OCI layout directory for skopeo and podman.

        Raises:
            ImageNotFound: there is no such image.
            KernelError: the directory cannot be written.
        """
        from lab.container.image.export import write_oci_layout  # not on the way to a start

        write_oci_layout(self.blobs, self.resolve(reference), name, directory)

    @property
    def _garbage_mark(self) -> str:
        return os.path.join(self.root, "garbage")

    @property
    def _orphans_mark(self) -> str:
        return os.path.join(self.root, "orphans")

    def _lock(self, name: str) -> str:
        return os.path.join(self.root, f"{name}.lock")

    def _index(self) -> Index:
        try:
            with open(self._index_path, "rb") as file:
                return Index.from_json(file.read())
        except FileNotFoundError:
            return Index()

    @contextmanager
    def _index_changing(self) -> Iterator[Callable[[Callable[[Index], Index]], None]]:
        """Give a function that replaces the index, while nobody else can."""

        def change(make: Callable[[Index], Index]) -> None:
            layout = os.path.join(self.root, "oci-layout")
            if not os.path.exists(layout):
                durable.write_atomically(layout, layout_json())
            durable.write_atomically(self._index_path, make(self._index()).to_json())

        os.makedirs(self.root, exist_ok=True)
        with durable.locked(self._lock("index")):
            yield change

    def _find(self, reference: str) -> Descriptor:
        return self._lookup.find(self._index().manifests, reference)

    def _standing(
        self,
        entry: Descriptor,
        uses: Iterable[ContainerUse] | None = None,
        mounted: dict[str, str] | None = None,
    ) -> removal.Standing:
        image_id = self._lookup.id_of(entry)
        entries = [each for each in self._index().manifests if self._lookup.id_of(each) == image_id]
        stacks, ids = self._stacks(entry), {id_ for each in entries for id_ in self._lookup.ids_of(each)}
        uses = usage.container_uses(self._containers_root) if uses is None else uses
        users = [use for use in uses if (use.image_id in ids if use.image_id else use.layers in stacks)]
        ours = self._chains_of_nobody_else(entries) if mounted != {} else ()  # dear where there are many images
        mounted = usage.mounted_by(ours) if mounted is None else mounted
        return removal.Standing(
            image_id=image_id,
            names=tuple(reference for each in entries if (reference := names.reference_of(each))),
            running=next((use.container_id for use in users if use.running), ""),
            stopped=next((use.container_id for use in users if not use.running), ""),
            mounted=next((mounted[path] for path in ours if path in mounted), ""),
        )

    def _stacks(self, entry: Descriptor) -> tuple[tuple[str, ...], ...]:
        """Return the layers of each image of an entry as directories, topmost first."""
        if self._lookup.fault(entry) is not None:
            return ()
        stacks = (
            tuple(self.layers.path(chain) for chain in reversed(image.chain_ids))
            for image in self._lookup.images(entry)
        )
        return tuple(stack for stack in stacks if stack)

    def _directories(self, entry: Descriptor) -> Iterator[str]:
        return (path for stack in self._stacks(entry) for path in stack)

    def _chains_of_nobody_else(self, entries: list[Descriptor]) -> tuple[str, ...]:
        digests = {entry.digest for entry in entries}
        others = {
            path for each in self._index().manifests if each.digest not in digests for path in self._directories(each)
        }
        return tuple(path for entry in entries for path in self._directories(entry) if path not in others)

    def _layer_paths(self) -> tuple[str, ...]:
        return tuple(self.layers.path(chain) for chain in self.layers.chain_ids())

    def _chains_of_containers(self) -> tuple[str, ...]:
        uses = usage.container_uses(self._containers_root)
        return tuple(f"sha256:{os.path.basename(path)}" for use in uses for path in use.layers)

    def _needed_chains(self) -> tuple[str, ...]:
        """Return the chain ids of all readable images, each once, lower ones before those that stand on them."""
        return tuple(dict.fromkeys(each for image in self.readable() for each in image.chain_ids))

    def _remove_unneeded(self) -> int:
        entries = self._index().manifests
        if any(self._lookup.fault(entry) for entry in entries):
            return 0  # what a damaged image needs cannot be told: nothing goes before it is removed itself
        needed = {part.digest for entry in entries for part in indexes.content(self.blobs, entry)}
        freed = 0
        for digest in self.blobs.digests():
            if digest not in needed:
                freed += self.blobs.remove(digest)
        self.blobs.remove_unfinished()
        return freed + self._remove_unneeded_layers(set(self._needed_chains()))

    def _mark_orphans(self, there_are: bool) -> None:
        """Note that containers or mounts keep layers that no image needs, so that their end is worth a look."""
        if there_are:
            with open(self._orphans_mark, "wb"):
                return
        with suppress(FileNotFoundError):
            os.unlink(self._orphans_mark)

    def _remove_unneeded_layers(self, needed: set[str]) -> int:
        unneeded = [chain for chain in self.layers.chain_ids() if chain not in needed]
        kept = {self.layers.path(chain) for chain in self._chains_of_containers()}
        kept |= usage.mounted_by({self.layers.path(chain) for chain in unneeded}).keys() if unneeded else set()
        going = [chain for chain in unneeded if self.layers.path(chain) not in kept]
        self._mark_orphans(len(going) < len(unneeded))
        leftovers = [chain for chain in self.layers.leftovers() if chain not in needed]
        return sum(self.layers.remove(chain) for chain in (*going, *leftovers))


def _sorted(references: Iterable[Reference]) -> tuple[Reference, ...]:
    return tuple(sorted(references, key=lambda reference: (reference.digest, reference.familiar)))


def _called(entry: Descriptor) -> str:
    reference = names.reference_of(entry)
    return reference.familiar if reference else entry.digest
