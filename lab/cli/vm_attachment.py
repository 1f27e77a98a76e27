"""Being attached to a machine, or to a program in one: what it writes, what is typed, signals, terminal size."""

from __future__ import annotations

import contextlib
import json
import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lab.cli import output
from lab.cli.attachment import SignalProxy, following_size, forwarding_signals, raw_terminal
from lab.cli.container_show_logs import write
from lab.container import logs
from lab.container.detach_keys import Detached, DetachFilter, detach_sequence
from lab.container.log_place import Place
from lab.errors import EXIT_FAILURE, EXIT_OK, DomainError
from lab.machine import link
from lab.machine.machines import Machine, Machines
from lab.vm.guest_agent import encode_count, encode_size

STDIN, STDOUT, STDERR = 0, 1, 2
_CHUNK_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a command is attached: whether with a terminal and with its input, its detach keys, signals handed on."""

    terminal: bool
    with_input: bool
    keys: str
    forwards: bool = True


class Input:
    """What is typed or piped in, on its way to the guest, in a thread of its own: a guest may not want it for long."""

    def __init__(self, target: link.Link, filtered: DetachFilter | None, on_detached: Callable[[], None]) -> None:
        """Begin at once; ``on_detached`` is called when the detach keys have been typed."""
        self._target, self._filter, self._on_detached = target, filtered, on_detached
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._copy, name="guest-input", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Read no more: what is typed from now on is for somebody else."""
        os.eventfd_write(self._wake, 1)

    def _copy(self) -> None:
        poll = select.poll()
        for descriptor in (STDIN, self._wake):
            poll.register(descriptor, select.POLLIN)
        with contextlib.suppress(OSError):  # the machine has ended
            while self._wake not in {descriptor for descriptor, _ in poll.poll()}:
                data = os.read(STDIN, _CHUNK_BYTES)
                if not data:
                    self._target.send(b"C")
                    return
                if not self._send(data):
                    return

    def _send(self, data: bytes) -> bool:
        try:
            typed = data if self._filter is None else self._filter.feed(data)
        except Detached as detached:
            self._target.send(b"T", detached.typed)
            self._on_detached()
            return False
        if typed:
            self._target.send(b"T", typed)
        return True


def stay_with(machines: Machines, machine: Machine, manner: Manner, *, log_bytes: int) -> int:
    """Show what a machine writes, from ``log_bytes`` of its log on, until it ends, and return its exit code.

    Detaching leaves it running and returns 0.

    Raises:
        SpecError: the detach keys are none.
        LabError: the machine has gone.
    """
    keys = DetachFilter(detach_sequence(manner.keys)) if manner.terminal else None
    with ExitStack() as stack:
        place = Place(machine.directory, log_bytes)
        stack.callback(place.close)
        reader = stack.enter_context(logs.Reader(machine.directory, logs.Wanted(), since=place))
        control = stack.enter_context(contextlib.closing(link.connect(machine.run_directory)))
        link.ask(control, "attach")
        end = _End(control)
        stack.enter_context(_handed_on(control, manner))
        if manner.with_input:
            stack.enter_context(_typing(machine, keys, end.detach))
        pieces = logs.follow(
            reader, machine.directory, ended=end.has_come, process=control.fileno(), until=lambda: None
        )
        write(pieces)
    if end.is_detached:
        return EXIT_OK
    if end.reason:
        output.error(f"machine {machine.name} has ended: {end.reason}", hint=f"lab vm console {machine.name}")
    return end.code if end.code is not None else _code_of_lost(machines, machine)


class _End:
    """The end of being attached: the machine's, or that the user has detached."""

    def __init__(self, control: link.Link) -> None:
        self._control = control
        self._is_over = False
        self.code: int | None = None
        self.reason = ""
        self.is_detached = False

    def has_come(self) -> bool:
        while not self._is_over and self._control.has_frame():
            frame = self._control.receive()
            self._is_over = frame is None or frame[0] == b"D"
            if frame is not None and frame[0] == b"D":
                found = json.loads(frame[1])
                self.code, self.reason = found["code"], found["reason"]
        return self._is_over

    def detach(self) -> None:
        self.is_detached = True
        self._control.hang_up()


def _code_of_lost(machines: Machines, machine: Machine) -> int:
    """Return the exit code of a machine whose keeper ended without a word, after what is left has been put away."""
    state = machines.get(machine.id).state
    if state.exit_code is None:
        raise DomainError(f"the keeper of machine {machine.name} has gone", hint="lab vm ls -a")
    if state.reason:
        raise DomainError(f"machine {machine.name} has ended: {state.reason}", hint=f"lab vm logs {machine.name}")
    return state.exit_code


@contextmanager
def _handed_on(control: link.Link, manner: Manner) -> Iterator[None]:
    """Hand on signals, or the size of the terminal, whose keys are the signals."""

    def send(number: int) -> None:
        with contextlib.suppress(OSError):
            control.send(b"G", encode_count(number))

    if manner.terminal:
        with following_size(_resizing(control)):
            yield
    elif manner.forwards:
        proxy = SignalProxy(send)
        proxy.begin()
        with forwarding_signals(proxy.take):
            yield
    else:
        yield


def _resizing(target: link.Link) -> Callable[[int, int], None]:
    def resize(rows: int, columns: int) -> None:
        with contextlib.suppress(OSError):
            target.send(b"W", encode_size(rows, columns))

    return resize


@contextmanager
def _typing(machine: Machine, keys: DetachFilter | None, on_detached: Callable[[], None]) -> Iterator[None]:
    with ExitStack() as stack:
        # a link of its own: input that a guest does not take holds up whatever comes behind it
        target = stack.enter_context(contextlib.closing(link.connect(machine.run_directory)))
        link.ask(target, "attach")
        if keys is not None:
            stack.enter_context(raw_terminal(STDIN))
        typed = Input(target, keys, on_detached)
        stack.callback(typed.close)
        yield


def stay_with_program(target: link.Link, manner: Manner) -> int:
    """Show what a program in a machine writes until it ends, and return its exit code.

    Raises:
        DomainError: the machine has gone meanwhile.
    """
    keys = DetachFilter(detach_sequence(manner.keys)) if manner.terminal else None
    detached = threading.Event()

    def detach() -> None:
        detached.set()
        target.hang_up()

    with ExitStack() as stack:
        if manner.terminal:
            stack.enter_context(following_size(_resizing(target)))
        if manner.with_input:
            if manner.terminal:
                stack.enter_context(raw_terminal(STDIN))
            typed = Input(target, keys, detach)
            stack.callback(typed.close)
        for kind, payload in target.frames():
            if kind in (b"O", b"E"):
                write([(kind == b"E", payload)])
            elif kind == b"D":
                return int(payload)
            elif kind == b"F":
                raise DomainError(f"the machine has gone: {payload.decode(errors='replace')}")
    return EXIT_OK if detached.is_set() else EXIT_FAILURE
