"""Which images, and which of their names, a list or an archive is about."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from lab.container.image import names
from lab.container.image.export import Exported
from lab.container.image.filters import Listed, conditions, instant_ns, matches
from lab.container.image.reference import Reference
from lab.container.image.store import ImageStore
from lab.container.image.stored import StoredImage
from lab.container.spec.image import Platform


def listed(
    store: ImageStore, filters: Mapping[str, Sequence[str]]
) -> Iterator[tuple[StoredImage, tuple[Reference, ...]]]:
    """Give each image once with the names that are asked for, the youngest first.

    Raises:
        ContainerError: a filter's value is none.
    """
    patterns = filters.get("reference", ())
    holds = conditions(filters, lambda name: instant_ns(store.resolve(name).config.created) or 0, time.time_ns())
    youngest_first = sorted(store.grouped(), key=lambda each: -(instant_ns(each[0].config.created) or 0))
    for image, called in youngest_first:
        if all(condition(Listed(names=called, config=image.config)) for condition in holds):
            wanted = (name for name in called if not patterns or any(matches(each, name) for each in patterns))
            yield image, tuple(wanted)


def exported(store: ImageStore, asked: Iterable[str], platform: Platform | None = None) -> list[Exported]:
    """Return the images that names and ids mean, each once, with the names that are asked for.

    Images for several platforms go as their index, or only the one for ``platform``.

    Raises:
        ImageNotFound: there is none, or none for this platform.
    """
    found: dict[tuple[str, str], Exported] = {}
    for text in asked:
        for name in _asked_for(store, text):
            image = store.resolve(name, platform)
            whole = store.descriptor(name).digest if platform is None else ""
            image = image if image.index_digest == whole else replace(image, index_digest="")
            reference = names.parsed(name)
            ours = [each for each in store.names_of(image) if each == reference]
            key = (image.manifest_digest, image.index_digest)
            before = found[key].names if key in found else ()
            found[key] = Exported(image=image, names=tuple(dict.fromkeys((*before, *ours))))
    return list(found.values())


def _asked_for(store: ImageStore, text: str) -> Sequence[str]:
    """Return the names that one means: a bare repository means all its tags."""
    reference = names.parsed(text)
    is_bare = reference is not None and not reference.digest and ":" not in text.rpartition("/")[2]
    if reference is None or not is_bare:
        return (text,)
    every = (name for _, called in store.grouped() for name in called)
    return [name.familiar for name in every if name.repository == reference.repository and name.tag] or (text,)
