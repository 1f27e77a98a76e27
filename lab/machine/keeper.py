"""The process that keeps one running machine: QEMU's streams, its end, and requests of commands, from start to end.

libvirt's embedded driver lives in a process, and so do the ends of the guest's streams: this is that process, and it
outlives the command that started the machine. What the main command writes goes to the log, which whoever is attached
reads as it grows; so nobody who reads slowly holds the guest up, and nothing is lost with a reader. If the keeper is
killed the guest sees its agent's stream end and powers off, and the next command puts away what is left
(``machines.py``).

Its first word, on the descriptor that it was started with, is one line of JSON: {} once the main command runs, or why
it does not.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType

from lab.container.log_file import Log
from lab.errors import DomainError, LabError, StateConflict
from lab.machine import directories, link, requests
from lab.machine.hardware import Hardware, domain_spec
from lab.machine.record import (
    CONSOLE,
    MEMORY,
    ROOT_DISK,
    MachineNetwork,
    MachineRecord,
    MachineState,
    MachineStatus,
    load_record,
    load_state,
    save_state,
)
from lab.machine.settings import guest_command, guest_settings
from lab.paths import Paths
from lab.vm import disk_image
from lab.vm.domain_spec import ChannelName
from lab.vm.guest import Guest

_CONSOLE_BYTES = 1 << 20  # of the kernel's messages that are kept
_LAST_WORDS_S = 5.0
_ATTACH_S = 10.0
_KILLED = 137
EXIT_START_FAILED = 125


class _Asked(BaseException):
    """SIGTERM: power off at once."""


class Starter:
    """The command that started the keeper, which hears one line of JSON."""

    def __init__(self, descriptor: int) -> None:
        """Take over the writing end of its pipe."""
        self._descriptor = descriptor

    def tell(self, document: dict[str, object]) -> bool:
        """Say how the start went, and return whether it has been heard; after the first word nothing is."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return False
        try:
            os.write(descriptor, json.dumps(document).encode() + b"\n")
        except BrokenPipeError:
            return False
        finally:
            os.close(descriptor)
        return True


@dataclass(slots=True)
class Request:
    """Something that the main thread is to do with the guest; ``done`` gets None, or why it failed."""

    act: Callable[[], None]
    done: queue.SimpleQueue[Exception | None] = field(default_factory=queue.SimpleQueue)


class Keeper:
    """One machine, from its start to its end."""

    def __init__(self, paths: Paths, machine_id: str) -> None:
        """Start nothing yet."""
        self._paths = paths
        self._directory = directories.directory(paths, machine_id)
        self._run_directory = directories.run_directory(paths, machine_id)
        self.record: MachineRecord = load_record(self._directory)
        self._hardware: Hardware | None = None
        self._guest: Guest | None = None
        self._inbox: queue.SimpleQueue[Request | Guest] = queue.SimpleQueue()
        self._attached = threading.Event()
        self._finished = threading.Event()
        self._exit_code = EXIT_START_FAILED
        self._reason = ""
        self._is_wanted_end = False
        self._is_saved = False
        self._threads: list[threading.Thread] = []
        self._log: Log | None = None
        self._console_bytes = 0

    # -- its life ------------------------------------------------------------------------------------------------------

    def keep(self, starter: Starter, *, restores: bool = False, awaited: bool = False) -> None:
        """Start the machine, tell how that went, and return when it has ended and everything is put away.

        Where nobody hears it the command that started it is gone, and the machine is not wanted. If it is ``awaited``,
        that command attaches before the machine is put away.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(directories.kept(self._directory))
            except StateConflict as error:  # it is another keeper's
                starter.tell(link.encode_error(error))
                return
            try:
                self._start(stack, restores=restores)
                if not starter.tell({}) and not restores:
                    raise _Asked
            except (LabError, OSError, TimeoutError, _Asked) as error:
                self._note_failure(error, restores=restores)
                stack.close()
                told = error if isinstance(error, Exception) else DomainError("it was interrupted")
                if not starter.tell(link.encode_error(told)):
                    self._put_away()
                return
            self._serve_until_end()
            if awaited:
                self._attached.wait(_ATTACH_S)
        self._put_away()
        self._say_last_words()

    def _start(self, stack: ExitStack, *, restores: bool) -> None:
        stack.callback(directories.clear_run_directory, self._run_directory)
        directories.make_run_directory(self._run_directory)
        self._log = Log(self._directory)
        stack.callback(self._log.close)
        self._hardware = stack.enter_context(Hardware.of(self._paths, self.record, self._run_directory))
        stack.callback(self._power_off)
        self._boot(restores=restores)
        stack.enter_context(self._listening())
        before = load_state(self._directory) if restores else MachineState(started_ns=time.time_ns())
        state = replace(before, status=MachineStatus.RUNNING, vmm_pid=self.guest.pid or 0)
        save_state(self._directory, state)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self._directory, MEMORY))

    def _boot(self, *, restores: bool, memory: str = "") -> None:
        """Start a guest, and have its end announced; what runs before is over."""
        assert self._hardware is not None
        spec = domain_spec(self._hardware, self.record, os.path.join(self._directory, ROOT_DISK), self._run_directory)
        self._guest = guest = Guest(self._hardware.host.connection, spec, self._run_directory, self._sinks())
        if restores:
            guest.restore(memory or os.path.join(self._directory, MEMORY))
            guest.resume()
        else:
            guest.launch()
            deadline_ns = time.monotonic_ns() + self.record.spec.boot_timeout_ns
            further = guest_settings(self.record, self._hardware.network)
            guest.run(guest_command(self.record), deadline_ns=deadline_ns, further=further)
            guest.await_started(deadline_ns=deadline_ns)
        threading.Thread(target=self._announce_end, args=(guest,), name="guest-end", daemon=True).start()

    def _announce_end(self, guest: Guest) -> None:
        guest.wait()
        self._inbox.put(guest)

    def _sinks(self) -> dict[ChannelName, Callable[[bytes], None]]:
        assert self._log is not None
        log = self._log
        return {
            ChannelName.OUTPUT: lambda data: log.append("stdout", data),
            ChannelName.ERROR: lambda data: log.append("stderr", data),
            ChannelName.CONSOLE: self._keep_console,
        }

    def _keep_console(self, data: bytes) -> None:
        kept = data[: max(0, _CONSOLE_BYTES - self._console_bytes)]
        self._console_bytes += len(kept)
        if kept:
            with contextlib.suppress(OSError), open(os.path.join(self._directory, CONSOLE), "ab") as file:
                file.write(kept)  # on a full disk its last lines are still told with its end

    def _serve_until_end(self) -> None:
        """Do what is asked for, until the guest that runs then has ended."""
        try:
            while (asked := self._inbox.get()) is not self._guest:
                if isinstance(asked, Request):
                    asked.done.put(_outcome(asked.act))
                if self._guest is None:  # saved
                    return
        except _Asked:
            self._is_wanted_end = True
            self._power_off()
        self._note_end()

    def _power_off(self) -> None:
        if self._guest is not None:
            self._guest.destroy()

    # -- how it ends ---------------------------------------------------------------------------------------------------

    def _note_end(self) -> None:
        code = self.guest.main_exit_code
        self._exit_code = _KILLED if code is None else code
        if code is None and not self._is_wanted_end:
            self._reason = f"{self.guest.lost}{self.guest.last_lines()}"
        with contextlib.suppress(
            OSError
        ):  # the disk may be full, which may be why it ended: repaired when there is room
            self._save_end(MachineStatus.EXITED, exit_code=self._exit_code, reason=self._reason.partition("\n")[0])

    def _save_end(self, status: MachineStatus, *, exit_code: int | None, reason: str = "") -> None:
        before = load_state(self._directory)
        ended = replace(before, status=status, ended_ns=time.time_ns(), exit_code=exit_code, reason=reason, vmm_pid=0)
        save_state(self._directory, ended)

    def _note_failure(self, error: BaseException, *, restores: bool) -> None:
        if not restores:  # a memory that could not be restored now may be later
            self._save_end(MachineStatus.EXITED, exit_code=EXIT_START_FAILED, reason=str(error).splitlines()[0])

    def _put_away(self) -> None:
        """Remove a machine that nobody wants any more, and tell everybody who waits."""
        if self.record.options.removes and not self._is_saved:
            directories.remove(self._paths, self.record)
        self._finished.set()

    def _say_last_words(self) -> None:
        """Let those who have asked for something hear the answer, and those who wait for the end hear of it."""
        deadline = time.monotonic() + _LAST_WORDS_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # -- what is asked of it -------------------------------------------------------------------------------------------

    @property
    def guest(self) -> Guest:
        """The guest that runs now.

        Raises:
            StateConflict: none does any more.
        """
        if self._guest is None:
            raise StateConflict(f"machine {self.record.domain} does not run")
        return self._guest

    def end(self, *, grace_ns: int | None = None) -> None:
        """Have the guest end because somebody wants that: after SIGTERM and a grace period, or at once.

        Raises:
            StateConflict: it does not run any more.
        """
        guest = self.guest
        self._is_wanted_end = True
        if grace_ns is None:
            guest.destroy()
        else:
            guest.stop(grace_ns=grace_ns)

    def do(self, act: Callable[[], None]) -> None:
        """Have the main thread do something with the guest, and wait for it.

        Raises:
            Exception: what it raised.
        """
        request = Request(act=act)
        self._inbox.put(request)
        failure = request.done.get()
        if failure is not None:
            raise failure

    def save(self) -> None:
        """Write the memory to the machine's directory, and end: the main thread's part."""
        path = os.path.join(self._directory, MEMORY)
        self._save_memory(path)
        self._guest = None
        self._is_saved = True
        self._save_end(MachineStatus.SAVED, exit_code=None)
        self._exit_code = 0

    def snapshot(self, target: str) -> None:
        """Keep memory and disk in the directory ``target``, and go on: the main thread's part."""
        memory = os.path.join(target, MEMORY)
        self._save_memory(memory)
        try:
            disk_image.create_copy(os.path.join(self._directory, ROOT_DISK), os.path.join(target, ROOT_DISK))
        finally:
            self._go_on(memory)

    def _go_on(self, memory: str) -> None:
        try:
            self._boot(restores=True, memory=memory)
        except BaseException:
            self._inbox.put(self.guest)  # it has ended before it could begin
            raise
        self._save_pid()

    def _save_memory(self, path: str) -> None:
        if self.record.volumes or self.record.spec.network is MachineNetwork.TAP:
            tied = "shares directories of the host" if self.record.volumes else "has a link to the host"
            raise StateConflict(
                f"a machine that {tied} cannot be saved: the host's part of it is not in its memory",
                hint="save machines without -v and with --network user or none; or shut it down",
            )
        try:
            self.guest.save(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            raise

    def _save_pid(self) -> None:
        save_state(self._directory, replace(load_state(self._directory), vmm_pid=self.guest.pid or 0))

    def await_end(self, connection: link.Link) -> None:
        """Send the exit code on a connection once everything is put away, from a thread of its own."""

        def send() -> None:
            self._finished.wait()
            with contextlib.suppress(OSError):
                connection.send(b"D", json.dumps({"code": self._exit_code, "reason": self._reason}).encode())

        thread = threading.Thread(target=send, name="last-words", daemon=True)
        self._threads.append(thread)
        thread.start()
        self._attached.set()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            path = os.path.join(self._run_directory, link.SOCKET)
            listener.bind(path)
            os.chmod(path, 0o600)
            listener.listen(16)
            threading.Thread(target=self._accept, args=(listener,), name="requests", daemon=True).start()
            yield

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed: the machine has ended
                return
            each = link.Link(connection)
            thread = threading.Thread(target=requests.serve, args=(self, each), name="request", daemon=True)
            self._threads.append(thread)
            thread.start()


def _outcome(act: Callable[[], None]) -> Exception | None:
    try:
        act()
    except (LabError, OSError, TimeoutError) as error:
        return error
    return None


def main(argv: list[str]) -> int:
    """Keep the machine that ``argv`` names: root, cache and run directory, id, what to do, the starter's descriptor.

    To do is "start", "attach" (start, and somebody attaches) or "restore".
    """
    root, cache, run, machine_id, verb, descriptor = argv

    def on_term(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Asked

    signal.signal(signal.SIGTERM, on_term)
    os.chdir("/")
    keeper = Keeper(Paths(root=root, cache=cache, run=run), machine_id)
    keeper.keep(Starter(int(descriptor)), restores=verb == "restore", awaited=verb == "attach")
    return 0
