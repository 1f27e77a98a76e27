"""The same guest by QEMU's command line, without libvirt: what libvirt is measured against, and what clones need.

The command line is the shortest that makes the guest of a ``DomainSpec``: no manager, no monitor unless one is asked
for, the processors run at once. It is written by hand on purpose: were it taken from what libvirt writes, the
comparison would say nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from lab.errors import DomainError
from lab.linux import command, links, pidfd
from lab.linux import rtnetlink as rt
from lab.units import NS_PER_S
from lab.vm import cache
from lab.vm.connection import Connection, qemu_version
from lab.vm.console import Instant
from lab.vm.domain import Domain, VmmEnd
from lab.vm.domain_spec import ChannelName, DomainDisk, DomainNetwork, DomainSpec, MachineType, UserNetwork
from lab.vm.domain_xml import (
    CGROUP_VARIABLE,
    MARKER_IO_PORT,
    PORT_NUMBERS,
    STARTED_VARIABLE,
    user_network_arguments,
)
from lab.vm.guest import Guest
from lab.vm.guest_agent import GuestCommand
from lab.vm.qmp import Monitor

_CONNECT_NS = 10 * NS_PER_S
_LINK_POLL_S = 0.001
_TEMPLATE_NS = 120 * NS_PER_S
_MONITOR = "monitor.sock"
_KEPT_TEMPLATES = 8
_CLONE_MAC = "52:54:00:13:ff:fe"  # of every clone: the template's kernel has read it, and no two share a link
_ANSWER_NS = 30 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A guest's memory as a file; a ``shared`` one is written to, else what is written stays with the guest."""

    path: str
    shared: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A guest that has booted up to where its init waits: its memory, and the state of its devices."""

    memory: str
    devices: str


def arguments(
    spec: DomainSpec, *, monitor: str = "", memory: Memory | None = None, incoming: bool = False
) -> tuple[str, ...]:
    """Return QEMU's arguments for a guest without shares; ``monitor`` is where its QMP socket shall be.

    An ``incoming`` guest waits for the state of another one instead of booting.
    """
    mib = spec.memory_bytes >> 20
    machine = f"{spec.machine},accel={spec.accelerator}"
    backend: tuple[str, ...] = ()
    if memory is not None:
        machine += ",memory-backend=ram"
        share = "on" if memory.shared else "off"
        backend = ("-object", f"memory-backend-file,id=ram,size={mib}M,mem-path={memory.path},share={share}")
    return (
        *("-machine", machine, *backend, "-m", f"{mib}M", "-smp", str(spec.vcpus)),
        *(("-cpu", spec.cpu_model) if spec.cpu_model else ()),
        *(("-bios", spec.firmware) if spec.firmware else ()),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", spec.kernel, *(("-initrd", spec.initramfs) if spec.initramfs else ())),
        *("-append", " ".join(spec.kernel_options)),
        *(("-qmp", f"unix:{monitor},server=on,wait=off") if monitor else ()),
        *_channels(spec),
        *(argument for index, disk in enumerate(spec.disks) for argument in _disk(disk, index, spec.machine)),
        *_network(spec),
        *(("-incoming", "defer") if incoming else ()),
    )


def _device(machine: MachineType, kind: str) -> str:
    return f"virtio-{kind}-device" if machine is MachineType.MICROVM else f"virtio-{kind}-pci"


def _channels(spec: DomainSpec) -> tuple[str, ...]:
    found: list[str] = []
    for name, path in spec.channels:
        found += ("-chardev", f"socket,id={name},path={path}")
    found += ("-serial", f"chardev:{ChannelName.CONSOLE}")
    found += ("-device", f"isa-debugcon,iobase={MARKER_IO_PORT:#x},chardev={ChannelName.MARKER}")
    found += ("-device", f"{_device(spec.machine, 'serial')},max_ports={len(PORT_NUMBERS) + 1}")
    for name, number in PORT_NUMBERS.items():
        found += ("-device", f"virtserialport,chardev={name},name=lab.{name},nr={number}")
    return tuple(found)


def _disk(disk: DomainDisk, index: int, machine: MachineType) -> tuple[str, ...]:
    mode = "on" if disk.read_only else "off"
    aio = f",aio={disk.io or ('native' if disk.cache == 'none' else 'threads')}"
    drive = f"if=none,id=disk{index},file={disk.path},format={disk.format},cache={disk.cache},readonly={mode}{aio}"
    return ("-drive", drive, "-device", f"{_device(machine, 'blk')},drive=disk{index},serial={disk.serial}")


def _network(spec: DomainSpec) -> tuple[str, ...]:
    if spec.network is None:
        return ()
    if isinstance(spec.network, UserNetwork):
        return user_network_arguments(spec.network, spec.machine)
    tap = f"tap,id=lab,ifname={spec.network.link},script=no,downscript=no"
    return ("-netdev", tap, "-device", f"{_device(spec.machine, 'net')},netdev=lab,mac={spec.network.mac}")


class DirectQemu(Domain):
    """A running QEMU that is our child, with the face of a domain. There is no XML of it, and libvirt knows nothing."""

    def __init__(self, name: str, process: command.Process, log: str, on_end: Callable[[VmmEnd], None]) -> None:
        self.name = name
        self.pid = process.pid
        self.end: VmmEnd | None = None
        self._process = process  # kept, so that nobody else waits for it
        self._log = log
        self._on_end = on_end
        self._pidfd = os.pidfd_open(process.pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._await_end, name=f"reap-{process.pid}", daemon=True)
        self._thread.start()

    @classmethod
    def run(
        cls,
        connection: Connection,
        spec: DomainSpec,
        argv: tuple[str, ...],
        directory: str,
        on_end: Callable[[VmmEnd], None],
    ) -> DirectQemu:
        """Start QEMU in its cgroups with these arguments.

        Raises:
            OSError: it cannot be started.
        """
        environment = {CGROUP_VARIABLE: " ".join(spec.cgroup_procs), STARTED_VARIABLE: spec.started_file}
        log = os.path.join(directory, "qemu.log")
        with open(log, "wb") as file:
            process = command.spawn((connection.emulator, *argv), stdout=file, stderr=file, env=environment)
        return cls(spec.name, process, log, on_end)

    def resume(self) -> None:
        """Let it go on; one that has not been suspended runs already."""
        pidfd.pidfd_send_signal(self._pidfd, signal.SIGCONT)

    def suspend(self) -> None:
        """Stop the whole process, and so its processors."""
        pidfd.pidfd_send_signal(self._pidfd, signal.SIGSTOP)

    def xml(self) -> str:
        """Return "": there is none."""
        return ""

    def messages(self) -> str:
        """Return what QEMU has written."""
        with contextlib.suppress(FileNotFoundError), open(self._log, errors="replace") as file:
            return file.read()
        return ""

    def destroy(self) -> None:
        """Kill it; safe to call twice."""
        if not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError, OSError):
                pidfd.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._thread.join()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._log)


class DirectGuest(Guest):
    """A guest whose QEMU is started by us."""

    def launch(self) -> None:
        """Start QEMU; the guest boots at once. What it raises is as with libvirt."""
        self._start(lambda: self._run(arguments(self.spec)))

    def _run(self, argv: tuple[str, ...]) -> DirectQemu:
        qemu = DirectQemu.run(self._connection, self.spec, argv, self._directory, self._ended)
        try:
            self._await_devices(qemu)
        except BaseException:
            qemu.destroy()
            raise
        return qemu

    def _await_devices(self, qemu: DirectQemu) -> None:
        """Wait until QEMU has connected its channels, and bring its link up, which libvirt does by itself."""
        deadline_ns = time.monotonic_ns() + _CONNECT_NS
        if not self._channels.wait(self._channels.agent_connected, deadline_ns=deadline_ns):
            raise DomainError(f"QEMU does not start: {qemu.messages().strip() or 'it did not say why'}")
        if not isinstance(self.spec.network, DomainNetwork):
            return
        while not links.exists(self.spec.network.link):  # QEMU makes it some milliseconds after the channels
            if self._channels.lost or time.monotonic_ns() > deadline_ns:
                raise DomainError(f"QEMU makes no link {self.spec.network.link}: {qemu.messages().strip()}")
            time.sleep(_LINK_POLL_S)
        _bring_up(self.spec.network.link)

    @property
    def _directory(self) -> str:
        return os.path.dirname(self.spec.started_file)


def _bring_up(link: str) -> None:
    with rt.open_socket() as channel:
        index = rt.link_index(channel, link)
        body = rt.ifinfomsg(index=index, flags=rt.IFF_UP, change=rt.IFF_UP)
        flags = rt.NLM_F_REQUEST | rt.NLM_F_ACK
        rt.transact(channel, (rt.Request(rt.RTM_NEWLINK, flags, body, f"link {link}"),))


def for_clones(spec: DomainSpec) -> DomainSpec:
    """Return the description that all clones of a template have in common with it, as far as the guest can see."""
    if isinstance(spec.network, DomainNetwork):
        return replace(spec, network=replace(spec.network, mac=_CLONE_MAC))
    return spec


class TemplateGuest(DirectGuest):
    """A guest that boots once, to be cloned."""

    def make(self, directory: str) -> None:
        """Boot until init waits for its first request, and write memory and devices into ``directory``.

        Raises:
            DomainError: it does not boot, or its state cannot be written.
            TimeoutError: it does not boot in time.
        """
        template, monitor = template_in(directory), os.path.join(self._directory, _MONITOR)
        memory = Memory(path=template.memory, shared=True)
        deadline_ns = time.monotonic_ns() + _TEMPLATE_NS
        try:
            self._start(lambda: self._run(arguments(self.spec, monitor=monitor, memory=memory)))
            self.await_userspace(deadline_ns=deadline_ns)
            self.memory_bytes(timeout_ns=_ANSWER_NS)  # it answers: so it waits for what comes next
            with Monitor(monitor) as qemu:
                _share_memory(qemu)
                qemu.execute("migrate", uri=f"exec:cat > '{template.devices}'")
                qemu.wait_for_migration(deadline_ns=deadline_ns)
        finally:
            self.destroy()


class CloneGuest(DirectGuest):
    """A guest that goes on where its template was left; what it writes into memory stays its own."""

    def __init__(self, connection: Connection, spec: DomainSpec, directory: str, template: Template) -> None:
        super().__init__(connection, spec, directory)
        self._template = template

    def launch(self) -> None:
        """Start QEMU with the template's memory and devices; the guest runs as soon as they are there."""
        monitor = os.path.join(self._directory, _MONITOR)
        memory = Memory(path=self._template.memory, shared=False)
        self._start(lambda: self._run(arguments(self.spec, monitor=monitor, memory=memory, incoming=True)))
        with Monitor(monitor) as qemu:
            _share_memory(qemu)
            qemu.execute("migrate-incoming", uri=f"exec:cat '{self._template.devices}'")

    def run(self, command: GuestCommand, *, deadline_ns: int, further: Iterable[str] = ()) -> int:
        """Have init start ``command``; userspace is there as soon as the processors run."""
        at_ns = super().run(command, deadline_ns=deadline_ns, further=further)
        self._channels.stamps.setdefault(Instant.USERSPACE, at_ns)
        return at_ns

    def await_kernel_age(self, *, deadline_ns: int) -> None:
        """Return at once: the kernel was entered in the template, long ago."""


def _share_memory(qemu: Monitor) -> None:
    """Leave memory that is a file out of what is migrated. It is there already, and is the whole of it."""
    qemu.execute("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])


def template_in(directory: str) -> Template:
    """Return where a template's files lie."""
    return Template(memory=os.path.join(directory, "memory"), devices=os.path.join(directory, "devices"))


def template_key(spec: DomainSpec, *files: str) -> str:
    """Return a name for the templates of guests that are alike: of this kind, with disks made from these files."""
    disks = [(disk.serial, disk.format, disk.read_only) for disk in spec.disks]
    seen = (spec.kernel, spec.initramfs, spec.kernel_options, spec.machine, spec.vcpus, spec.memory_bytes)
    alike = (qemu_version(), spec.cpu_model, spec.firmware, spec.network is None, disks, seen, files)
    return hashlib.sha256(repr(alike).encode()).hexdigest()[:16]


def ensure_template(parent: str, key: str, make: Callable[[str], None]) -> Template:
    """Return the template ``key``, after ``make(directory)`` has made it if it is not there.

    They are as large as what guests use of their memory, so those unused for longest are removed when one is made.
    """
    directory = os.path.join(parent, key)

    def build(temporary: str) -> None:
        _remove_old(parent)
        os.makedirs(temporary)
        make(temporary)

    cache.make_once(directory, build)
    os.utime(directory)  # used now
    return template_in(directory)


def _remove_old(parent: str) -> None:
    """Remove all but the templates used last; clones that run have theirs mapped, and keep it."""
    found = [entry for entry in os.scandir(parent) if entry.is_dir() and "." not in entry.name]
    by_use = sorted(found, key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
    for entry in by_use[_KEPT_TEMPLATES - 1 :]:
        cache.remove(entry.path)
