"""Which images, and which of their names, a list or an archive is about."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from lab.container.image import names
from lab.container.image.export import Exported
from lab.container.image.filters import Listed, conditions, instant_ns, matches
from lab.container.image.reference import Reference
from lab.container.image.store import ImageStore
from lab.container.image.stored import StoredImage


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


def exported(store: ImageStore, asked: Iterable[str]) -> list[Exported]:
    """Return the images that names and ids mean, each once, with the names that are asked for.

    Raises:
        ImageNotFound: there is none.
    """
    found: dict[str, Exported] = {}
    for text in asked:
        for image, ours in _asked_for(store, text):
            before = found[image.config_digest].names if image.config_digest in found else ()
            found[image.config_digest] = Exported(image=image, names=tuple(dict.fromkeys((*before, *ours))))
    return list(found.values())


def _asked_for(store: ImageStore, text: str) -> Iterator[tuple[StoredImage, list[Reference]]]:
    """Give the images that a name or id means, with the names that are meant; a bare repository means all its tags."""
    reference = names.parsed(text)
    is_bare = reference is not None and not reference.digest and ":" not in text.rpartition("/")[2]
    tagged = list(_all_tags(store, reference.repository)) if reference is not None and is_bare else []
    if tagged:
        yield from tagged
        return
    image = store.resolve(text)
    yield image, [name for name in store.names_of(image) if name == reference]


def _all_tags(store: ImageStore, repository: str) -> Iterator[tuple[StoredImage, list[Reference]]]:
    for image, called in store.grouped():
        ours = [name for name in called if name.repository == repository and name.tag]
        if ours:
            yield image, ours
