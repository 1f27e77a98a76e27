"""Layers to image: the configuration that tells what they are and how they came to be."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from lab.container.image.packages import debian_architecture
from lab.container.image.store import ImageStore
from lab.container.image.stored import StoredImage
from lab.container.spec.image import ExecutionConfig, History, ImageConfig, RootFS
from lab.container.storage.pack import Layer

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One layer and how it was made; ``created_s`` is in seconds since the epoch."""

    layer: Layer
    created_by: str
    created_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """An image in the making: its steps, lowest first, its default command, and its labels."""

    name: str
    steps: Sequence[Step]
    cmd: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)


def configuration(assembly: Assembly) -> ImageConfig:
    """Return the image configuration; it was created when its last layer was."""
    return ImageConfig(
        architecture=debian_architecture(),
        os="linux",
        created=rfc3339(assembly.steps[-1].created_s),
        config=ExecutionConfig(env=(PATH,), cmd=assembly.cmd, working_dir="/", labels=assembly.labels),
        rootfs=RootFS(diff_ids=tuple(step.layer.diff_id for step in assembly.steps)),
        history=tuple(History(created=rfc3339(step.created_s), created_by=step.created_by) for step in assembly.steps),
    )


def assemble(store: ImageStore, assembly: Assembly) -> StoredImage:
    """Store the image under its name; its layers are in the store already."""
    return store.add(assembly.name, configuration(assembly), [step.layer for step in assembly.steps])


def extend(store: ImageStore, base: StoredImage, name: str, step: Step, *, labels: Mapping[str, str]) -> StoredImage:
    """Store the image that one more layer makes of ``base``, under ``name``; the layers below are shared."""
    below = [Layer(descriptor=source.descriptor, diff_id=source.diff_id) for source in store.layer_sources(base)]
    old, created = base.config, rfc3339(step.created_s)
    config = replace(
        old,
        created=created,
        config=replace(old.config, labels={**old.config.labels, **labels}),
        rootfs=RootFS(diff_ids=(*old.rootfs.diff_ids, step.layer.diff_id)),
        history=(*old.history, History(created=created, created_by=step.created_by)),
    )
    return store.add(name, config, [*below, step.layer])


def rfc3339(seconds: int) -> str:
    """Return an instant as OCI writes it: "2026-11-24T04:06:10Z"."""
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
