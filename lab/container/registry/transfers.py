"""A pull and a push as their users see them: told to the end, and noted as events."""

from __future__ import annotations

import os

from lab.container import event_actors
from lab.container.image.platforms import host_platform, matches, platform_of
from lab.container.image.reference import Reference
from lab.container.image.store import ImageStore
from lab.container.registry.progress import Observer
from lab.container.registry.pull import Pull, Pulled, pull
from lab.container.registry.push import Pushed, push
from lab.container.registry.session import Session
from lab.errors import ImageNotFound
from lab.paths import Paths


def fetch_noted(
    paths: Paths,
    store: ImageStore,
    registries: Session,
    reference: Reference,
    platform: str,
    observer: Observer,
    *,
    every: bool = False,
) -> Pulled:
    """Pull an image, ``platform`` "" for this host's, tell of it, and note it; what it raises is said at ``pull``.

    With ``every`` the images for all other platforms come as well.
    """
    wanted = Pull(reference=reference, platform=host_platform(platform), unpack=os.geteuid() == 0, every=every)
    pulled = pull(registries, store, wanted, observer)
    labels = pulled.image.config.config.labels
    event_actors.note_image(paths.run, "pull", reference.familiar, {**labels, "name": reference.repository})
    observer.told(f"Digest: {pulled.digest}")
    observer.told(f"Status: {_status(pulled)} {reference.familiar}")
    return pulled


def warn_of_another_platform(pulled: Pulled, reference: Reference, platform: str, observer: Observer) -> None:
    """Tell that an image is not for the platform that was asked for, if so."""
    actual, wanted = platform_of(pulled.image.config), host_platform(platform)
    if not matches(actual, wanted):
        observer.told(
            f"WARNING: image with reference {reference.repository} was found but does not match the specified platform:"
            f" wanted {wanted}, actual: {actual}"
        )


def _status(pulled: Pulled) -> str:
    return "Downloaded newer image for" if pulled.is_new else "Image is up to date for"


def send_noted(
    paths: Paths,
    store: ImageStore,
    registries: Session,
    reference: Reference,
    observer: Observer,
    *,
    platform: str = "",
) -> Pushed:
    """Push an image, or of an index only the one for ``platform``, tell of it, and note it; else as ``push``."""
    pushed = push(registries, store, reference, observer, host_platform(platform) if platform else None)
    labels = pushed.image.config.config.labels
    event_actors.note_image(paths.run, "push", reference.familiar, {**labels, "name": reference.repository})
    observer.told(f"{reference.tag}: digest: {pushed.digest} size: {pushed.size_bytes}")
    if pushed.of_index:
        told = "Not all multiplatform-content is present and only the available single-platform image was pushed"
        observer.told(f"{told}: {pushed.of_index} -> {pushed.digest}")
    return pushed


def names_to_push(store: ImageStore, wanted: Reference, *, all_tags: bool) -> tuple[Reference, ...]:
    """Return the names that are to be pushed, in order: one, or all of its repository.

    Raises:
        ImageNotFound: there is none.
    """
    names = (name for _, names in store.grouped() for name in names if name.tag and not name.digest)
    found = [
        name
        for name in names
        if name == wanted or (all_tags and (name.registry, name.path) == (wanted.registry, wanted.path))
    ]
    if not found:
        raise ImageNotFound(
            f"An image does not exist locally with the tag: {wanted.repository}",
            hint=f"lab tag IMAGE {wanted.familiar}",
        )
    return tuple(sorted(found, key=lambda name: name.tag))
