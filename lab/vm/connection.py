"""The connection to libvirt: in this process by default, to a daemon by its URI if one asks.

``qemu:///embed`` runs libvirt's QEMU driver inside our process: no daemon, no service, no bus. Its root directory
belongs to one process at a time, and one process may have one root; so there is a row of them (slots), of which a
process takes the first free one and keeps it. What is dear to find out, what QEMU can do (4 s), they share.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.resources
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

# libvirt's log goes to standard error by default, and it reads this when it is imported. What is worth saying
# arrives as an error as well; QEMU's own messages have a file per guest.
os.putenv("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")

import libvirt

from lab.errors import DomainError, UnavailableError
from lab.linux import command
from lab.linux.compiler import compile_c
from lab.paths import Paths
from lab.vm import cache
from lab.vm.domain_xml import CGROUP_VARIABLE, STARTED_VARIABLE

EMBEDDED = "embed"
_QEMU = "qemu-system-x86_64"
_PACKAGES = "apt install qemu-system-x86 libvirt-daemon-driver-qemu"
_SLOTS = 64
_USER = "libvirt-qemu"  # the driver looks this user up before it reads that it should use another
_USER_HINT = f"useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {_USER}"

_QEMU_CONF = """\
# Written by lab; made for guests that live as long as the process that started them.
# QEMU runs as we do: it reads disks from our cache, and no second user has to be given access.
user = "root"
group = "root"
# Nobody else owns these files: do not change their owner, and do not write down who had them before.
dynamic_ownership = 0
remember_owner = 0
# No profile confines QEMU: the security driver would need its daemon's files.
security_driver = "none"
security_default_confined = 0
# We put QEMU into a cgroup before it runs, so that all of its memory is counted there; libvirt makes none.
cgroup_controllers = [ ]
# No mount namespace: it would hide our sockets from QEMU, and costs time at each start.
namespaces = [ ]
# Without virtlogd, which is a daemon, output goes to plain files.
stdio_handler = "file"
# QEMU's own filter kills on a system call of the emulator's wrapper.
seccomp_sandbox = 0
"""


@dataclass(slots=True)
class Connection:
    """An open connection; ``run_directory`` is where its driver keeps pid files, ``log_directory`` QEMU's messages."""

    uri: str
    handle: libvirt.virConnect
    run_directory: str
    log_directory: str
    emulator: str
    watchers: dict[str, Callable[[int, int], None]] = field(default_factory=dict)

    @property
    def embedded(self) -> bool:
        """Whether the driver runs in this process, so that QEMU's processes are our children."""
        return self.uri.startswith("qemu:///embed")

    def versions(self) -> dict[str, str]:
        """Return the versions of libvirt and, where known, of QEMU, dotted."""
        return {"libvirt": _dotted(self.handle.getLibVersion()), "qemu": _dotted(self.handle.getVersion())}


def _dotted(version: int) -> str:
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"


def connect(paths: Paths, uri: str = "") -> Connection:
    """Return this process's connection, opening it at the first call; ``uri`` "" is the embedded driver.

    Raises:
        UnavailableError: libvirt or QEMU is not there, or refuses; the hint says what to install.
    """
    return _connect(paths.libvirt, uri)


@functools.cache
def _connect(directory: str, uri: str) -> Connection:
    qemu = shutil.which(_QEMU)
    if qemu is None:
        raise UnavailableError(f"{_QEMU} is missing", hint=_PACKAGES)
    _run_event_loop()
    emulator = _ensure_emulator(os.path.join(directory, "emulator"), qemu)
    if uri:
        return _open(uri, "/run/libvirt/qemu", "/var/log/libvirt/qemu", emulator)
    if os.geteuid() != 0:
        raise UnavailableError("libvirt's embedded QEMU driver needs root", hint="sudo")
    root = _take_slot(directory)
    _prepare(root, os.path.join(directory, "cache"))
    connection = _open(f"qemu:///embed?root={root}", f"{root}/run/qemu", f"{root}/log/qemu", emulator)
    _destroy_leftovers(connection)
    _probe(connection)
    return connection


@functools.cache
def _run_event_loop() -> None:
    """Start libvirt's event loop, once: without one the embedded driver refuses, and no QEMU is watched."""
    quiet()
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=run, name="libvirt-events", daemon=True).start()


def quiet() -> None:
    """Keep libvirt from printing what we raise."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)


def _take_slot(directory: str) -> str:
    """Return the first root directory that no living process has; it is ours until we end."""
    for number in range(_SLOTS):
        root = os.path.join(directory, f"slot-{number}")
        os.makedirs(root, exist_ok=True)
        descriptor = os.open(os.path.join(root, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        return root  # the descriptor stays open: the lock lives as long as this process
    raise UnavailableError(f"{_SLOTS} lab processes already run guests", hint="wait until one has ended")


def _prepare(root: str, shared_cache: str) -> None:
    os.makedirs(os.path.join(root, "etc"), exist_ok=True)
    os.makedirs(shared_cache, exist_ok=True)
    cache.write_file(os.path.join(root, "etc", "qemu.conf"), _QEMU_CONF.encode())
    link, target = os.path.join(root, "cache"), os.path.realpath(shared_cache)  # by one name only: others may go
    if not (os.path.islink(link) and os.readlink(link) == target):
        cache.remove(link)
        os.symlink(target, link)


def _ensure_emulator(directory: str, qemu: str) -> str:
    """Return the program that libvirt runs as the emulator (``guest/emulator.c``); its name changes with QEMU.

    libvirt keeps what it found out about an emulator as long as that file stays the same, and this one would.

    Raises:
        UnavailableError: there is no compiler.
    """
    source = importlib.resources.files("lab.vm").joinpath("guest/emulator.c").read_bytes()
    status = os.stat(qemu)
    flags = ("-O1", "-s", f'-DQEMU="{qemu}"', f'-DCGROUPS="{CGROUP_VARIABLE}"', f'-DSTARTED="{STARTED_VARIABLE}"')
    identity = f"{flags}{status.st_mtime_ns}{status.st_size}".encode()
    path = os.path.join(directory, f"{_QEMU}-{hashlib.sha256(source + identity).hexdigest()[:12]}")
    return cache.make_once(path, lambda temporary: compile_c(source, temporary, flags, purpose="the emulator"))


def _open(uri: str, run_directory: str, log_directory: str, emulator: str) -> Connection:
    try:
        handle = libvirt.open(uri)
    except libvirt.libvirtError as error:
        hint = _USER_HINT if _USER in reason(error) else _PACKAGES
        raise UnavailableError(f"cannot open {uri}: {reason(error)}", hint=hint) from error
    connection = Connection(
        uri=uri, handle=handle, run_directory=run_directory, log_directory=log_directory, emulator=emulator
    )
    handle.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, _dispatch, connection)
    return connection


def _probe(connection: Connection) -> None:
    """Make libvirt find out what QEMU can do: 4 s the first time, from its cache afterwards.

    It starts QEMU for that and waits until PID 1 has reaped it. It must not happen in ``Domain.create``, where such
    a QEMU would become our child: nobody would reap it, and libvirt would wait for a minute.
    """
    try:
        connection.handle.getDomainCapabilities(connection.emulator, "x86_64", "q35", "qemu")
    except libvirt.libvirtError as error:
        raise UnavailableError(f"libvirt cannot use QEMU: {reason(error)}", hint=_PACKAGES) from error


def _dispatch(
    _handle: libvirt.virConnect, domain: libvirt.virDomain, event: int, detail: int, connection: Connection
) -> None:
    watcher = connection.watchers.get(domain.name())
    if watcher is not None:
        watcher(event, detail)


def _destroy_leftovers(connection: Connection) -> None:
    """End the guests of a process that had this slot before us and was killed: nobody else can."""
    for domain in connection.handle.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        try:
            domain.destroy()
        except libvirt.libvirtError as error:
            if not is_gone(error):
                raise domain_error(f"destroy the leftover guest {domain.name()}", error) from error


def is_gone(error: libvirt.libvirtError) -> bool:
    """Return whether the error says that the domain is not there or does not run, which it may do at any time."""
    code: int = error.get_error_code()
    return code in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)


def reason(error: libvirt.libvirtError) -> str:
    """Return libvirt's own words, on one line."""
    return " ".join(str(error.get_error_message() or error).split())


def domain_error(what: str, error: libvirt.libvirtError) -> DomainError:
    """Return the error to raise when ``what`` ("start guest x") failed."""
    return DomainError(f"cannot {what}: {reason(error)}")


def qemu_version() -> str:
    """Return the version that QEMU itself prints: "7.2.22"; "" without QEMU."""
    try:
        shown = command.run((_QEMU, "--version"))
    except FileNotFoundError:
        return ""
    words = shown.text.split()
    return words[words.index("version") + 1] if "version" in words else ""
