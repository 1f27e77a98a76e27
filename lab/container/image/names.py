"""Names of a store's images: entries of its index, given, moved and taken away; pure.

An entry carries a name in docker's short form with its tag (``busybox:latest``), which skopeo reads as well; without
one it is there by digest only. Entries of older stores without tag mean ``latest``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from lab.container.image.reference import Reference, parse_reference
from lab.container.spec.image import REF_NAME, Descriptor, Index
from lab.errors import SpecError


def reference_of(entry: Descriptor) -> Reference | None:
    """Return the name that an entry carries; None when it has none, or one that docker would not accept."""
    name = entry.annotations.get(REF_NAME, "")
    return parsed(name) if name else None


def parsed(text: str) -> Reference | None:
    """Return ``text`` as a reference, None when it is none."""
    try:
        return parse_reference(text)
    except SpecError:
        return None


def named(index: Index, reference: Reference, manifest: Descriptor) -> Index:
    """Return ``index`` with a name given to ``manifest``; the image that had it keeps its place without it."""
    kept = [
        replace(entry, annotations={}) if reference_of(entry) == reference else entry
        for entry in index.manifests
        if not (entry.digest == manifest.digest and reference_of(entry) in (None, reference))
    ]
    return _tidy((*kept, replace(manifest, annotations={REF_NAME: reference.familiar})))


def nameless(index: Index, manifest: Descriptor) -> Index:
    """Return ``index`` with ``manifest`` in it, by digest at least."""
    if any(entry.digest == manifest.digest for entry in index.manifests):
        return index
    return Index(manifests=(*index.manifests, replace(manifest, annotations={})))


def untagged(index: Index, references: Collection[Reference]) -> Index:
    """Return ``index`` without these names; an image that loses its last one stays by digest."""
    return _tidy(
        replace(entry, annotations={}) if reference_of(entry) in references else entry for entry in index.manifests
    )


def without(index: Index, digests: Collection[str], nameless: Collection[str] = ()) -> Index:
    """Return ``index`` without these manifests, whatever their names, and ``nameless`` ones only if they have none."""
    return Index(
        manifests=tuple(
            entry
            for entry in index.manifests
            if entry.digest not in digests and (entry.annotations or entry.digest not in nameless)
        )
    )


def _tidy(entries: Iterable[Descriptor]) -> Index:
    """Drop nameless entries of manifests that have a name as well, and all but one of those that have none."""
    entries = tuple(entries)
    with_name = {entry.digest for entry in entries if entry.annotations}
    kept: list[Descriptor] = []
    for entry in entries:
        if entry.annotations or (entry.digest not in with_name and entry not in kept):
            kept.append(entry)
    return Index(manifests=tuple(kept))
