"""Base images from Debian packages: which there are, and how each is made. Nothing is taken from a registry."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from lab.container.image import busybox, debian
from lab.container.image.assemble import Assembly, Step, assemble, extend
from lab.container.image.reference import parse_reference
from lab.container.image.sources import AptSources, find_sources
from lab.container.image.store import ImageStore
from lab.container.image.stored import StoredImage
from lab.container.image.work import Job, Progress, work_directory
from lab.container.storage import durable
from lab.errors import ImageNotFound, SpecError


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
    with _making(store, base):
        if not force and (image := _find(store, base)):
            return Bootstrapped(image=image, made=False)
        with _job(store, base, progress, epoch_s) as job:
            return Bootstrapped(image=_MAKERS[base](job), made=True)


def bootstrap_with_packages(
    store: ImageStore,
    name: str,
    packages: Sequence[str],
    *,
    progress: Progress,
    force: bool = False,
    epoch_s: int | None = None,
) -> Bootstrapped:
    """Return an image called ``name`` of ``debian`` and more packages, made now as ``bootstrap`` makes one.

    Raises:
        SpecError: there is an image of this name that was made in another way.
        UnavailableError: a tool, or a right, is missing.
        ContainerError: a tool failed, as for a package that there is not; nothing half-made is left.
    """
    name = parse_reference(name).familiar
    with _making(store, name):
        if not force and (image := _find(store, name)):
            if image.config.history[-1].created_by != _installing(packages):
                raise SpecError(f"{name} is another image already", hint="another name with --tag, or --force")
            return Bootstrapped(image=image, made=False)
        with _job(store, name, progress, epoch_s) as job:
            return Bootstrapped(image=_add_packages(job, packages), made=True)


@contextmanager
def _making(store: ImageStore, name: str) -> Iterator[None]:
    os.makedirs(store.root, exist_ok=True)
    with durable.locked(os.path.join(store.root, f"bootstrap-{_as_file(name)}.lock")):
        yield


@contextmanager
def _job(store: ImageStore, name: str, progress: Progress, epoch_s: int | None) -> Iterator[Job]:
    with work_directory(os.path.join(store.root, "work", _as_file(name))) as work, store.content_shared():
        yield Job(name=name, store=store, work=work, progress=progress, epoch_s=epoch_s)


def _as_file(name: str) -> str:
    return name.replace("/", "%").replace(":", "@")


def _find(store: ImageStore, name: str) -> StoredImage | None:
    try:
        return store.resolve(name)
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
    return _add_packages(job, debian.WORKLOAD_PACKAGES)


def _add_packages(job: Job, packages: Sequence[str]) -> StoredImage:
    base = bootstrap(job.store, BaseImage.DEBIAN, progress=job.progress, epoch_s=job.epoch_s).image
    created_s = _created_s(job)
    lower = job.store.layer_directories(base.manifest_digest)
    installed = debian.add_packages(job, _sources(job), lower, packages, created_s=created_s)
    step = debian.step_of(installed, _installing(packages), created_s)
    return extend(job.store, base, job.name, step, labels=debian.labels_of(installed))


def _installing(packages: Sequence[str]) -> str:
    return f"apt-get install {' '.join(packages)}"


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
