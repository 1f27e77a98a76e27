"""What is kept of a machine: what it is, which never changes, and how it is.

machines/<id>/machine.json    the record
machines/<id>/state.json      the state, replaced whole by who holds the lock
machines/<id>/lock            held by the machine's keeper while it lives
machines/<id>/root.qcow2      the machine's own disk, above the template of its image
machines/<id>/container.log   what its main command has written, as a container's
machines/<id>/console.log     what its kernel has written
machines/<id>/memory          its memory, while it is saved
machines/<id>/snapshots/<name>/…
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from enum import StrEnum

from lab.container.options.run import RunOptions
from lab.container.spec import codec
from lab.container.storage.durable import write_whole
from lab.container.volumes.model import MountPoint

RECORD, STATE, LOCK = "machine.json", "state.json", "lock"
ROOT_DISK, MEMORY, CONSOLE, SNAPSHOTS = "root.qcow2", "memory", "console.log", "snapshots"


class MachineStatus(StrEnum):
    """docker's words for what containers have as well, and libvirt's "saved"."""

    CREATED = "created"
    RUNNING = "running"
    SAVED = "saved"  # not running, its memory is on disk
    EXITED = "exited"


class MachineNetwork(StrEnum):
    """What --network of a machine can be."""

    USER = "user"  # QEMU opens the host's sockets for it; published ports lead to it
    TAP = "tap"  # a link to the host, for this machine alone
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpec:
    """What a machine is beyond what a container is: hardware, and where it runs.

    ``accelerator`` is "tcg", "kvm" or "" for what works here; ``board`` a machine type of QEMU or "auto". ``connect``
    is a URI of libvirt, "" for the driver in the keeper's own process.
    """

    accelerator: str = ""
    board: str = "auto"
    connect: str = ""
    vcpus: int = 1
    memory_bytes: int = 256 << 20
    network: MachineNetwork = MachineNetwork.USER
    boot_timeout_ns: int = 120 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineProcess:
    """The main command, complete, as it runs in the guest; ``env`` has "NAME=VALUE"."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A TCP port of the host's loopback that leads to one of the guest."""

    host: int
    guest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRecord:
    """One machine. ``options`` is what was asked for, in the words of containers; ``digest`` the image's manifest."""

    id: str
    created_ns: int
    options: RunOptions
    digest: str
    image_id: str
    spec: MachineSpec
    process: MachineProcess
    forwards: tuple[Forward, ...] = ()
    volumes: tuple[MountPoint, ...] = ()
    stop_timeout_s: int = 10

    @property
    def domain(self) -> str:
        """What libvirt calls it: also its directory of sockets, whose names may not be long."""
        return self.id[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineState:
    """How a machine is; times of day, 0 for never. ``reason`` says why it ended where its command did not just end."""

    status: MachineStatus = MachineStatus.CREATED
    started_ns: int = 0
    ended_ns: int = 0
    exit_code: int | None = None
    reason: str = ""
    vmm_pid: int = 0


def save_state(directory: str, state: MachineState) -> None:
    """Replace a machine's state.

    Raises:
        OSError: it could not be written.
    """
    write_whole(os.path.join(directory, STATE), json.dumps(codec.encode(state)).encode())


def load_state(directory: str) -> MachineState:
    """Return a machine's state.

    Raises:
        FileNotFoundError: it is gone.
    """
    with open(os.path.join(directory, STATE), encoding="utf-8") as file:
        return codec.decode(MachineState, json.load(file))


def save_record(directory: str, record: MachineRecord) -> None:
    """Write down what a machine is.

    Raises:
        OSError: it could not be written.
    """
    write_whole(os.path.join(directory, RECORD), json.dumps(codec.encode(record)).encode())


def load_record(directory: str) -> MachineRecord:
    """Return what a machine is.

    Raises:
        FileNotFoundError: it is gone.
    """
    with open(os.path.join(directory, RECORD), encoding="utf-8") as file:
        return codec.decode(MachineRecord, json.load(file))
