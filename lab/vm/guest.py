"""A running guest, all of it: its domain, its byte streams and its agent, from ``launch`` to ``destroy``.

Whoever waits here is woken when QEMU ends or stops the guest by itself, and is told why, with the last lines that the
guest wrote.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

from lab.errors import DomainError
from lab.units import NS_PER_S, format_duration_ns
from lab.vm import network
from lab.vm.connection import Connection
from lab.vm.console import GuestChannels, Instant, Sink
from lab.vm.domain import Domain, VmmEnd
from lab.vm.domain_spec import ChannelName, DomainDisk, DomainNetwork, DomainShare, DomainSpec, UserNetwork
from lab.vm.domain_xml import build
from lab.vm.guest_agent import GuestAgent, GuestCommand, GuestExecution

_SHOWN_LINES = 12
_POWER_OFF_NS = 10 * NS_PER_S  # after the grace period: syncing disks and resetting, on a slow host
_DRAIN_NS = 2 * NS_PER_S
_PANIC = "Kernel panic - not syncing: "  # Source: kernel/panic.c
_UNSAID = "it could not read or write one of its disks; is the host's disk full?"  # it says nothing else of that
_LONG_NS = 3600 * NS_PER_S


def channel_paths(directory: str) -> tuple[tuple[ChannelName, str], ...]:
    """Return the sockets of a guest whose files lie in ``directory``."""
    return tuple((name, os.path.join(directory, f"{name}.sock")) for name in ChannelName)


def settings(spec: DomainSpec) -> tuple[str, ...]:
    """Return what init is told to set up, in the words of ``guest_agent``."""
    mounts: list[DomainDisk | DomainShare] = [*spec.disks, *spec.shares]
    lines = [_mount_setting(mount) for mount in sorted(mounts, key=lambda mount: _depth(mount.mount_point))]
    if spec.covered:
        lines.insert(1, "cover=memory")  # next after the root
    if isinstance(spec.network, UserNetwork):
        lines.append(f"network={network.USER_GUEST}:{network.USER_NETMASK}:{network.USER_GATEWAY}")
    elif spec.network is not None:
        link = spec.network
        lines.append(f"network={link.guest_address}:{network.netmask(link)}:{link.host_address}")
    return (*lines, f"hostname={spec.name}")


def _depth(mount_point: str) -> int:
    return mount_point.count("/") + len(mount_point)  # "/" comes first, and what lies below another after it


def _mount_setting(mount: DomainDisk | DomainShare) -> str:
    key, name = ("disk", mount.serial) if isinstance(mount, DomainDisk) else ("share", mount.tag)
    # what is written to a covered root never reaches it, and a disk that is not to be written must not be asked for it
    read_only = mount.read_only or not mount.file_system.is_writable
    return f"{key}={name}:{'ro' if read_only else 'rw'}:{mount.mount_point}:{mount.file_system}"


class Guest:
    """One guest; ``directory`` exists and is its own. Not started twice: what runs again is a new ``Guest``.

    ``sinks`` get what it writes, as it comes (``GuestChannels``); the last bytes are kept in any case.
    """

    def __init__(
        self,
        connection: Connection,
        spec: DomainSpec,
        directory: str,
        sinks: Mapping[ChannelName, Sink] | None = None,
    ) -> None:
        self.spec = spec
        self._connection = connection
        self._agent = GuestAgent()
        self._channels = GuestChannels(directory, self._agent, sinks)
        self._domain: Domain | None = None
        self._stopping = False
        self._destroying = threading.Lock()

    def launch(self) -> None:
        """Start QEMU, the vCPUs still stopped.

        Raises:
            DomainError: it could not be started; nothing is left.
            OSError: its link got no address; nothing is left.
            SpecError: the directory's name is too long.
        """
        self._start(
            lambda: Domain.create(
                self._connection, self.spec.name, build(self.spec), on_end=self._ended, on_paused=self._paused_by_qemu
            )
        )

    def restore(self, path: str) -> None:
        """Start QEMU with the state that ``save`` has written; the vCPUs are still stopped, the main command goes on.

        Raises:
            DomainError: it could not be restored; nothing is left.
            OSError, SpecError: as ``launch``.
        """
        self._start(
            lambda: Domain.restore(
                self._connection, path, self.spec.name, on_end=self._ended, on_paused=self._paused_by_qemu
            )
        )
        self._agent.main_started = True

    def _start(self, make: Callable[[], Domain]) -> None:
        self._channels.open()
        try:
            self._domain = make()
            if isinstance(self.spec.network, DomainNetwork):
                network.configure_host_side(self.spec.network)
        except BaseException:
            self.destroy()
            raise

    def save(self, path: str) -> VmmEnd:
        """Write memory and devices to a file, which ends QEMU; return how it ended.

        Raises:
            DomainError: libvirt refused, or a device cannot be saved; the guest goes on.
        """
        domain = self._live_domain()
        self._stopping = True
        try:
            domain.save(path)
        except BaseException:
            self._stopping = False
            raise
        self.destroy()
        assert domain.end is not None
        return domain.end

    def run(self, command: GuestCommand, *, deadline_ns: int, further: Iterable[str] = ()) -> int:
        """Let the vCPUs run, and have init start ``command``; return when they were let (CLOCK_MONOTONIC).

        ``further`` are more settings for init, in the words of ``guest_agent``.

        Raises:
            DomainError: the guest is gone.
            TimeoutError: it does not take requests.
        """
        at_ns = time.monotonic_ns()
        self._live_domain().resume()
        self._agent.start(command, (*settings(self.spec), *further), deadline_ns=deadline_ns)
        return at_ns

    def release_vcpus(self) -> None:
        """Let the vCPUs run without a main command: init waits for one."""
        self._live_domain().resume()

    def await_userspace(self, *, deadline_ns: int) -> int:
        """Return when init began (CLOCK_MONOTONIC).

        Raises:
            DomainError, TimeoutError: as the other waits.
        """
        self._await("userspace", lambda: Instant.USERSPACE in self._channels.stamps, deadline_ns)
        return self._channels.stamps[Instant.USERSPACE]

    def await_started(self, *, deadline_ns: int) -> None:
        """Wait until the main command has been started, the disks and the network being there.

        Raises:
            DomainError: the guest is gone; the message has its last lines.
            TimeoutError: it did not come by ``deadline_ns``; so has this.
        """
        self._await("its main command", lambda: self._agent.main_started, deadline_ns)

    def await_kernel_age(self, *, deadline_ns: int) -> None:
        """Wait until init has told the kernel's age: after the first output, or once the main command is silent.

        Raises:
            DomainError, TimeoutError: as the other waits.
        """
        self._await("its kernel's age", lambda: self._channels.kernel_age_ns is not None, deadline_ns)

    def await_output(self, *, deadline_ns: int) -> int:
        """Return when the first byte of the main command's output came.

        Raises:
            DomainError, TimeoutError: as the other waits.
        """
        self._await("the first byte of output", lambda: Instant.OUTPUT in self._channels.stamps, deadline_ns)
        return self._channels.stamps[Instant.OUTPUT]

    @property
    def kernel_entered_ns(self) -> int | None:
        """When the guest's kernel began (CLOCK_MONOTONIC), by its own age when init began; None before it is told."""
        age_ns = self._channels.kernel_age_ns
        return None if age_ns is None else self._channels.stamps[Instant.USERSPACE] - age_ns

    @property
    def pid(self) -> int | None:
        """QEMU's pid while it lives."""
        return self._domain.pid if self._domain is not None and self._domain.end is None else None

    @property
    def end(self) -> VmmEnd | None:
        """How QEMU ended; None while it lives."""
        return self._domain.end if self._domain is not None else None

    @property
    def agent(self) -> GuestAgent:
        """The host's end of what init does."""
        return self._agent

    def wait(self) -> None:
        """Wait until the guest is gone, and all that it has written has come: QEMU has ended, or has stopped it."""
        while not self._channels.lost:
            self._channels.wait(lambda: False, deadline_ns=time.monotonic_ns() + _LONG_NS)

    @property
    def lost(self) -> str:
        """Why the guest is gone, "" while it is there."""
        return self._channels.lost

    @property
    def main_exit_code(self) -> int | None:
        """The main command's exit code; None while it runs."""
        return self._agent.main_exit_code

    def execute(self, command: GuestCommand, *, timeout_ns: int) -> GuestExecution:
        """Run a command beside the main one and wait for its end.

        Raises:
            DomainError: the guest is gone.
            TimeoutError: it did not end in time; it has been killed.
        """
        return self._agent.execute(command, timeout_ns=timeout_ns)

    def memory_bytes(self, *, timeout_ns: int) -> dict[str, int]:
        """Return the guest's own view of its memory: /proc/meminfo, in bytes.

        Raises:
            DomainError: the guest is gone.
            TimeoutError: it does not answer.
        """
        return self._agent.memory_bytes(timeout_ns=timeout_ns)

    def suspend(self) -> None:
        """Stop the vCPUs.

        Raises:
            DomainError: the guest is gone.
        """
        self._live_domain().suspend()

    def resume(self) -> None:
        """Let stopped vCPUs run again.

        Raises:
            DomainError: the guest is gone.
        """
        self._live_domain().resume()

    def output(self, name: ChannelName) -> bytes:
        """Return the last bytes of the console, the main command's output, or its errors."""
        return self._channels.tail(name).content()

    def provenance(self) -> tuple[str, tuple[str, ...]]:
        """Return the XML that libvirt runs, with all that it added, and QEMU's command line.

        Raises:
            DomainError: the guest is gone.
        """
        domain = self._live_domain()
        return domain.xml(), domain.argv()

    def stop(self, *, grace_ns: int) -> VmmEnd | None:
        """Ask the guest to end its main command and power off, then by force; return how QEMU ended.

        None when it had not been started. Safe to call twice.
        """
        if self._domain is None:
            return None
        self._stopping = True
        if self._domain.end is None:
            self._ask_to_stop(self._domain, grace_ns)
        self.destroy()
        return self._domain.end

    def _ask_to_stop(self, domain: Domain, grace_ns: int) -> None:
        deadline_ns = time.monotonic_ns() + grace_ns + _POWER_OFF_NS
        with contextlib.suppress(DomainError, TimeoutError):  # then by force
            self._agent.request_stop(grace_ns=grace_ns, deadline_ns=deadline_ns)
            domain.wait(deadline_ns=deadline_ns)

    def destroy(self) -> None:
        """Power off at once and remove the sockets; safe to call twice, also at once.

        Raises:
            DomainError: libvirt refused.
        """
        self._stopping = True
        with self._destroying:
            if self._domain is not None:
                self._domain.destroy()
            self._channels.close()

    def last_lines(self) -> str:
        """Return what the guest and QEMU wrote last, for messages; "" when they wrote nothing."""
        sections = [
            (title, self._channels.tail(name).lines(_SHOWN_LINES))
            for title, name in (("console", ChannelName.CONSOLE), ("standard error", ChannelName.ERROR))
        ]
        return "".join(
            f"\nlast lines of its {title}:" + "".join(f"\n  {line}" for line in lines)
            for title, lines in sections
            if lines
        )

    def _live_domain(self) -> Domain:
        if self._domain is None or self._domain.end is not None:
            raise DomainError(f"guest {self.spec.name} is not running")
        return self._domain

    def _await(self, what: str, happened: Callable[[], bool], deadline_ns: int) -> None:
        began_ns = time.monotonic_ns()
        if self._channels.wait(happened, deadline_ns=deadline_ns):
            return
        if self._channels.lost:
            self._fail_lost(what)
        waited = format_duration_ns(max(0, deadline_ns - began_ns))
        raise TimeoutError(f"the guest did not reach {what} within {waited}{self.last_lines()}")

    def _fail_lost(self, what: str) -> NoReturn:
        raise DomainError(f"the guest did not reach {what}: {self._channels.lost}{self.last_lines()}")

    def _ended(self, end: VmmEnd) -> None:
        # what the guest said before its end is still in the sockets, and it is the reason
        self._channels.wait(self._channels.drained, deadline_ns=time.monotonic_ns() + _DRAIN_NS)
        self._channels.lose(self._reason(end))

    def _reason(self, end: VmmEnd) -> str:
        if self._stopping:
            return "it was stopped"
        if self._agent.main_exit_code is not None:
            return f"its main command ended with exit code {self._agent.main_exit_code}"
        if panic := self._panic():
            return f"its kernel panicked: {panic}"
        said = _last_line(self._domain.messages()) if self._domain is not None and end.exit_code else ""
        return f"QEMU ended with exit code {end.exit_code}" + (f": {said}" if said else "")

    def _panic(self) -> str:
        console = self._channels.tail(ChannelName.CONSOLE).content().decode(errors="replace")
        return console.rpartition(_PANIC)[2].partition("\n")[0].strip() if _PANIC in console else ""

    def _paused_by_qemu(self) -> None:
        said = _last_line_with(self._domain.messages(), "error") if self._domain is not None else ""
        self._channels.lose(f"QEMU stopped the guest: {said or _UNSAID}")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def _last_line_with(text: str, word: str) -> str:
    """Return the last line with a word; those of QEMU's command line, which begin with a dash, are none."""
    return _last_line("\n".join(line for line in text.splitlines() if word in line.lower() and line[:1] != "-"))
