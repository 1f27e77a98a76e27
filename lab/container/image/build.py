"""Carries a build plan out: stages side by side, each step found in the cache or made, and the image at the end."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field

from lab.container.engine import Engine
from lab.container.image.build_cache import BuildCache, Cached
from lab.container.image.build_context import Context, ContextSource, open_context
from lab.container.image.build_export import Finished, Packer, export
from lab.container.image.build_mounts import MountPlaces, shared_directory
from lab.container.image.build_plan import BuildPlan, PlannedStage, Wishes, plan
from lab.container.image.build_progress import Observer, StepTitle
from lab.container.image.build_run import Commands, Surroundings
from lab.container.image.build_stage import BuiltStage, BuiltStep, Site, build_stage
from lab.container.image.build_steps import Execute
from lab.container.image.build_work import explain
from lab.container.image.dockerfile import parse_dockerfile
from lab.container.image.instructions import Statement
from lab.container.image.packages import debian_architecture
from lab.container.image.run_mounts import RunMount
from lab.container.image.store import ImageStore, StoredImage
from lab.errors import BuildCancelled, BuildFailed, ImageNotFound, UnavailableError
from lab.paths import Paths


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """What is to be built.

    ``names`` are those of the image, ``epoch_s`` is SOURCE_DATE_EPOCH, ``secrets`` are the contents for
    ``--mount=type=secret`` by id. ``fetch`` has an image from its registry: one that is not there, or any if it
    ``fetches_always``.
    """

    context: ContextSource
    names: tuple[str, ...] = ()
    target: str = ""
    platform: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    use_cache: bool = True
    epoch_s: int | None = None
    secrets: Mapping[str, bytes] = field(default_factory=dict)
    surroundings: Surroundings = field(default_factory=Surroundings)
    fetch: Callable[[str], None] | None = None
    fetches_always: bool = False


def build(paths: Paths, engine: Engine, request: BuildRequest, observer: Observer) -> StoredImage:
    """Build an image and return it; what each step has made is kept for the next build, also when a later one fails.

    Raises:
        DockerfileError: the Dockerfile is wrong, or names an image that is not there.
        UnavailableError: this user may not.
        BuildFailed: a step failed.
        KernelError: the host refused: no space, no right.
    """
    if os.geteuid() != 0:
        raise UnavailableError("building needs root: it mounts layers and sets owners", hint="use sudo")
    engine.warm_up()
    store, cache = ImageStore.open(paths), BuildCache(paths.builds)
    with store.content_shared(), cache.building() as work:
        context = open_context(request.context, work)
        dockerfile = parse_dockerfile(context.dockerfile, path=context.path)
        planned = plan(dockerfile, _wishes(request), lambda name: _base(store, request, name).config.config)
        for warning in planned.warnings:
            observer.noted(warning)
        places = MountPlaces(cache=cache, secrets=request.secrets, run=paths.run)
        builder = _Builder(planned, request, context, store, cache)
        return builder.build(Commands(engine, request.surroundings), observer, places, work)


def _base(store: ImageStore, request: BuildRequest, name: str) -> StoredImage:
    """Return an image that the Dockerfile names, from its registry if need be."""
    if request.fetch is None:
        return store.resolve(name)
    if request.fetches_always:
        request.fetch(name)
    try:
        return store.resolve(name)
    except ImageNotFound:
        request.fetch(name)
    return store.resolve(name)


def _wishes(request: BuildRequest) -> Wishes:
    here = f"linux/{debian_architecture()}"
    if request.platform not in ("", here, "linux"):
        raise BuildFailed(f"this host builds for {here} only, not for {request.platform}")
    return Wishes(
        platform=here,
        target=request.target,
        build_args=request.build_args,
        labels=request.labels,
    )


class _Builder:
    """One build: the threads of its stages, and what they have in common."""

    def __init__(
        self, planned: BuildPlan, request: BuildRequest, context: Context, store: ImageStore, cache: BuildCache
    ) -> None:
        self._plan, self._request, self._context, self._store, self._cache = planned, request, context, store, cache
        self._results: dict[int, Future[BuiltStage]] = {}
        self._numbers = itertools.count(1)
        self._packer = Packer(store, cache)
        self._exported = {stage.index for stage in self._chain()}
        self._left: set[str] = set()

    def build(self, commands: Commands, observer: Observer, places: MountPlaces, work: str) -> StoredImage:
        cancelled = threading.Event()
        with ExitStack() as stack:
            if any(mount.origin for mount in self._mounts()):
                stack.enter_context(shared_directory(work))
            stack.callback(commands.close)
            host = stack.enter_context(ThreadPoolExecutor(1, "build-host"))
            host.submit(int).result()  # so that its thread is in this process's mount namespace
            pool = stack.enter_context(ThreadPoolExecutor(len(self._plan.stages), "build"))
            site = self._site(commands, observer, places, work, cancelled=cancelled, host=host)
            try:
                for stage in self._plan.stages:
                    self._results[stage.index] = pool.submit(build_stage, site, stage)
                self._await_all()
                image = self._export()
            except BaseException:
                cancelled.set()
                commands.cancel()
                raise
            finally:
                self._packer.close()
        self._cache.settle(self._left)
        return image

    def _mounts(self) -> Iterator[RunMount]:
        for stage in self._plan.stages:
            for step in stage.steps:
                if isinstance(step.action, Execute):
                    yield from step.action.mounts

    def _await_all(self) -> None:
        """Return when all stages are done, or raise what the first one to fail raised."""
        done, _ = wait(self._results.values(), return_when=FIRST_EXCEPTION)
        if any(isinstance(result.exception(), BuildCancelled) for result in done):
            done, _ = wait(self._results.values())  # the one that cancelled them is still at it
        for result in sorted(done, key=lambda result: isinstance(result.exception(), BuildCancelled)):
            result.result()

    def _site(
        self,
        commands: Commands,
        observer: Observer,
        places: MountPlaces,
        work: str,
        *,
        cancelled: threading.Event,
        host: ThreadPoolExecutor,
    ) -> Site:
        request = self._request
        return Site(
            store=self._store,
            cache=self._cache,
            commands=commands,
            observer=observer,
            places=places,
            context=self._context.origin,
            work=work,
            use_cache=request.use_cache,
            epoch_s=request.epoch_s,
            now_s=_clock(request.epoch_s),
            packs=self._left_files,
            host=host,
            stages=lambda index: self._results[index].result(),
            images=self._store.resolve,
            cancelled=cancelled,
            titles=self._title,
        )

    def _left_files(self, stage: int, key: str, cached: Cached) -> None:
        self._left.add(key)
        if stage in self._exported:
            self._packer.begin(key, cached)

    def _title(self, stage: PlannedStage, position: int, statement: Statement) -> StepTitle:
        several = len(self._plan.stages) > 1
        return StepTitle(
            number=next(self._numbers),
            stage=(stage.name or f"stage-{stage.index}") if several else "",
            position=position,
            total=len(stage.steps) + 1,
            text=statement.text,
            place=statement.source.place,
        )

    def _chain(self) -> list[PlannedStage]:
        """Return the stages that the target's files consist of, the lowest first."""
        by_index = {stage.index: stage for stage in self._plan.stages}
        chain = [self._plan.target]
        while chain[0].base.stage is not None:
            chain.insert(0, by_index[chain[0].base.stage])
        return chain

    def _export(self) -> StoredImage:
        built = [self._results[stage.index].result() for stage in self._chain()]
        steps: list[BuiltStep] = [step for stage in built for step in stage.steps]
        finished = Finished(base=built[0].image, steps=steps, config=self._plan.config)
        try:
            return export(self._store, self._cache, self._packer, finished, self._request.names)
        except OSError as error:
            raise explain(error, "the image cannot be stored") from error


def _clock(epoch_s: int | None) -> Callable[[], int]:
    return (lambda: int(time.time())) if epoch_s is None else (lambda: epoch_s)
