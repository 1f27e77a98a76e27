"""Whose a target is whose processes are not ours: a lock that ends with its owner, and how another finds what is left.

A foreign engine keeps containers, mounts and directories when the program that asked for them is killed. Whoever
provisions next on the same root is told of such targets, and removes them.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from lab.container.storage import durable
from lab.paths import Paths
from lab.target.spec import Command, MarkName, NetworkMode, TargetSpec

_LOCK = ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One target's entry, held by its owner."""

    path: str
    _held: ExitStack

    def release(self) -> None:
        """Say that nothing of the target is left; safe to call twice."""
        _forget(self.path)
        self._held.close()


def claims(paths: Paths, arm: str) -> str:
    """Return the directory of an arm's entries: it outlives a reboot, as containers' directories do."""
    return os.path.join(paths.root, "targets", arm)


def claim(directory: str, spec: TargetSpec) -> Claim:
    """Enter a target that is about to be laid out.

    Raises:
        OSError: with errno and path.
    """
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, spec.name)
    with ExitStack() as stack:
        stack.enter_context(durable.locked(f"{path}{_LOCK}"))
        # not synced: it is part of what is measured, and after a power loss no cgroup is left to be found
        with open(path, "w", encoding="utf-8") as file:
            file.write(spec.cgroup_parent)
        return Claim(path=path, _held=stack.pop_all())


def abandoned(directory: str) -> Generator[TargetSpec]:
    """Give the targets in ``directory`` whose owner is dead, each under its lock, as far as their specs are known.

    One that has been taken is forgotten when the next is asked for: by then nothing of it may be left.
    """
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
        path = os.path.join(directory, name.removesuffix(_LOCK))
        if not name.endswith(_LOCK):
            continue
        with durable.locked_if_free(f"{path}{_LOCK}") as held:
            if not held:
                continue
            with suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
                yield TargetSpec(
                    name=os.path.basename(path),
                    image="",
                    command=Command(argv=()),
                    cgroup_parent=file.read(),
                    network=NetworkMode.BRIDGE,
                )
            _forget(path)


def unmarked(_name: MarkName, _at_ns: int | None) -> None:
    """Take no mark: nobody measures what is only removed."""


def _forget(path: str) -> None:
    for name in (path, f"{path}{_LOCK}"):
        with suppress(FileNotFoundError):
            os.unlink(name)
