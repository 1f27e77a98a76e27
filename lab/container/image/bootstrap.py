"""Base images from Debian packages: which there are, and how each is made. Nothing is taken from a registry."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from lab.container.image import busybox, debian
from lab.container.image.assemble import Assembly, Step, assemble, extend
from lab.container.image.sources import AptSources, find_sources
from lab.container.image.store import ImageStore
from lab.container.image.stored import StoredImage
from lab.container.image.work import Job, Progress, work_directory
from lab.container.storage import durable
from lab.errors import ImageNotFound


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
        with work_directory(os.path.join(store.root, "work", base)) as work, store.content_shared():
            job = Job(store=store, work=work, progress=progress, epoch_s=epoch_s)
            return Bootstrapped(image=_MAKERS[base](job), made=True)


def _find(store: ImageStore, base: BaseImage) -> StoredImage | None:
    try:
        return store.resolve(base)
    except ImageNotFound:
        return None


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


def _make_debian(job: Job) -> StoredImage:
    sources = _sources(job)
    created_s = _created_s(job)
    installed = debian.make_minbase(job, sources, created_s=created_s)
    step = debian.step_of(installed, f"mmdebstrap --variant=minbase {sources.suite}", created_s)
    labels = {"lab.suite": sources.suite} | debian.labels_of(installed)
    return assemble(job.store, Assembly(name=BaseImage.DEBIAN, steps=(step,), cmd=("bash",), labels=labels))


def _make_debian_workloads(job: Job) -> StoredImage:
    base = bootstrap(job.store, BaseImage.DEBIAN, progress=job.progress, epoch_s=job.epoch_s).image
    created_s = _created_s(job)
    lower = job.store.layer_directories(base.manifest_digest)
    installed = debian.make_workloads(job, _sources(job), lower, created_s=created_s)
    step = debian.step_of(installed, f"apt-get install {' '.join(debian.WORKLOAD_PACKAGES)}", created_s)
    return extend(job.store, base, BaseImage.DEBIAN_WORKLOADS, step, labels=debian.labels_of(installed))


def _sources(job: Job) -> AptSources:
    sources = find_sources()
    if sources.note:
        job.progress(sources.note)
    return sources


def _created_s(job: Job) -> int:
    return int(time.time()) if job.epoch_s is None else job.epoch_s


_MAKERS: dict[BaseImage, Callable[[Job], StoredImage]] = {
    BaseImage.BUSYBOX: _make_busybox,
    BaseImage.DEBIAN: _make_debian,
    BaseImage.DEBIAN_WORKLOADS: _make_debian_workloads,
}
