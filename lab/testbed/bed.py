"""The testbed from ``up`` to ``down``: one machine, resumed from the state in which it was once ready.

What a killed ``up`` leaves, a machine that is not ready, is removed by the next. All of it happens under one lock;
commands take a port each, and the lock only while they bring the machine's tree up to date.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lab.errors import SpecError, UnavailableError
from lab.paths import Paths
from lab.testbed import counted, parts, process, root_disk, saved, tree
from lab.testbed.channel import Channel, Take, free_port
from lab.testbed.inside_command import guest_command
from lab.testbed.root_disk import Progress
from lab.vm import cache

MEMORY_BYTES = 3 * 1024**3
VCPUS = 2
_STATE, _TREE = "state.json", "tree.json"


class Mode(StrEnum):
    """What the testbed is."""

    DOWN = "down"
    RUNNING = "running"  # one machine, which stays
    DETERMINISTIC = "deterministic"  # a machine for each command, from its power-on, with counted instructions


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What there is; ``pid`` is QEMU's, None where none runs."""

    mode: Mode
    pid: int | None = None
    vcpus: int = 0
    memory_bytes: int = 0
    console: str = ""


class Testbed:
    """The one testbed of an installation."""

    def __init__(self, paths: Paths, progress: Progress) -> None:
        self._paths = paths
        self._progress = progress
        self._directory = paths.testbed_run

    def up(self, mode: Mode, *, vcpus: int = VCPUS, memory_bytes: int = MEMORY_BYTES) -> None:
        """Make the testbed ready; where it is already, nothing is done.

        Raises:
            SpecError: it is up in another way.
            UnavailableError, ContainerError, KernelError, DomainError: it cannot be made; nothing is left running.
            TimeoutError: its machine does not answer.
        """
        _require_root()
        with self._locked():
            wanted = {"mode": mode, "vcpus": 1 if mode is Mode.DETERMINISTIC else vcpus, "memory_bytes": memory_bytes}
            if self.status().mode is not Mode.DOWN:
                if self._state() != wanted:
                    raise SpecError("the testbed is up in another way", hint="lab testbed down")
                self._progress("testbed: it is up")
                return
            self._clean()  # of a predecessor that was killed, or whose machine has ended
            made = parts.ensure(self._paths, self._progress)
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            if mode is Mode.RUNNING:
                self._start(made, vcpus=vcpus, memory_bytes=memory_bytes)
            self._write(_STATE, wanted)
            self._forget_what_is_old(made)
            self._progress("testbed: it is up")

    def _start(self, made: parts.Parts, *, vcpus: int, memory_bytes: int) -> None:
        try:
            before = saved.resume(
                self._paths, made, self._directory, vcpus=vcpus, memory_bytes=memory_bytes, progress=self._progress
            )
            self._write(_TREE, before)
            with free_port(self._directory) as channel:
                saved.set_clock(channel)
                self._send_tree(channel)
        except BaseException:
            self._clean()
            raise

    def run(
        self, argv: tuple[str, ...], env: Mapping[str, str], *, stdin: int | None, out: Take, err: Take
    ) -> tuple[int, int | None]:
        """Run a command in the tree; return its exit code and, where instructions are counted, its virtual time in ns.

        Raises:
            UnavailableError: the testbed is not up, or all of its ports are taken.
            DomainError: the command could not be started, or the machine has ended.
        """
        _require_root()
        mode = self.status().mode
        if mode is Mode.DOWN:
            raise UnavailableError("the testbed is down", hint="lab testbed up")
        command = guest_command(argv, env, tree.find())
        if mode is Mode.DETERMINISTIC:
            made = parts.ensure(self._paths, self._progress)
            memory_bytes = self._state()["memory_bytes"]
            return counted.run(self._directory, made, command, memory_bytes=memory_bytes, out=out, err=err)
        with free_port(self._directory) as channel:
            with self._locked():
                self._send_tree(channel)
            return channel.run(command, stdin=stdin, out=out, err=err), None

    def down(self, *, purge: bool = False) -> bool:
        """End the machine, and remove what was its own; return whether there was any.

        What it is made of is kept for the next, unless ``purge`` asks for the space.

        Raises:
            DomainError: QEMU does not end.
        """
        _require_root()
        with self._locked():
            there = self.status().mode is not Mode.DOWN
            self._clean()
            if purge:
                root_disk.purge(self._paths)
            return there

    def status(self) -> Status:
        """Return what there is now; a machine that is not ready, or has ended, is none."""
        state = self._state()
        if not state:
            return Status(mode=Mode.DOWN)
        mode, pid = Mode(str(state["mode"])), process.pid_of(self._directory)
        if mode is Mode.RUNNING and pid is None:
            return Status(mode=Mode.DOWN)
        return Status(
            mode=mode,
            pid=pid,
            vcpus=state["vcpus"],
            memory_bytes=state["memory_bytes"],
            console=os.path.join(self._directory, "console.log") if pid else "",
        )

    def _send_tree(self, channel: Channel) -> None:
        """Bring the machine's copy of the tree up to date: what has changed since it was last sent."""
        found = tree.find()
        now = tree.manifest(found)
        saved.send(channel, found, tree.delta(self._read(_TREE), now))
        self._write(_TREE, now)

    def _forget_what_is_old(self, made: parts.Parts) -> None:
        """Remove what another kernel, environment or size of machine was made of; states of this one are kept."""
        kept = (*made.files, saved.prefix(made))
        for name in os.listdir(self._paths.testbed_cache):
            if not name.startswith(kept):
                cache.remove(os.path.join(self._paths.testbed_cache, name))

    def _clean(self) -> None:
        process.end(self._directory)
        counted.end_all(self._directory)
        for name in os.listdir(self._directory):
            if name != "lock":
                cache.remove(os.path.join(self._directory, name))
        cache.remove(self._paths.testbed)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        with cache.locked(os.path.join(self._directory, "lock")):
            yield

    def _state(self) -> dict[str, Any]:
        return self._read(_STATE)

    def _read(self, name: str) -> dict[str, Any]:
        try:
            with open(os.path.join(self._directory, name), encoding="utf-8") as file:
                found: dict[str, Any] = json.load(file)
                return found
        except FileNotFoundError:
            return {}

    def _write(self, name: str, content: Mapping[str, object]) -> None:
        cache.write_file(os.path.join(self._directory, name), json.dumps(content).encode(), mode=0o600)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise UnavailableError("the testbed needs root", hint="sudo lab testbed")
