"""/volumes."""

from __future__ import annotations

from http import HTTPStatus

from lab.api import fields
from lab.api.call import Call, Routes
from lab.api.http import Answer, document, nothing
from lab.container import pruning
from lab.container.volumes import description, points
from lab.container.volumes.model import DRIVER, Volume
from lab.container.volumes.store import VolumeStore
from lab.errors import NoSuchVolume, SpecError


def list_(call: Call) -> Answer:
    """List volumes."""
    filters = call.query.filters(description.LISTED)
    store = VolumeStore(call.paths)
    holds = description.conditions(filters, points.users(call.paths.containers) if "dangling" in filters else ())
    found = [each for each in store.all() if all(condition(each) for condition in holds)]
    return document({"Volumes": [_document(store, each) for each in found], "Warnings": None})


def _document(store: VolumeStore, volume: Volume) -> dict[str, object]:
    return description.document(volume, store.data(volume.name))


def inspect(call: Call) -> Answer:
    """Tell all that is known of a volume."""
    store = VolumeStore(call.paths)
    return document(_document(store, store.get(call.name)))


def create(call: Call) -> Answer:
    """Make a volume, unless there is one of this name."""
    body = call.connection.document()
    name, driver = fields.text(body, "Name"), fields.text(body, "Driver") or DRIVER
    if driver != DRIVER:
        raise NoSuchVolume(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
    store = VolumeStore(call.paths)
    try:
        volume = store.create(name, labels=fields.text_map(body, "Labels"), options=fields.text_map(body, "DriverOpts"))
    except SpecError as error:
        raise SpecError(f"create {name}: {error}", hint=error.hint) from None
    return document(_document(store, volume), status=HTTPStatus.CREATED)


def remove(call: Call) -> Answer:
    """Remove a volume."""
    try:
        VolumeStore(call.paths).remove(call.name)
    except NoSuchVolume:
        if not call.query.truth("force"):
            raise
    return nothing()


def prune(call: Call) -> Answer:
    """Remove volumes that no container has: all of them, as this version of the API has it, unless a filter says so."""
    filters = call.query.filters(description.PRUNED)
    with_named = description.takes_all(filters, given=True)
    removed, freed = pruning.prune_volumes(call.paths, filters, with_named=with_named)
    return document({"VolumesDeleted": removed or None, "SpaceReclaimed": freed})


ROUTES: Routes = {
    ("GET", "/volumes"): list_,
    ("POST", "/volumes/create"): create,
    ("POST", "/volumes/prune"): prune,
    ("GET", "/volumes/{name}"): inspect,
    ("DELETE", "/volumes/{name}"): remove,
}
