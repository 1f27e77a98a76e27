"""A Dockerfile -> the stages that its target needs, each step with what it does and what the image is after it; pure.

Images enter by their configuration only, which the caller looks up: nothing here reads a file or runs a program.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace

from lab.container.image import instructions as i
from lab.container.image.build_scope import PROXIES, Scope, platform_arguments
from lab.container.image.build_steps import Action, Before, CopyFiles, Effect, Execute, apply, begin
from lab.container.image.dockerfile import Dockerfile, Instruction, Keyword
from lab.container.spec.image import ExecutionConfig
from lab.errors import BuildFailed, ImageNotFound, RegistryError

CACHE_VERSION = 1  # part of every key: raise it when a step comes to mean something else
SCRATCH = "scratch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the caller asks for beside the Dockerfile; ``platform`` is this host's, as "linux/amd64"."""

    platform: str
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage as written: its place in the file, its name, its FROM and the rest."""

    index: int
    name: str
    start: i.Statement
    statements: tuple[i.Statement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """What a stage stands on, or files come from: a stage by its index, or an image by its name; neither is scratch."""

    stage: int | None = None
    image: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One instruction: what it does to files, if anything, and the image's configuration after it.

    ``origins`` tells what the names of stages and images in the action mean.
    """

    statement: i.Statement
    created_by: str
    config: ExecutionConfig
    action: Action | None = None
    author: str = ""
    origins: Mapping[str, Base] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """A stage to be built: what it stands on, and its steps; ``scope`` and ``config`` are those at its end."""

    index: int
    name: str
    start: i.Statement
    base: Base
    steps: tuple[PlannedStep, ...]
    scope: Scope
    config: ExecutionConfig

    @property
    def needs(self) -> tuple[Base, ...]:
        """What has to be there first: its base, then where its files come from."""
        return (self.base, *(origin for step in self.steps for origin in step.origins.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """The stages that the target needs, in the order of the file; ``config`` is the finished image's."""

    stages: tuple[PlannedStage, ...]
    target: PlannedStage
    config: ExecutionConfig
    warnings: tuple[str, ...] = ()


def plan(dockerfile: Dockerfile, wishes: Wishes, configuration: Callable[[str], ExecutionConfig]) -> BuildPlan:
    """Return how to build the target; ``configuration`` looks an image up by its name, and is asked once for each.

    Raises:
        DockerfileError: an instruction is wrong, or names a stage that is not there.
    """
    planner = _Planner(dockerfile, wishes, configuration)
    target = planner.stage(find_stage(planner.stages, wishes.target).index)
    config = replace(target.config, labels={**target.config.labels, **wishes.labels})
    return BuildPlan(
        stages=tuple(planner.planned[index] for index in sorted(planner.planned)),
        target=target,
        config=config,
        warnings=planner.warnings(),
    )


def stages(dockerfile: Dockerfile) -> tuple[Stage, ...]:
    """Return the stages in the order of the file; ARG before the first FROM belongs to none.

    Raises:
        DockerfileError: an instruction's arguments are wrong.
    """
    starts = [at for at, each in enumerate(dockerfile.instructions) if each.keyword is Keyword.FROM]
    ends = [*starts[1:], len(dockerfile.instructions)]
    found: list[Stage] = []
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        first, *rest = (i.understand(each) for each in dockerfile.instructions[start:end])
        assert isinstance(first.body, i.From)
        found.append(Stage(index=index, name=first.body.name, start=first, statements=tuple(rest)))
    return tuple(found)


def find_stage(found: tuple[Stage, ...], target: str) -> Stage:
    """Return the stage that ``--target`` names, by name or number; the last one for "".

    Raises:
        BuildFailed: there is none.
    """
    for stage in reversed(found):
        if not target or stage.name == target.lower():
            return stage
    if _is_index(target) and int(target) < len(found):
        return found[int(target)]
    known = ", ".join(stage.name for stage in found if stage.name)
    raise BuildFailed(f"target stage {target!r} could not be found", hint=f"stages: {known}" if known else "")


def cache_key(parent: str, action: Action, content: tuple[str, ...]) -> str:
    """Return the key of a step in the cache, 64 hexadecimal digits: equal inputs give equal keys on every host.

    ``parent`` tells the files that it starts from, ``content`` are digests of files that it takes from elsewhere. For
    files that are copied, what they are and where they go counts, not where they come from.
    """
    counts = replace(action, sources=(), origin="", inline=()) if isinstance(action, CopyFiles) else action
    if isinstance(counts, Execute):
        counts = replace(counts, hidden_env=(), arguments=())
    document = [CACHE_VERSION, parent, type(action).__name__, asdict(counts), content]
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class _Planner:
    """Plans stages from the target backwards, each once."""

    def __init__(self, dockerfile: Dockerfile, wishes: Wishes, configuration: Callable[[str], ExecutionConfig]) -> None:
        self.stages = stages(dockerfile)
        self.planned: dict[int, PlannedStage] = {}
        self._wishes = wishes
        self._configuration = configuration
        self._configurations: dict[str, ExecutionConfig] = {}
        self._global = Scope(given=wishes.build_args, arguments=platform_arguments(wishes.platform))
        self._declared: set[str] = set()
        for instruction in dockerfile.instructions[: dockerfile.instructions.index(self.stages[0].start.source)]:
            self._declare_globally(instruction)

    def _declare_globally(self, instruction: Instruction) -> None:
        arg = i.understand(instruction).body
        assert isinstance(arg, i.Arg)
        self._global = self._global.declare(instruction, arg)
        self._declared |= {name for name, _ in arg.items}

    def warnings(self) -> tuple[str, ...]:
        """Return what the user should know, though nothing is wrong."""
        bodies = (statement.body for stage in self.stages for statement in stage.statements)
        declared = self._declared | {name for body in bodies if isinstance(body, i.Arg) for name, _ in body.items}
        known = declared | PROXIES | {*platform_arguments(""), "SOURCE_DATE_EPOCH"}
        unused = sorted(name for name in self._wishes.build_args if name not in known)
        return (f"one or more build-args [{' '.join(unused)}] were not consumed",) if unused else ()

    def stage(self, index: int) -> PlannedStage:
        if index not in self.planned:
            self.planned[index] = self._plan(self.stages[index])
        return self.planned[index]

    def _plan(self, stage: Stage) -> PlannedStage:
        base = self._base(stage)
        scope, config = self._beginning(stage, base)
        triggers = tuple(i.parse_trigger(text, stage.start.source) for text in config.on_build)
        before = Before(config=begin(config), scope=scope.with_environment(begin(config).env))
        steps: list[PlannedStep] = []
        for statement in (*triggers, *stage.statements):
            effect = apply(statement, before)
            steps.append(self._step(stage, statement, effect))
            ours = before.command_is_ours or effect.sets_command
            before = Before(config=effect.config, scope=effect.scope, command_is_ours=ours)
        return PlannedStage(
            index=stage.index,
            name=stage.name,
            start=stage.start,
            base=base,
            steps=tuple(steps),
            scope=before.scope,
            config=before.config,
        )

    def _step(self, stage: Stage, statement: i.Statement, effect: Effect) -> PlannedStep:
        origins = {name: self._origin(stage, statement, name) for name in _origins(effect.action)}
        return PlannedStep(
            statement=statement,
            created_by=effect.created_by,
            config=effect.config,
            action=effect.action,
            author=effect.author,
            origins=origins,
        )

    def _base(self, stage: Stage) -> Base:
        start = stage.start.source
        assert isinstance(stage.start.body, i.From)
        image = self._global.word(start, stage.start.body.image)
        if not image:
            i.refuse(start, f"base name ({stage.start.body.image}) should not be blank", hint="give the ARG a value")
        platform = self._global.word(start, stage.start.body.platform)
        if platform and not f"{self._wishes.platform}/".startswith(f"{platform.removesuffix('/')}/"):
            i.refuse(start, f"this host builds for {self._wishes.platform} only, not for {platform}")
        earlier = self._earlier(stage, image)
        if earlier is not None:
            return Base(stage=earlier)
        return Base(image="" if image == SCRATCH else image)

    def _beginning(self, stage: Stage, base: Base) -> tuple[Scope, ExecutionConfig]:
        if base.stage is not None:
            below = self.stage(base.stage)
            return below.scope, below.config
        outer = {**self._global.arguments, "TARGETSTAGE": stage.name or str(stage.index)}
        config = self._looked_up(base.image, stage.start.source) if base.image else ExecutionConfig()
        return Scope(given=self._wishes.build_args, outer=outer), config

    def _looked_up(self, image: str, instruction: Instruction) -> ExecutionConfig:
        if image not in self._configurations:
            try:
                self._configurations[image] = self._configuration(image)
            except (ImageNotFound, RegistryError) as error:
                i.refuse(instruction, str(error), hint=error.hint)
        return self._configurations[image]

    def _origin(self, stage: Stage, statement: i.Statement, name: str) -> Base:
        if _is_index(name):
            if int(name) >= stage.index:
                i.refuse(statement.source, f"invalid stage index {name}: it is not before this one")
            self.stage(int(name))
            return Base(stage=int(name))
        earlier = self._earlier(stage, name)
        if earlier is None:
            if name.lower() == stage.name:
                i.refuse(statement.source, f"stage {name} cannot take files from itself")
            self._looked_up(name, statement.source)
            return Base(image=name)
        self.stage(earlier)
        return Base(stage=earlier)

    def _earlier(self, stage: Stage, name: str) -> int | None:
        return next(
            (each.index for each in self.stages[: stage.index] if each.name and each.name == name.lower()), None
        )


def _origins(action: Action | None) -> tuple[str, ...]:
    if isinstance(action, CopyFiles):
        return (action.origin,) if action.origin else ()
    if isinstance(action, Execute):
        return tuple(mount.origin for mount in action.mounts if mount.origin)
    return ()


def _is_index(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) < 10
