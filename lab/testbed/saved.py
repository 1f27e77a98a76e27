"""The state of the machine when it was once ready: made by a first boot, and what every other ``up`` resumes.

It is QEMU's migration stream in a file, beside the disk as it was then. The root disk is shared memory, which stays
where it is and is not in the stream; the disk of a resumed machine is a thin one above the saved one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import tempfile
import time

from lab.errors import DomainError
from lab.linux import command
from lab.paths import Paths
from lab.testbed import process, tree
from lab.testbed.channel import Channel, connected
from lab.testbed.inside_command import guest_command
from lab.testbed.machine import Machine
from lab.testbed.parts import Parts
from lab.testbed.root_disk import Progress
from lab.units import NS_PER_S
from lab.vm import cache
from lab.vm.connection import qemu_version
from lab.vm.qmp import Monitor

_DISK_BYTES = 16 * 1024**3
_BOOT_NS = 180 * NS_PER_S
_MOVE_NS = 180 * NS_PER_S
_DISK, _STREAM, _TREE = "disk.qcow2", "stream", "tree.json"
_SHARED_STAYS = {"capability": "x-ignore-shared", "state": True}
# What is dear the first time, and kept by the state that is saved: what libvirt finds out about QEMU, programs that the
# lab compiles, whether a stock Linux boots under this KVM, and all that is read on the way.
_WARM_UP = (
    ("resize2fs", "/dev/vda"),
    ("lab", "doctor", "container", "crun", "kvm-device", "kvm-boot", "kvm-linux"),
)


def resume(
    paths: Paths, made: Parts, directory: str, *, vcpus: int, memory_bytes: int, progress: Progress
) -> tree.Manifest:
    """Start the machine in ``directory`` from its saved state, made first if there is none; return the tree it has.

    Raises:
        UnavailableError: there is no QEMU.
        DomainError: it does not start, or what it must be able to do does not work in it.
        TimeoutError: it does not answer.
    """
    home = _ensure(paths, made, directory, vcpus=vcpus, memory_bytes=memory_bytes, progress=progress)
    os.makedirs(paths.testbed, exist_ok=True)
    disk = os.path.join(paths.testbed, _DISK)
    _create_disk(os.path.join(home, _DISK), "qcow2", disk)
    progress("testbed: resuming the machine")
    machine = made.machine(directory, disk, vcpus=vcpus, memory_bytes=memory_bytes)
    process.start(machine, arriving=True)
    with Monitor(machine.monitor) as monitor:
        monitor.execute("migrate-set-capabilities", capabilities=[_SHARED_STAYS])
        monitor.execute("migrate-incoming", uri=f"exec:cat {shlex.quote(os.path.join(home, _STREAM))}")
        monitor.wait_for_migration(deadline_ns=time.monotonic_ns() + _MOVE_NS)
        monitor.execute("cont")
    with open(os.path.join(home, _TREE), encoding="utf-8") as file:
        manifest: tree.Manifest = json.load(file)
    return manifest


def prefix(made: Parts) -> str:
    """Return how the names of saved states begin that are made of these parts."""
    return f"saved-{made.key}"


def send(channel: Channel, directory: str, delta: tree.Delta) -> None:
    """Change the machine's copy of the tree in ``directory``.

    Raises:
        DomainError: the machine refuses, or has ended.
    """
    if delta.remove:
        _require(channel, ("rm", "-f", "--", *delta.remove), directory)
    if delta.send:
        with tempfile.TemporaryFile() as archive:
            archive.write(tree.pack(directory, delta.send))
            archive.seek(0)
            _require(channel, ("tar", "--unlink-first", "-xf", "-"), directory, stdin=archive.fileno())


def set_clock(channel: Channel) -> None:
    """Give a resumed machine the time of day.

    Raises:
        DomainError: the machine refuses, or has ended.
    """
    _require(channel, ("date", "--set", f"@{time.time():.3f}"), "/")


def _ensure(paths: Paths, made: Parts, directory: str, *, vcpus: int, memory_bytes: int, progress: Progress) -> str:
    size = (str(vcpus), str(memory_bytes), qemu_version(), tree.find(), repr(_WARM_UP))
    name = f"{prefix(made)}-{hashlib.sha256(chr(0).join(size).encode()).hexdigest()[:16]}"

    def build(temporary: str) -> None:
        os.mkdir(temporary, 0o700)
        disk = os.path.join(temporary, _DISK)
        _create_disk(made.data, "raw", disk, size_bytes=_DISK_BYTES)
        machine = made.machine(directory, disk, vcpus=vcpus, memory_bytes=memory_bytes)
        try:
            _boot(machine, temporary, progress)
        finally:
            process.end(directory)

    return cache.make_once(os.path.join(paths.testbed_cache, name), build)


def _boot(machine: Machine, home: str, progress: Progress) -> None:
    progress("testbed: booting the machine for the first time")
    process.start(machine)
    with connected(machine.port(0)) as channel:
        try:
            channel.greet(deadline_ns=time.monotonic_ns() + _BOOT_NS)
        except (DomainError, TimeoutError) as error:
            raise DomainError(f"the testbed's machine does not boot: {error}{process.last_lines(machine)}") from error
        directory = tree.find()
        progress("testbed: sending the working tree")
        manifest = tree.manifest(directory)
        send(channel, directory, tree.delta({}, manifest))
        progress("testbed: trying out its KVM, libvirt and engine, once (some minutes)")
        for argv in _WARM_UP:
            _require(channel, argv, directory, progress=progress)
    cache.write_file(os.path.join(home, _TREE), json.dumps(manifest).encode())
    progress("testbed: saving its state")
    with Monitor(machine.monitor) as monitor:
        monitor.execute("stop")
        monitor.execute("migrate-set-capabilities", capabilities=[_SHARED_STAYS])
        monitor.execute("migrate-set-parameters", max_bandwidth=1 << 40)
        monitor.execute("migrate", uri=f"exec:cat >{shlex.quote(os.path.join(home, _STREAM))}")
        monitor.wait_for_migration(deadline_ns=time.monotonic_ns() + _MOVE_NS)
        with contextlib.suppress(DomainError):  # it may end before it answers
            monitor.execute("quit")
    process.wait_for_end(machine.directory, deadline_ns=time.monotonic_ns() + _BOOT_NS)


def _require(
    channel: Channel,
    argv: tuple[str, ...],
    directory: str,
    *,
    stdin: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Run what must succeed; with ``progress`` its lines are told as they come."""
    said = bytearray()

    def take(data: bytes) -> None:
        said.extend(data)
        if progress is not None:
            for line in data.decode(errors="replace").splitlines():
                progress(f"  {line}")

    exit_code = channel.run(guest_command(argv, {}, directory), stdin=stdin, out=take, err=take)
    if exit_code:
        text = said.decode(errors="replace").strip()
        raise DomainError(f"{argv[0]} failed in the testbed with exit code {exit_code}: {text}")


def _create_disk(below: str, below_format: str, path: str, *, size_bytes: int | None = None) -> None:
    size = () if size_bytes is None else (str(size_bytes),)
    done = command.run(("qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", below_format, path, *size))
    if done.exit_code:
        raise DomainError(f"cannot make the testbed's disk {path}: {done.error_text}")
