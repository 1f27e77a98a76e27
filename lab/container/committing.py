"""A container's own layer -> an image, as ``docker commit`` makes it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lab.container import event_actors, events
from lab.container.containers import Container, Containers
from lab.container.image.assemble import rfc3339
from lab.container.image.change import changed
from lab.container.image.store import ImageStore
from lab.container.image.stored import StoredImage
from lab.container.options.configure import environment
from lab.container.spec.image import ExecutionConfig, History, RootFS
from lab.container.storage.pack import Layer, pack_directory
from lab.units import NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitWishes:
    """How the image is called ("" for not at all), described and configured."""

    name: str = ""
    author: str = ""
    message: str = ""
    changes: Sequence[str] = ()


def commit(store: ImageStore, container: Container, wishes: CommitWishes) -> StoredImage:
    """Store an image of a container's base image and its own layer; its configuration is what the container runs with.

    Raises:
        DockerfileError: a change is wrong.
        ImageNotFound: the image that the container was made of is gone.
        SpecError: the name is not a reference.
    """
    base = store.resolve(container.record.image_id)
    config = changed(_configuration(container), wishes.changes)
    created = rfc3339(time.time_ns() // NS_PER_S)
    command = " ".join(_command(container))
    with store.content_shared():
        layer = pack_directory(store.blobs, container.state.upper)
        image = replace(
            base.config,
            created=created,
            author=wishes.author,
            config=config,
            rootfs=RootFS(diff_ids=(*base.config.rootfs.diff_ids, layer.diff_id)),
            history=(
                *base.config.history,
                History(created=created, created_by=command, author=wishes.author, comment=wishes.message),
            ),
        )
        lower = [
            Layer(descriptor=descriptor, diff_id=diff_id)
            for descriptor, diff_id in zip(base.layers, base.config.rootfs.diff_ids, strict=True)
        ]
        return store.add(wishes.name, image, (*lower, layer))


def commit_noted(containers: Containers, container: Container, wishes: CommitWishes, *, pauses: bool) -> str:
    """Store an image of a container, which is frozen meanwhile if it ``pauses``; note it, and return the image's id.

    What it raises is said at ``commit``.
    """
    freezes = pauses and container.is_running and not container.is_paused
    if freezes:
        containers.pause(container.id)
    try:
        image_id = commit(containers.images, container, wishes).config_digest
        attributes = {"comment": wishes.message, "imageID": image_id, "imageRef": wishes.name}
        events.note(container.state.bundle, "commit", event_actors.members(attributes))
    finally:
        if freezes:
            containers.unpause(container.id)
    return image_id


def _command(container: Container) -> tuple[str, ...]:
    options, image = container.record.options, container.record.image
    return options.command or (image.cmd if options.entrypoint is None else ())


def _configuration(container: Container) -> ExecutionConfig:
    options, image = container.record.options, container.record.image
    return replace(
        image,
        cmd=_command(container),
        entrypoint=image.entrypoint if options.entrypoint is None else options.entrypoint,
        env=environment(image.env, options.env, {}),
        working_dir=options.workdir or image.working_dir,
        user=options.user or image.user,
        labels={**image.labels, **options.labels},
        stop_signal=options.stop_signal or image.stop_signal,
        healthcheck=options.healthcheck or image.healthcheck,
    )
