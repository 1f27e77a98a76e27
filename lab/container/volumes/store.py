"""Volumes on disk: one directory each, made and removed at one stroke.

    volumes/.lock                 shared by who makes a container, alone for who removes a volume
    volumes/<name>/volume.json    what it was made with
    volumes/<name>/_data          what containers see
    volumes/<name>/volume.ext4    where that is kept, of a volume with a size (``sized.py``, ``mounting.py``)

Who uses a volume is said by the containers themselves (``points.py``), so that nothing has to be counted twice.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from lab.container import event_actors
from lab.container.names import new_id
from lab.container.spec import codec
from lab.container.state import ProcessIdentity
from lab.container.storage import disk
from lab.container.storage.durable import locked, locked_if_free, shared, sync_directory, write_atomically
from lab.container.storage.trees import remove_tree
from lab.container.volumes import driver, points, sized
from lab.container.volumes.model import ANONYMOUS_LABEL, DRIVER, Volume, check_name
from lab.errors import NoSuchVolume, StateConflict
from lab.linux import mount
from lab.paths import Paths

DATA = "_data"
IMAGE = "volume.ext4"
MOUNT_LOCK = "mount.lock"
_RECORD = "volume.json"
_UNFINISHED = ".new-"
_EBUSY, _EINVAL = 16, 22


def _nothing(_: str) -> None:
    return


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
        return volume.options["device"] if driver.is_bind(volume.options) else self.data(volume.name)

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

    def some(self, names: Iterable[str]) -> tuple[Volume, ...]:
        """Return those of these volumes that there are, each once, by name."""
        found = []
        for name in sorted({name for name in names if name}):
            with suppress(NoSuchVolume):
                found.append(self.get(name))
        return tuple(found)

    def size_bytes(self, name: str) -> int:
        """Return the bytes of a volume's files, or of the disk that one with a size takes, which may not be mounted."""
        image = os.path.join(self.path(name), IMAGE)
        if os.path.exists(image):
            return os.stat(image).st_blocks * disk.BLOCK_BYTES
        return disk.content_bytes(self.data(name))

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
            UnavailableError: this host cannot make such a volume.
        """
        if name:
            check_name(name)
        driver.check(options or {})
        given = dict(labels or {}) if name else {ANONYMOUS_LABEL: "", **(labels or {})}
        volume = Volume(name=name or new_id(), created_ns=time.time_ns(), labels=given, options=dict(options or {}))
        with suppress(NoSuchVolume):
            return self.get(volume.name)
        if not self._make(volume):
            return self.get(volume.name)
        self._note("create", volume.name)
        return volume

    def add(
        self, name: str, fill: Callable[[str], None], *, labels: Mapping[str, str], options: Mapping[str, str]
    ) -> Volume:
        """Make a volume that is there only when ``fill`` has filled it, given its directory under another name.

        Raises:
            SpecError: the name or an option is wrong.
            StateConflict: there is one of this name.
            UnavailableError: this host cannot make such a volume.
        """
        check_name(name)
        driver.check(options)
        volume = Volume(name=name, created_ns=time.time_ns(), labels=dict(labels), options=dict(options))
        if os.path.lexists(self.path(name)) or not self._make(volume, fill):
            raise StateConflict(f"there is a volume '{name}' already", hint="choose another name")
        self._note("create", name)
        return volume

    def _make(self, volume: Volume, fill: Callable[[str], None] = _nothing) -> bool:
        """Lay a volume out at one stroke; return whether it was not there."""
        os.makedirs(self._directory, mode=0o711, exist_ok=True)
        self.remove_unfinished()
        temporary = self._unfinished(volume.name)
        os.mkdir(temporary, 0o701)
        try:
            os.mkdir(os.path.join(temporary, DATA), 0o755)
            if size_bytes := driver.size_bytes(volume.options):
                sized.make(os.path.join(temporary, IMAGE), size_bytes)
            write_atomically(os.path.join(temporary, _RECORD), json.dumps(codec.encode(volume)).encode())
            fill(temporary)
            if self._is_taken(temporary, volume.name):
                remove_tree(temporary)
                return False
        except BaseException:
            remove_tree(temporary)
            raise
        sync_directory(self._directory)
        return True

    def _is_taken(self, temporary: str, name: str) -> bool:
        try:
            os.rename(temporary, self.path(name))
        except OSError as error:
            if error.errno in (17, 39):  # EEXIST, ENOTEMPTY: somebody was faster
                return True
            raise
        return False

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
            self._unmount(name, "remove")
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
            self._unmount(name, "rename")
            os.rename(self.path(name), self.path(new))
        labels = {key: value for key, value in volume.labels.items() if key != ANONYMOUS_LABEL}
        renamed = Volume(name=new, created_ns=volume.created_ns, labels=labels, options=volume.options)
        write_atomically(os.path.join(self.path(new), _RECORD), json.dumps(codec.encode(renamed)).encode())

    def _unmount(self, name: str, verb: str) -> None:
        """See that nothing is mounted for a volume: what is in there is not to be removed with it."""
        if not os.path.ismount(self.data(name)):
            return
        with locked_if_free(os.path.join(self.path(name), MOUNT_LOCK)) as is_free:
            if not is_free or not unmounted(self.data(name)):
                raise StateConflict(f"{verb} {name}: the volume is being used on the host", hint="lab system check")

    def unfinished(self) -> tuple[str, ...]:
        """Return the names of what killed commands have left."""
        return tuple(name for name in self._hidden() if _maker_is_gone(name))

    def remove_unfinished(self) -> tuple[str, ...]:
        """Remove what killed commands have left, and return the names of it."""
        stale = self.unfinished()
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


def unmounted(data: str) -> bool:
    """Unmount what is mounted at a directory, if anything; return False if somebody on the host is in there.

    Raises:
        OSError: with errno and path.
    """
    try:
        mount.umount2(data, mount.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno == _EBUSY:
            return False
        if error.errno != _EINVAL:  # it is not mounted any more
            raise
    return True
