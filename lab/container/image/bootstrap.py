"""Base images from Debian packages: which there are, and how each is made. Nothing is taken from a registry."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from lab.container.image import busybox
from lab.container.image.assemble import Assembly, Step, assemble
from lab.container.image.store import ImageStore, StoredImage
from lab.container.storage import durable
from lab.errors import ImageNotFound

Progress = Callable[[str], None]
"""Called with one line about what begins."""


class BaseImage(StrEnum):
    """The base images, in the order in which they are made."""

    BUSYBOX = "busybox"
    DEBIAN = "debian"
    DEBIAN_WORKLOADS = "debian-workloads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrapped:
    """A base image, and whether it was made just now."""

    image: StoredImage
    made: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a maker gets: the store, an empty directory of its own, and the wishes of the caller.

    ``epoch_s`` is SOURCE_DATE_EPOCH: the time of creation, and no file is younger.
    """

    store: ImageStore
    work: str
    progress: Progress
    epoch_s: int | None


def bootstrap(
    store: ImageStore, base: BaseImage, *, progress: Progress, force: bool = False, epoch_s: int | None = None
) -> Bootstrapped:
    """Return the base image, made now if it is not there or ``force`` asks for it.

    Raises:
        UnavailableError: a tool, or a right, is missing.
        ContainerError: a tool failed, as without a network; nothing half-made is left.
    """
    os.makedirs(store.root, exist_ok=True)
    with durable.locked(os.path.join(store.root, f"bootstrap-{base}.lock")):
        if not force and (image := _find(store, base)):
            return Bootstrapped(image=image, made=False)
        with _work_directory(store, base) as work, store.content_shared():
            job = Job(store=store, work=work, progress=progress, epoch_s=epoch_s)
            return Bootstrapped(image=_MAKERS[base](job), made=True)


def _find(store: ImageStore, base: BaseImage) -> StoredImage | None:
    try:
        return store.resolve(base)
    except ImageNotFound:
        return None


@contextmanager
def _work_directory(store: ImageStore, base: BaseImage) -> Iterator[str]:
    work = os.path.join(store.root, "work", base)
    _remove_work(work)  # a killed bootstrap's: we hold its lock
    os.makedirs(work, mode=0o755)
    try:
        yield work
    finally:
        _remove_work(work)


def _remove_work(work: str) -> None:
    if os.path.isdir(work):
        shutil.rmtree(work)


def _make_busybox(job: Job) -> StoredImage:
    job.progress("busybox: packing the static program and its applets")
    found = busybox.find_busybox(job.work)
    created_s = found.mtime_s if job.epoch_s is None else job.epoch_s
    layer = busybox.pack(job.store.blobs, busybox.plan(found), mtime_s=min(found.mtime_s, created_s))
    created_by = f"busybox-static {found.version} with links of its applets"
    step = Step(layer=layer, created_by=created_by, created_s=created_s)
    return assemble(
        job.store, Assembly(name=BaseImage.BUSYBOX, steps=(step,), cmd=("sh",), labels=busybox.labels(found))
    )


_MAKERS: dict[BaseImage, Callable[[Job], StoredImage]] = {BaseImage.BUSYBOX: _make_busybox}
