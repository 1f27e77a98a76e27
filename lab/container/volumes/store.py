"""Volumes on disk: one directory each, made and removed at one stroke.

    volumes/.lock                 shared by who makes a container, alone for who removes a volume
    volumes/<name>/volume.json    what it was made with
    volumes/<name>/_data          what containers see

Who uses a volume is said by the containers themselves (``points.py``), so that nothing has to be counted twice.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

from lab.container import event_actors
from lab.container.names import new_id
from lab.container.spec import codec
from lab.container.state import ProcessIdentity
from lab.container.storage.durable import locked, shared, sync_directory, write_atomically
from lab.container.storage.trees import remove_tree
from lab.container.volumes import points
from lab.container.volumes.model import ANONYMOUS_LABEL, DRIVER, Volume, check_name
from lab.errors import NoSuchVolume, SpecError, StateConflict, UnavailableError
from lab.paths import Paths

DATA = "_data"
_RECORD = "volume.json"
_UNFINISHED = ".new-"
_OPTIONS = ("type", "o", "device")


class VolumeStore:
    """The volumes of one root."""

    def __init__(self, paths: Paths) -> None:
        """Nothing is made before the first volume."""
        self._paths = paths
        self._directory = paths.volumes

    def data(self, name: str) -> str:
        """Return the directory that containers see, whether there is such a volume or not."""
        return os.path.join(self._directory, name, DATA)

    def source(self, volume: Volume) -> str:
        """Return the directory that is mounted: the volume's own, or the one of the host that it is made of."""
        return volume.options["device"] if _is_bind(volume.options) else self.data(volume.name)

    def path(self, name: str) -> str:
        """Return the directory of a volume with all that belongs to it."""
        return os.path.join(self._directory, name)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Let no volume be removed during the block: who makes a container says only at its end what it uses."""
        os.makedirs(self._directory, mode=0o711, exist_ok=True)
        with shared(self._lock):
            yield

    @property
    def _lock(self) -> str:
        return os.path.join(self._directory, ".lock")

    def get(self, name: str) -> Volume:
        """Return a volume.

        Raises:
            NoSuchVolume: there is none.
        """
        try:
            with open(os.path.join(self._directory, name, _RECORD), encoding="utf-8") as file:
                return codec.decode(Volume, json.load(file))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            raise NoSuchVolume(f"get {name}: no such volume", hint="lab volume ls") from None

    def all(self) -> tuple[Volume, ...]:
        """Return all volumes, by name; what vanishes meanwhile is left out."""
        found = []
        for name in sorted(self._names()):
            with suppress(NoSuchVolume):
                found.append(self.get(name))
        return tuple(found)

    def _names(self) -> list[str]:
        try:
            return [name for name in os.listdir(self._directory) if not name.startswith(".")]
        except FileNotFoundError:
            return []

    def create(
        self, name: str = "", *, labels: Mapping[str, str] | None = None, options: Mapping[str, str] | None = None
    ) -> Volume:
        """Make a volume, or return the one of this name; without a name it is an anonymous one.

        Raises:
            SpecError: the name or an option is wrong.
            UnavailableError: the lab cannot make such a volume.
        """
        if name:
            check_name(name)
        _check_options(options or {})
        given = dict(labels or {}) if name else {ANONYMOUS_LABEL: "", **(labels or {})}
        volume = Volume(name=name or new_id(), created_ns=time.time_ns(), labels=given, options=dict(options or {}))
        with suppress(NoSuchVolume):
            return self.get(volume.name)
        if not self._make(volume):
            return self.get(volume.name)
        self._note("create", volume.name)
        return volume

    def _make(self, volume: Volume) -> bool:
        """Lay a volume out at one stroke; return whether it was not there."""
        os.makedirs(self._directory, mode=0o711, exist_ok=True)
        temporary = self._unfinished(volume.name)
        os.mkdir(temporary, 0o701)
        try:
            os.mkdir(os.path.join(temporary, DATA), 0o755)
            write_atomically(os.path.join(temporary, _RECORD), json.dumps(codec.encode(volume)).encode())
            os.rename(temporary, self.path(volume.name))
        except OSError as error:
            remove_tree(temporary)
            if error.errno in (17, 39):  # EEXIST, ENOTEMPTY: somebody was faster
                return False
            raise
        sync_directory(self._directory)
        return True

    def _unfinished(self, name: str) -> str:
        identity = ProcessIdentity.of(os.getpid())
        return os.path.join(self._directory, f"{_UNFINISHED}{identity.pid}-{identity.started_ticks}-{name}")

    def remove(self, name: str) -> None:
        """Remove a volume with all that is in it.

        Raises:
            NoSuchVolume: there is none.
            StateConflict: a container has it.
        """
        self.get(name)
        with locked(self._lock):
            users = points.users(self._paths.containers).get(name, ())
            if users:
                raise StateConflict(
                    f"remove {name}: volume is in use - [{', '.join(users)}]", hint=f"lab ps -a --filter volume={name}"
                )
            temporary = self._unfinished(name)
            try:
                os.rename(self.path(name), temporary)
            except FileNotFoundError:
                raise NoSuchVolume(f"get {name}: no such volume") from None
        remove_tree(temporary)
        self._note("destroy", name)

    def rename(self, name: str, new: str) -> None:
        """Give a volume that no container has another name.

        Raises:
            NoSuchVolume: there is none.
            SpecError: it cannot be a name.
            StateConflict: a container has it, or there is one with the new name.
        """
        check_name(new)
        volume = self.get(name)
        with locked(self._lock):
            users = points.users(self._paths.containers).get(name, ())
            if users:
                raise StateConflict(f"rename {name}: volume is in use - [{', '.join(users)}]")
            if os.path.lexists(self.path(new)):
                raise StateConflict(f"rename {name}: there is a volume '{new}' already", hint="choose another name")
            os.rename(self.path(name), self.path(new))
        labels = {key: value for key, value in volume.labels.items() if key != ANONYMOUS_LABEL}
        renamed = Volume(name=new, created_ns=volume.created_ns, labels=labels, options=volume.options)
        write_atomically(os.path.join(self.path(new), _RECORD), json.dumps(codec.encode(renamed)).encode())

    def remove_unfinished(self) -> tuple[str, ...]:
        """Remove what killed commands have left, and return the names of it."""
        stale = tuple(name for name in self._hidden() if _maker_is_gone(name))
        for name in stale:
            with suppress(OSError):
                remove_tree(os.path.join(self._directory, name))
        return stale

    def _hidden(self) -> Collection[str]:
        try:
            return [name for name in os.listdir(self._directory) if name.startswith(_UNFINISHED)]
        except FileNotFoundError:
            return []

    def _note(self, action: str, name: str) -> None:
        event_actors.note_volume(self._paths.run, action, name, {"driver": DRIVER})


def _maker_is_gone(name: str) -> bool:
    pid, ticks = name.removeprefix(_UNFINISHED).split("-")[:2]
    return not ProcessIdentity(pid=int(pid), started_ticks=int(ticks)).is_alive()


def _check_options(options: Mapping[str, str]) -> None:
    """See that a volume can be made with these options of docker's local driver: of them, a bind of a directory."""
    for name in options:
        if name not in _OPTIONS:
            raise SpecError(f'invalid option: "{name}"', hint=f"one of: {', '.join(_OPTIONS)}")
    for name in ("device", "type") if options else ():
        if name not in options:
            raise SpecError(f'missing required option: "{name}"', hint="--opt type=none --opt o=bind --opt device=DIR")
    if options and not _is_bind(options):
        raise UnavailableError(
            f"a volume of type '{options['type']}' would have to be mounted on the host",
            hint="mount it there, and give its directory: --opt type=none --opt o=bind --opt device=DIR",
        )


def _is_bind(options: Mapping[str, str]) -> bool:
    return bool({"bind", "rbind"} & set(options.get("o", "").split(",")))
