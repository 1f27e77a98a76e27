"""/images: what there is, and what becomes of it; what moves images is in ``image_transfers.py``."""

from __future__ import annotations

from http import HTTPStatus

from lab.api import documents, registry_auth
from lab.api.call import Call, Routes
from lab.api.http import Answer, document, nothing
from lab.container import event_actors, pruning
from lab.container.image import chosen, description
from lab.container.image.filters import LISTED, PRUNED, instant_ns
from lab.container.image.reference import DEFAULT_REGISTRY, parse_reference
from lab.container.image.store import ImageStore
from lab.container.registry.search import search as search_registry
from lab.errors import ContainerError, SpecError
from lab.units import NS_PER_S

_FALSE = ("false", "0")
_SEARCH_LIMIT = 25


def list_(call: Call) -> Answer:
    """List images; one that is damaged does not hide the others."""
    filters = call.query.filters(LISTED)
    if call.query.text("filter"):
        filters.setdefault("reference", []).append(call.query.text("filter"))
    store, found = ImageStore.open(call.paths), []
    for image, names in chosen.listed(store, filters):
        try:
            found.append(documents.image(store, image, names))
        except ContainerError:
            continue
    return document(found)


def inspect(call: Call) -> Answer:
    """Tell everything about an image."""
    store = ImageStore.open(call.paths)
    found = description.inspect_document(store, store.resolve(call.name))
    # what clients of this version of the API rely upon, docker-compose most of all
    old = {"VirtualSize": found["Size"], "Container": "", "ContainerConfig": found["Config"]}
    return document({**found, **old})


def history(call: Call) -> Answer:
    """Tell the steps that made an image."""
    store = ImageStore.open(call.paths)
    image = store.resolve(call.name)
    tags = [name.familiar for name in store.names_of(image) if not name.digest]
    entries = description.history(store, image)
    return document(
        [
            {
                "Comment": entry.comment,
                "Created": (instant_ns(entry.created) or 0) // NS_PER_S,
                "CreatedBy": entry.created_by,
                "Id": entry.image,
                "Size": entry.size_bytes,
                "Tags": tags if index == 0 and tags else None,
            }
            for index, entry in enumerate(entries)
        ]
    )


def tag(call: Call) -> Answer:
    """Give an image another name."""
    repository, label = call.query.text("repo"), call.query.text("tag")
    reference = parse_reference(f"{repository}:{label}" if label else repository)
    if reference.digest:
        raise SpecError("refusing to create a tag with a digest reference")
    image = ImageStore.open(call.paths).tag(call.name, reference.familiar)
    attributes = {**image.config.config.labels, "name": reference.familiar}
    event_actors.note_image(call.paths.run, "tag", image.config_digest, attributes)
    return nothing(HTTPStatus.CREATED)


def remove(call: Call) -> Answer:
    """Remove a name, and an image with its last name."""
    removed = ImageStore.open(call.paths).remove(call.name, force=call.query.truth("force"))
    names, is_deleted = len(removed.untagged), bool(removed.deleted)
    event_actors.note_removal(call.paths.run, removed.image_id, names=names, is_deleted=is_deleted)
    untagged = [{"Untagged": name} for name in removed.untagged]
    return document([*untagged, *({"Deleted": digest} for digest in removed.deleted)])


def prune(call: Call) -> Answer:
    """Remove images that no container uses."""
    filters = call.query.filters(PRUNED)
    with_names = filters.pop("dangling", ["true"])[-1].lower() in _FALSE
    removed = pruning.prune_images(ImageStore.open(call.paths), filters, with_names=with_names)
    untagged = [{"Untagged": name} for name in removed.untagged]
    found = [*untagged, *({"Deleted": digest} for digest in removed.deleted)]
    return document({"ImagesDeleted": found or None, "SpaceReclaimed": removed.freed_bytes})


def search(call: Call) -> Answer:
    """Search a registry."""
    term = call.query.text("term")
    first, slash, rest = term.partition("/")
    is_host = bool(slash) and (any(char in first for char in ".:") or first == "localhost")
    registry, term = (first, rest) if is_host else (DEFAULT_REGISTRY, term)
    given = registry_auth.of_header(call.headers.get("x-registry-auth", ""))
    with registry_auth.given_session(call.paths, given) as registries:
        found = search_registry(registries, registry, term, limit=call.query.number("limit") or _SEARCH_LIMIT)
    prefix = f"{registry}/" if is_host else ""
    return document(
        [
            {
                "name": prefix + each.name,
                "description": each.description,
                "star_count": each.stars,
                "is_official": each.is_official,
                "is_automated": each.is_automated,
            }
            for each in sorted(found, key=lambda each: -each.stars)
        ]
    )


ROUTES: Routes = {
    ("GET", "/images/json"): list_,
    ("GET", "/images/search"): search,
    ("POST", "/images/prune"): prune,
    ("GET", "/images/{name*}/json"): inspect,
    ("GET", "/images/{name*}/history"): history,
    ("POST", "/images/{name*}/tag"): tag,
    ("DELETE", "/images/{name*}"): remove,
}
