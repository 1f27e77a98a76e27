"""/containers: their life, without what streams."""

from __future__ import annotations

import contextlib
import os
from contextlib import ExitStack
from dataclasses import replace
from http import HTTPStatus

from lab.api import create_body, documents, fields
from lab.api.call import Call, Routes
from lab.api.http import Answer, document, nothing
from lab.container import committing, event_actors, events, inspecting, listing, processes, pruning, selection
from lab.container.containers import Containers
from lab.container.options.signals import signal_number
from lab.container.spawner_client import StartFailed, Streams
from lab.container.storage.changes import ChangeKind, changes
from lab.container.updating import update_limits
from lab.errors import LabError, NoSuchContainer, SpecError, StateConflict

_KINDS = {ChangeKind.MODIFIED: 0, ChangeKind.ADDED: 1, ChangeKind.DELETED: 2}


def list_(call: Call) -> Answer:
    """List containers."""
    filters = call.query.filters(selection.LISTED)
    sized = call.query.truth("size")
    with call.containers() as containers:
        images = listing.ImagesByName(containers)
        found = listing.find(
            containers, images, filters, every=call.query.truth("all"), last=call.query.number("limit") or -1
        )
        load = containers.engine.directory.load_spec
        return document(
            [
                documents.container(each, images, load(each.id), listing.sizes(each, containers) if sized else None)
                for each in found
            ]
        )


def create(call: Call) -> Answer:
    """Make a container."""
    options = create_body.options_of(call.connection.document())
    with call.containers() as containers:
        created = containers.create(options, name=call.query.text("name").removeprefix("/"), environ={})
    return document({"Id": created.id, "Warnings": list(created.warnings)}, status=HTTPStatus.CREATED)


def inspect(call: Call) -> Answer:
    """Tell all that is known of a container."""
    with call.containers() as containers:
        return document(inspecting.document(containers, call.name, sized=call.query.truth("size")))


def start(call: Call) -> Answer:
    """Start a container, connected with whoever waits for it."""
    with call.containers() as containers:
        container = containers.get(call.name)
        if container.is_paused:
            raise SpecError("cannot start a paused container, try unpause instead")
        if container.is_running:
            return nothing(HTTPStatus.NOT_MODIFIED)
        try:
            _start(call, containers, container.id, keeps_input=container.record.options.open_stdin)
        except StartFailed:
            if container.record.options.removes:
                with contextlib.suppress(LabError):
                    containers.remove(container.id, force=True)
            raise
    return nothing()


def _start(call: Call, containers: Containers, container_id: str, *, keeps_input: bool) -> None:
    with call.surroundings.waiting.taken(container_id) as waiting, ExitStack() as stack:
        streams = waiting[0].streams if waiting else Streams()
        if waiting and keeps_input and not any(each.has_input for each in waiting):  # somebody may come who has any
            kept = containers.open_stdin(container_id)
            stack.callback(os.close, kept)
            streams = replace(streams, kept=kept)
        running = containers.start(container_id, streams)
        call.surroundings.witnesses.hand_over(container_id, running)
        for others in waiting[1:]:
            containers.engine.spawner.attach(container_id, others.streams).close()


def stop(call: Call) -> Answer:
    """Stop a container."""
    number = _signal(call)
    with call.containers() as containers:
        container = containers.get(call.name)
        is_over = container.status in ("created", "exited")
        containers.stop(container.id, timeout_s=call.query.number("t"), signal_number=number)
    return nothing(HTTPStatus.NOT_MODIFIED if is_over else HTTPStatus.NO_CONTENT)


def _signal(call: Call) -> int | None:
    text = call.query.text("signal")
    return signal_number(text) if text else None


def restart(call: Call) -> Answer:
    """Stop a container and start it again."""
    number = _signal(call)
    with call.containers() as containers:
        container_id = containers.find(call.name)
        containers.stop(container_id, timeout_s=call.query.number("t"), signal_number=number)
        containers.start(container_id).close()
        events.note(containers.engine.directory.bundle(container_id), "restart")
    return nothing()


def kill(call: Call) -> Answer:
    """Send a signal."""
    number = _signal(call) or signal_number("KILL")
    with call.containers() as containers:
        try:
            containers.kill(call.name, number)
        except NoSuchContainer as error:
            raise NoSuchContainer(f"Cannot kill container: {call.name}: {error}") from None
    return nothing()


def pause(call: Call) -> Answer:
    """Freeze a container."""
    with call.containers() as containers:
        containers.pause(call.name)
    return nothing()


def unpause(call: Call) -> Answer:
    """Let a frozen container go on."""
    with call.containers() as containers:
        containers.unpause(call.name)
    return nothing()


def rename(call: Call) -> Answer:
    """Give a container another name."""
    if not call.query.text("name"):
        raise SpecError("Neither old nor new names may be empty")
    with call.containers() as containers:
        containers.rename(call.name, call.query.text("name"))
    return nothing()


def update(call: Call) -> Answer:
    """Change limits and the restart policy."""
    body = call.connection.document()
    wanted = {name: value for name, value in create_body.limits(body).items() if value}
    if fields.number(body, "BlkioWeight"):
        wanted["block_io"] = (f"blkio-weight={fields.number(body, 'BlkioWeight')}",)
    policy = fields.object_of(body, "RestartPolicy")
    with call.containers() as containers:
        container = containers.get(call.name)
        warnings = update_limits(containers, container.id, wanted) if wanted else ()
        if fields.text(policy, "Name"):
            containers.set_restart(container.id, *create_body.restart_policy(policy))
    return document({"Warnings": list(warnings)})


def remove(call: Call) -> Answer:
    """Remove a container."""
    if call.query.truth("link"):
        raise SpecError("links between containers are not supported")
    with call.containers() as containers:
        containers.remove(call.name, force=call.query.truth("force"), volumes=call.query.truth("v"))
    return nothing()


def prune(call: Call) -> Answer:
    """Remove containers that do not run."""
    filters = call.query.filters(pruning.CONTAINERS_PRUNED)
    with call.containers() as containers:
        removed, freed = pruning.prune_containers(containers, filters)
    return document({"ContainersDeleted": removed or None, "SpaceReclaimed": freed})


def top(call: Call) -> Answer:
    """Tell a container's processes."""
    with call.containers() as containers:
        titles, *rows = processes.listed(containers, call.name, call.query.text("ps_args"))
    return document({"Processes": rows, "Titles": titles})


def changed(call: Call) -> Answer:
    """Tell what a container has changed in its files."""
    with call.containers() as containers:
        state = containers.get(call.name).state
        found = [{"Path": each.path, "Kind": _KINDS[each.kind]} for each in changes(state.upper, state.layers)]
    return document(found or None)


def resize(call: Call) -> Answer:
    """Tell a container's terminal its size."""
    rows, columns = call.query.number("h"), call.query.number("w")
    if rows is None or columns is None:
        raise SpecError("h and w are needed: the rows and columns of a terminal")
    with call.containers() as containers:
        container = containers.get(call.name)
        if not container.is_running:
            raise StateConflict(f"Container {container.id} is not running")
        containers.engine.spawner.resize(container.id, rows=rows, columns=columns)
        events.note(
            container.state.bundle, "resize", event_actors.members({"height": str(rows), "width": str(columns)})
        )
    return nothing(HTTPStatus.OK)


def commit(call: Call) -> Answer:
    """Make an image of a container's files."""
    repository, tag = call.query.text("repo"), call.query.text("tag")
    wishes = committing.CommitWishes(
        name=f"{repository}:{tag}" if repository and tag else repository,
        author=call.query.text("author"),
        message=call.query.text("comment"),
        changes=tuple(line for text in call.query.texts("changes") for line in text.splitlines() if line),
    )
    with call.containers() as containers:
        container = containers.get(call.query.text("container"))
        image_id = committing.commit_noted(
            containers, container, wishes, pauses=call.query.truth("pause", default=True)
        )
    return document({"Id": image_id}, status=HTTPStatus.CREATED)


ROUTES: Routes = {
    ("GET", "/containers/json"): list_,
    ("POST", "/containers/create"): create,
    ("POST", "/containers/prune"): prune,
    ("GET", "/containers/{name}/json"): inspect,
    ("POST", "/containers/{name}/start"): start,
    ("POST", "/containers/{name}/stop"): stop,
    ("POST", "/containers/{name}/restart"): restart,
    ("POST", "/containers/{name}/kill"): kill,
    ("POST", "/containers/{name}/pause"): pause,
    ("POST", "/containers/{name}/unpause"): unpause,
    ("POST", "/containers/{name}/rename"): rename,
    ("POST", "/containers/{name}/update"): update,
    ("POST", "/containers/{name}/resize"): resize,
    ("GET", "/containers/{name}/top"): top,
    ("GET", "/containers/{name}/changes"): changed,
    ("DELETE", "/containers/{name}"): remove,
    ("POST", "/commit"): commit,
}
