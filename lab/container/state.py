"""Containers on disk: one directory each, a state that is replaced whole, and a lock.

    containers/<id>/config.json   the OCI runtime configuration
    containers/<id>/state.json    the OCI state, and what is needed to find and remove all that belongs to it
    containers/<id>/upper, work, rootfs, volumes/<n>

A directory is made under another name and renamed when it is complete, so that a reader never sees half of one.
Nothing is synced: after a crash of the machine no container runs anyway, and ``repair`` removes what is left.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from lab.container import supervision
from lab.container.network.model import Attachment, Endpoint
from lab.container.spec import codec
from lab.container.spec.runtime import OCI_VERSION, Spec, Status
from lab.container.storage.trees import remove_tree
from lab.errors import ContainerError, NoSuchContainer, StateConflict
from lab.linux.pidfd import start_time_ticks

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_UNFINISHED = re.compile(r"\.new-(\d+)-(\d+)-.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """A process that is what it was: its pid, and when it was started in clock ticks since boot."""

    pid: int
    started_ticks: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the identity of a running process.

        Raises:
            ProcessLookupError: there is none.
        """
        return cls(pid=pid, started_ticks=start_time_ticks(pid))

    def is_alive(self) -> bool:
        """Return whether that very process is still there."""
        try:
            return start_time_ticks(self.pid) == self.started_ticks
        except ProcessLookupError:
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """The OCI state of a container, and what is ours.

    ``owner`` is the engine's process that will remove it; without it, and not ``detached``, the container is a
    leftover. ``bridged`` asks for an ``attachment`` on the root's own bridge, or on the networks of its ``endpoints``
    if it has any, which it has from its first start on. ``process`` is its first process since the last start.
    ``cgroup`` is relative to every hierarchy.
    """

    id: str
    bundle: str
    status: Status
    owner: ProcessIdentity
    cgroup: str
    layers: tuple[str, ...]
    process: ProcessIdentity | None = None
    attachment: Attachment | None = None
    exit_code: int | None = None
    detached: bool = False
    volatile: bool = False
    bridged: bool = False
    endpoints: tuple[Endpoint, ...] = ()
    anonymous_volumes: int = 0
    oci_version: str = OCI_VERSION

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """Its places on all its networks, the one of its first link first; none before its first start."""
        if self.endpoints:
            return tuple(each.attachment for each in self.endpoints if each.attachment is not None)
        return () if self.attachment is None else (self.attachment,)

    @property
    def known_endpoints(self) -> tuple[Endpoint, ...]:
        """Its endpoints; that on the root's own bridge need not have been asked for."""
        if self.endpoints or not self.bridged:
            return self.endpoints
        return (Endpoint(network="bridge", attachment=self.attachment),)

    @property
    def pid(self) -> int:
        """The first process's pid as the host sees it, 0 when there is none."""
        return self.process.pid if self.process is not None and self.status == Status.RUNNING else 0

    @property
    def upper(self) -> str:
        """The container's own layer."""
        return os.path.join(self.bundle, "upper")

    @property
    def work(self) -> str:
        """The overlay's work directory."""
        return os.path.join(self.bundle, "work")

    @property
    def rootfs(self) -> str:
        """Where the overlay is mounted, inside the container's mount namespace only."""
        return os.path.join(self.bundle, "rootfs")

    @property
    def volume_directories(self) -> tuple[str, ...]:
        """The directories of its anonymous volumes."""
        return tuple(os.path.join(self.bundle, "volumes", str(n)) for n in range(self.anonymous_volumes))


class ContainerDirectory:
    """All containers below one directory."""

    def __init__(self, path: str) -> None:
        """Nothing is made before the first container."""
        self._path = path
        self._seen: dict[str, tuple[tuple[int, int], ContainerState]] = {}

    def bundle(self, container_id: str) -> str:
        """Return the directory of a container, whether it exists or not."""
        return os.path.join(self._path, container_id)

    def add(self, state: ContainerState, spec: Spec, files: Mapping[str, str]) -> None:
        """Lay a new container out, all at once; ``files`` (name, text) are put beside its own.

        Raises:
            ContainerError: the id is none.
            StateConflict: there is a container with this id.
            OSError: with errno and path.
        """
        if not _NAME.fullmatch(state.id):
            raise ContainerError(f"{state.id!r} cannot be a container's id", hint="use letters, digits, '_', '.', '-'")
        os.makedirs(self._path, exist_ok=True)
        temporary = self._unfinished(state.owner, state.id)
        os.mkdir(temporary, 0o711)
        try:
            for name in ("upper", "work", "rootfs"):
                os.mkdir(os.path.join(temporary, name), 0o755)
            for path in state.volume_directories:
                os.makedirs(os.path.join(temporary, os.path.relpath(path, state.bundle)), 0o755)
            _write_json(os.path.join(temporary, "config.json"), codec.encode(spec))
            _write_json(os.path.join(temporary, "state.json"), codec.encode(state))
            for name, text in files.items():
                _write(os.path.join(temporary, name), text)
            version = _version(os.path.join(temporary, "state.json"))
            os.rename(temporary, state.bundle)
            self._seen[state.id] = (version, state)
        except OSError as error:
            remove_tree(temporary)
            if error.errno in (17, 39):  # EEXIST, ENOTEMPTY: rename found another container
                raise StateConflict(f"there is a container '{state.id}' already", hint="choose another id") from None
            raise

    def _unfinished(self, owner: ProcessIdentity, container_id: str) -> str:
        return os.path.join(self._path, f".new-{owner.pid}-{owner.started_ticks}-{container_id}")

    def load(self, container_id: str) -> ContainerState:
        """Return a container's state; one whose first process has ended is STOPPED, whatever was written last.

        Raises:
            NoSuchContainer: there is none with this id.
        """
        state = _supervised(self._read(container_id))
        if state.status == Status.RUNNING and (state.process is None or not state.process.is_alive()):
            return replace(state, status=Status.STOPPED)
        return state

    def _read(self, container_id: str) -> ContainerState:
        """Return the state as it is on disk; a file that is still the one read last is not read again."""
        path = os.path.join(self.bundle(container_id), "state.json")
        try:
            version = _version(path)
            known = self._seen.get(container_id)
            if known is None or known[0] != version:
                known = self._seen[container_id] = (version, codec.decode(ContainerState, _read_json(path)))
        except (FileNotFoundError, NotADirectoryError):
            self._seen.pop(container_id, None)
            raise NoSuchContainer(f"no such container: {container_id}") from None
        return known[1]

    def load_spec(self, container_id: str) -> Spec:
        """Return a container's configuration.

        Raises:
            NoSuchContainer: there is none with this id.
        """
        try:
            return codec.decode(Spec, _read_json(os.path.join(self.bundle(container_id), "config.json")))
        except FileNotFoundError:
            raise NoSuchContainer(f"no such container: {container_id}") from None

    def save_spec(self, container_id: str, spec: Spec) -> None:
        """Replace a container's configuration.

        Raises:
            OSError: with errno and path.
        """
        path = os.path.join(self.bundle(container_id), "config.json")
        _write_json(path + ".new", codec.encode(spec))
        os.replace(path + ".new", path)

    def save(self, state: ContainerState) -> None:
        """Replace a container's state.

        Raises:
            OSError: with errno and path.
        """
        path = os.path.join(state.bundle, "state.json")
        _write_json(path + ".new", codec.encode(state))
        version = _version(path + ".new")
        os.replace(path + ".new", path)
        self._seen[state.id] = (version, state)

    def remove(self, container_id: str) -> None:
        """Remove a container's directory; one that is gone is no error.

        It is gone at one stroke: who is killed amid this leaves what ``remove_unfinished`` removes.

        Raises:
            OSError: with errno and path; what is left of it is no container any more.
        """
        temporary = self._unfinished(ProcessIdentity.of(os.getpid()), container_id)
        self._seen.pop(container_id, None)
        try:
            os.rename(self.bundle(container_id), temporary)
        except FileNotFoundError:
            return
        remove_tree(temporary)

    def ids(self) -> tuple[str, ...]:
        """Return the ids of all containers, sorted."""
        return tuple(sorted(name for name in self._names() if not name.startswith(".")))

    def unfinished(self) -> tuple[str, ...]:
        """Return the names of directories whose maker died before they were complete, or gone."""
        return tuple(name for name in self._names() if (found := _UNFINISHED.fullmatch(name)) and _maker_gone(found))

    def remove_unfinished(self) -> tuple[str, ...]:
        """Remove directories whose maker died before they were complete, or gone; return their names.

        Any number of processes may do so at once; what cannot be removed stays for the next one.
        """
        stale = self.unfinished()
        for name in stale:
            with suppress(OSError):
                remove_tree(os.path.join(self._path, name))
        return stale

    @contextmanager
    def locked(self, container_id: str) -> Iterator[None]:
        """Hold a container's lock: one process at a time starts, stops or removes it; death releases it.

        Raises:
            NoSuchContainer: there is none with this id.
        """
        try:
            descriptor = os.open(self.bundle(container_id), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NoSuchContainer(f"no such container: {container_id}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._path)
        except FileNotFoundError:
            return []


def _supervised(state: ContainerState) -> ContainerState:
    """Return a state with what the shared spawner has noted, which knows better than whoever asked it."""
    left = supervision.read_pid_file(state.bundle)
    if left is None:
        return state
    process = ProcessIdentity(pid=left.pid, started_ticks=left.started_ticks)
    ended = supervision.read_exit_file(state.bundle)
    if ended is None:
        return replace(state, status=Status.RUNNING, process=process, exit_code=None)
    return replace(state, status=Status.STOPPED, process=process, exit_code=ended.code)


def _maker_gone(found: re.Match[str]) -> bool:
    return not ProcessIdentity(pid=int(found[1]), started_ticks=int(found[2])).is_alive()


def _version(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_ino, status.st_mtime_ns  # each state is a new file: it is replaced, never rewritten


def _write_json(path: str, document: object) -> None:
    _write(path, json.dumps(document))


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def _read_json(path: str) -> object:
    with open(path, encoding="utf-8") as file:
        document: object = json.load(file)
    return document
