"""The stages of a Dockerfile, the one that is the target, and the key of a step in the layer cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.container.image.dockerfile import Dockerfile, Instruction, Keyword, stage_name
from lab.errors import SpecError

CACHE_VERSION = 1  # part of every key: raise it when a step comes to mean something else


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage: its place in the file, its name, its FROM and the rest."""

    index: int
    name: str
    start: Instruction
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInputs:
    """All that decides a step's result; ``content`` holds digests of copied files, filled in by the executor."""

    parent: str
    instruction: str
    environment: Mapping[str, str] = field(default_factory=dict)
    content: tuple[str, ...] = ()


def cache_key(inputs: StepInputs) -> str:
    """Return the key of a step as 64 hexadecimal digits; equal inputs give equal keys on every host."""
    environment = sorted(inputs.environment.items())
    document = [CACHE_VERSION, inputs.parent, inputs.instruction, environment, inputs.content]
    return hashlib.sha256(json.dumps(document, separators=(",", ":")).encode()).hexdigest()


def stages(dockerfile: Dockerfile) -> tuple[Stage, ...]:
    """Return the stages in the order of the file; ARG before the first FROM belongs to none."""
    starts = [at for at, each in enumerate(dockerfile.instructions) if each.keyword is Keyword.FROM]
    ends = [*starts[1:], len(dockerfile.instructions)]
    return tuple(
        Stage(
            index=index,
            name=stage_name(dockerfile.instructions[start]),
            start=dockerfile.instructions[start],
            instructions=dockerfile.instructions[start + 1 : end],
        )
        for index, (start, end) in enumerate(zip(starts, ends, strict=True))
    )


def find_stage(found: tuple[Stage, ...], target: str) -> Stage:
    """Return the stage that ``--target`` names, by name or number; the last one for "".

    Raises:
        SpecError: there is none.
    """
    for stage in reversed(found):
        if not target or stage.name == target.lower():
            return stage
    if target.isascii() and target.isdigit() and len(target) < 10 and int(target) < len(found):
        return found[int(target)]
    known = ", ".join(stage.name for stage in found if stage.name)
    raise SpecError(f"target stage {target!r} could not be found", hint=f"stages: {known}" if known else "")
