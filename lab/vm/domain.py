"""One domain in libvirt's words: create starts it, destroy powers it off.

Domains here are transient: they exist while they run, and nothing of them is kept by libvirt. QEMU daemonises itself,
so its process would become a child of PID 1, which may be slow to reap it, and libvirt polls until it has. While it is
being started we are the reaper of our descendants, so that QEMU becomes our child, and a thread waits for it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import libvirt

from lab.errors import DomainError
from lab.linux import pidfd, prctl
from lab.units import NS_PER_S
from lab.vm.connection import Connection, domain_error, is_gone

_LOOK_S = 0.02  # how often it is seen whether a QEMU that is being started has ended
_starting = threading.Lock()  # being the reaper is an attribute of the whole process


@dataclass(frozen=True, slots=True, kw_only=True)
class VmmEnd:
    """The end of QEMU's process: when (CLOCK_MONOTONIC), and its exit code, 128+n after signal n, None if unknown."""

    at_ns: int
    exit_code: int | None


class Domain:
    """A running guest as libvirt sees it, from ``create`` to ``destroy``."""

    def __init__(self, connection: Connection, handle: libvirt.virDomain, pid: int, on_end: Callable[[VmmEnd], None]):
        self._connection = connection
        self._handle = handle
        self._on_end = on_end
        self.name: str = handle.name()
        self.pid = pid
        self.end: VmmEnd | None = None
        self._pidfd = _open_pidfd(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._await_end, name=f"reap-{pid}", daemon=True)
        self._thread.start()

    @classmethod
    def create(
        cls,
        connection: Connection,
        name: str,
        xml: bytes,
        *,
        on_end: Callable[[VmmEnd], None],
        on_paused: Callable[[], None],
    ) -> Domain:
        """Start the guest of this name, whose vCPUs do not run yet.

        ``on_end`` is called once, from another thread, when QEMU's process has ended, for whatever reason;
        ``on_paused`` when QEMU stops the guest by itself, which it does on errors that it cannot survive.

        Raises:
            DomainError: libvirt or QEMU refused; nothing is left.
        """
        try:
            with _reaper(connection, name):
                handle = connection.handle.createXML(xml.decode(), libvirt.VIR_DOMAIN_START_PAUSED)
        except libvirt.libvirtError as error:
            raise domain_error("start the guest", error) from error
        return cls._watched(connection, handle, on_end, on_paused)

    @classmethod
    def restore(
        cls,
        connection: Connection,
        path: str,
        name: str,
        *,
        on_end: Callable[[VmmEnd], None],
        on_paused: Callable[[], None],
    ) -> Domain:
        """Start the guest of this name from what ``save`` has written to ``path``; else this is as ``create``.

        It is made as it was, with the same files and sockets: what libvirt added then cannot be asked for now.

        Raises:
            DomainError: libvirt or QEMU refused; nothing is left.
        """
        try:
            with _reaper(connection, name):
                connection.handle.restoreFlags(path, None, libvirt.VIR_DOMAIN_SAVE_PAUSED)
                handle = connection.handle.lookupByName(name)
        except libvirt.libvirtError as error:
            raise domain_error(f"restore the guest from {path}", error) from error
        return cls._watched(connection, handle, on_end, on_paused)

    @classmethod
    def _watched(
        cls,
        connection: Connection,
        handle: libvirt.virDomain,
        on_end: Callable[[VmmEnd], None],
        on_paused: Callable[[], None],
    ) -> Domain:
        domain = cls(connection, handle, _read_pid(connection, handle.name()), on_end)
        connection.watchers[domain.name] = _watcher(on_paused)
        return domain

    def save(self, path: str) -> None:
        """Write memory and devices to a file; QEMU ends with it.

        Raises:
            DomainError: libvirt refused; the guest goes on.
        """
        watcher = self._connection.watchers.pop(self.name, None)  # the pause in which it is saved is ours
        try:
            self._call("save", lambda: self._handle.save(path))
        except BaseException:
            if watcher is not None:
                self._connection.watchers[self.name] = watcher
            raise

    def resume(self) -> None:
        """Let the vCPUs run.

        Raises:
            DomainError: libvirt refused.
        """
        self._call("resume", self._handle.resume)

    def suspend(self) -> None:
        """Stop the vCPUs; memory and devices stay.

        Raises:
            DomainError: libvirt refused.
        """
        watcher = self._connection.watchers.pop(self.name, None)  # this pause is ours
        self._call("suspend", self._handle.suspend)
        if watcher is not None:
            self._connection.watchers[self.name] = watcher

    def xml(self) -> str:
        """Return the XML that libvirt runs, with all that it added.

        Raises:
            DomainError: the guest is gone.
        """
        text: str = self._call("describe", self._handle.XMLDesc)
        return text

    def argv(self) -> tuple[str, ...]:
        """Return QEMU's command line; empty when it has ended."""
        try:
            with open(f"/proc/{self.pid}/cmdline", "rb") as file:
                return tuple(file.read().decode(errors="replace").split("\0")[:-1])
        except (FileNotFoundError, ProcessLookupError):
            return ()

    def messages(self) -> str:
        """Return what QEMU has written about this guest, "" when nothing is there."""
        try:
            with open(os.path.join(self._connection.log_directory, f"{self.name}.log"), errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def wait(self, *, deadline_ns: int) -> VmmEnd | None:
        """Wait for QEMU's end; None when it has not come by ``deadline_ns`` (CLOCK_MONOTONIC)."""
        self._ended.wait(max(0, deadline_ns - time.monotonic_ns()) / NS_PER_S)
        return self.end

    def destroy(self) -> None:
        """Power off, and return when libvirt has forgotten the guest; safe to call twice.

        QEMU is killed first and by us: libvirt would look only every 200 ms whether it is gone. Its disks are
        overlays that are thrown away, so there is nothing that it should still write.

        Raises:
            DomainError: libvirt refused, or QEMU does not die.
        """
        self._connection.watchers.pop(self.name, None)
        if not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                pidfd.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._forget()
        self._thread.join()

    def _forget(self) -> None:
        try:
            self._handle.destroy()
        except libvirt.libvirtError as error:
            # a daemon that has gone cannot forget it; QEMU has, since we have killed it
            if not is_gone(error) and self._connection.handle.isAlive():
                raise domain_error(f"destroy {self.name}", error) from error
        log = os.path.join(self._connection.log_directory, f"{self.name}.log")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(log)

    def _call(self, what: str, action: Callable[[], object]) -> str:
        try:
            return str(action())
        except libvirt.libvirtError as error:
            raise domain_error(f"{what} {self.name}", error) from error

    def _await_end(self) -> None:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        poll.poll()
        at_ns = time.monotonic_ns()
        exit_code = None
        with contextlib.suppress(ChildProcessError):  # a daemon's guest is no child of ours
            exit_code = _exit_code(os.waitpid(self.pid, 0)[1])  # this one only: libvirt waits for its own children
        os.close(self._pidfd)
        self.end = VmmEnd(at_ns=at_ns, exit_code=exit_code)
        self._ended.set()
        self._on_end(self.end)


@contextmanager
def _reaper(connection: Connection, name: str) -> Iterator[None]:
    """Adopt orphaned descendants for the length of the block, and reap this guest's QEMU if it ends in it.

    Not longer: other arms start programs that daemonise, and those would become zombies of ours. A QEMU that refuses
    what it is asked for would be one as well, and libvirt waits for most of a minute until it is gone.
    """
    if not connection.embedded:
        yield
        return
    is_over = threading.Event()
    reaping = threading.Thread(target=_reap_early, args=(connection, name, is_over), name=f"reap-{name}", daemon=True)
    with _starting:
        prctl.prctl(prctl.PR_SET_CHILD_SUBREAPER, 1)
        reaping.start()
        try:
            yield
        finally:
            is_over.set()
            reaping.join()
            prctl.prctl(prctl.PR_SET_CHILD_SUBREAPER, 0)


def _reap_early(connection: Connection, name: str, is_over: threading.Event) -> None:
    while not is_over.wait(_LOOK_S):
        with contextlib.suppress(DomainError, ChildProcessError):  # it has no pid yet, or is not ours yet
            if os.waitpid(_read_pid(connection, name), os.WNOHANG)[0]:
                return


def _watcher(on_paused: Callable[[], None]) -> Callable[[int, int], None]:
    def watch(event: int, detail: int) -> None:
        # the pause in which it was started is one of these as well
        if event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED and detail != libvirt.VIR_DOMAIN_EVENT_SUSPENDED_PAUSED:
            on_paused()
        if event == libvirt.VIR_DOMAIN_EVENT_CRASHED:
            on_paused()

    return watch


def _read_pid(connection: Connection, name: str) -> int:
    path = os.path.join(connection.run_directory, f"{name}.pid")
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError) as error:
        raise DomainError(f"cannot read the pid of guest {name} from {path}: {error}") from error


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise DomainError(f"QEMU ended as soon as it was started (pid {pid})") from error


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
