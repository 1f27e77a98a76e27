"""One stage being built: each step is found in the cache, or made and put there."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from lab.container.image.build_cache import BuildCache, Cached
from lab.container.image.build_mounts import BindSource, MountPlaces, shared_root
from lab.container.image.build_plan import Base, PlannedStage, PlannedStep, cache_key
from lab.container.image.build_progress import Observer, StepTitle
from lab.container.image.build_root import enter_own_mounts
from lab.container.image.build_run import Commands
from lab.container.image.build_select import Origin, resolve
from lab.container.image.build_steps import Action
from lab.container.image.build_work import Prepared, Tools, clamp_times, explain, prepared
from lab.container.image.instructions import Statement
from lab.container.image.store import ImageStore, StoredImage
from lab.container.storage.compression import decompressed
from lab.container.storage.layers import chain_ids
from lab.container.storage.pack import Layer
from lab.container.storage.unpack import UnpackLimits, unpack
from lab.errors import BuildCancelled, LabError


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltStep:
    """A step that is done; ``key`` is "" where it is about the configuration only."""

    planned: PlannedStep
    key: str
    cached: Cached


@dataclass(slots=True, kw_only=True)
class BuiltStage:
    """A stage as far as it is done.

    ``key`` tells its files apart from all others, ``history_key`` all that it is; ``image`` is the one below it, and
    ``layers`` are its files, lowest first.
    """

    key: str
    history_key: str
    image: StoredImage | None = None
    layers: list[str] = field(default_factory=list)
    steps: list[BuiltStep] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all stages of one build share.

    ``now_s`` tells the time, ``epoch_s`` is SOURCE_DATE_EPOCH, ``packs`` is called with each step that has left
    files; ``host`` runs what has to be seen by other processes.
    """

    store: ImageStore
    cache: BuildCache
    commands: Commands
    observer: Observer
    places: MountPlaces
    context: Origin
    work: str
    use_cache: bool
    epoch_s: int | None
    now_s: Callable[[], int]
    packs: Callable[[int, str, Cached], None]
    host: ThreadPoolExecutor
    stages: Callable[[int], BuiltStage]
    images: Callable[[str], StoredImage]
    cancelled: threading.Event
    titles: Callable[[PlannedStage, int, Statement], StepTitle]


def build_stage(site: Site, stage: PlannedStage) -> BuiltStage:
    """Build a stage, in a thread of its own, and return it.

    Raises:
        BuildFailed: a step failed.
    """
    enter_own_mounts()
    built = _begin(site, stage)
    for position, step in enumerate(stage.steps, start=2):
        if site.cancelled.is_set():
            raise BuildCancelled("cancelled, since another step failed")
        _StageStep(site, stage, built, step).build(site.titles(stage, position, step.statement))
    return built


def _begin(site: Site, stage: PlannedStage) -> BuiltStage:
    title = site.titles(stage, 1, stage.start)
    site.observer.started(title)
    built = _foundation(site, stage.base)
    site.observer.finished(title, cached=False)
    return built


def _foundation(site: Site, base: Base) -> BuiltStage:
    if base.stage is not None:
        below = site.stages(base.stage)
        return BuiltStage(key=below.key, history_key=below.history_key, layers=[*below.layers])
    epoch = f"@{site.epoch_s}"
    if not base.image:
        return BuiltStage(key=f"scratch{epoch}", history_key=f"scratch{epoch}")
    image = site.images(base.image)
    layers = site.store.layer_directories(image.manifest_digest)
    key = chain_ids(image.config.rootfs.diff_ids)[-1] if layers else "scratch"
    return BuiltStage(
        key=f"{key}{epoch}",
        history_key=f"{image.config_digest}{epoch}",
        image=image,
        layers=list(reversed(layers)),
    )


class _StageStep:
    """One step on its way."""

    def __init__(self, site: Site, stage: PlannedStage, built: BuiltStage, step: PlannedStep) -> None:
        self._site, self._stage, self._built, self._step = site, stage, built, step

    def build(self, title: StepTitle) -> None:
        for base in self._step.origins.values():
            if base.stage is not None:
                self._site.stages(base.stage)  # its failure is not this step's
        self._site.observer.started(title)
        try:
            cached = self._configured() if self._step.action is None else self._made(self._step.action, title)
        except BuildCancelled:
            raise
        except (LabError, OSError) as error:
            failure = explain(error, f"{title.place.path}:{title.place.line}: {title.text}")
            self._site.observer.failed(title, str(failure))
            raise failure from error
        self._site.observer.finished(title, cached=cached)

    def _configured(self) -> bool:
        """Note a step that is about the configuration only: what it does is in the plan already."""
        key = _history_key(self._built, self._step)
        found = self._find(key)
        cached = found or self._site.cache.keep(key, None, created_s=self._site.now_s())
        self._add("", key, cached)
        return found is not None

    def _made(self, action: Action, title: StepTitle) -> bool:
        work = tempfile.mkdtemp(dir=self._site.work)
        tools = Tools(
            context=self._site.context,
            commands=self._site.commands,
            places=self._site.places,
            origins=_StepOrigins(self._site, self._step, work),
            work=work,
            created_s=self._site.now_s(),
        )
        with prepared(action, self._built.layers, tools) as ready:
            key = cache_key(self._built.key, action, ready.content)
            found = self._find(key)
            cached = found or self._make(key, ready, title)
        self._add(key, _history_key(self._built, self._step, cached.result), cached)
        return found is not None

    def _find(self, key: str) -> Cached | None:
        return self._site.cache.find(key, self._restored) if self._site.use_cache else None

    def _restored(self, layer: Layer) -> str:
        """Unpack a layer that was packed and return its directory, "" if its blob is gone."""
        blobs, digest = self._site.store.blobs, layer.descriptor.digest
        if not blobs.has(digest):
            return ""
        directory = tempfile.mkdtemp(dir=self._site.work)
        with blobs.reading(digest) as blob:
            unpack(decompressed(blob), directory, UnpackLimits(), subject=f"layer {digest}")
        return directory

    def _make(self, key: str, ready: Prepared, title: StepTitle) -> Cached:
        upper = ready.make(lambda data: self._site.observer.wrote(title, data))
        if upper is not None and self._site.epoch_s is not None:
            clamp_times(upper, self._site.epoch_s)
        return self._site.cache.keep(key, upper, created_s=self._site.now_s())

    def _add(self, key: str, history_key: str, cached: Cached) -> None:
        self._built.steps.append(BuiltStep(planned=self._step, key=key, cached=cached))
        self._built.history_key = history_key
        if cached.name:
            # not the step's own key: what stands on this run of it must not be found by who stands on another one
            self._built.key = cached.result
            self._built.layers.append(self._site.cache.directory(cached))
            self._site.packs(self._stage.index, key, cached)


class _StepOrigins:
    """The stages and images that one step takes files from."""

    def __init__(self, site: Site, step: PlannedStep, work: str) -> None:
        self._site, self._step, self._work = site, step, work

    def layers(self, name: str) -> Sequence[str]:
        base = self._step.origins[name]
        if base.stage is not None:
            return self._site.stages(base.stage).layers
        return tuple(reversed(self._site.store.layer_directories(self._site.images(base.image).manifest_digest)))

    def bind_source(self, name: str, stack: ExitStack) -> BindSource:
        entered = shared_root(self.layers(name), self._site.work)
        root = self._site.host.submit(entered.__enter__).result()
        stack.callback(lambda: self._site.host.submit(entered.__exit__, None, None, None).result())
        return BindSource(subject=name, find=partial(resolve, root), key=lambda path: f"{self._key(name)}:{path}")

    def _key(self, name: str) -> str:
        base = self._step.origins[name]
        if base.stage is not None:
            return self._site.stages(base.stage).key
        return self._site.images(base.image).manifest_digest


def _history_key(built: BuiltStage, step: PlannedStep, result: str = "") -> str:
    return hashlib.sha256(
        f"{built.history_key}\n{step.created_by}\n{result}".encode("utf-8", "surrogateescape")
    ).hexdigest()
