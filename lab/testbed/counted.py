"""A machine that counts instructions: a new one for each command, from its power-on to the command's end.

Only so is the same command the same to the nanosecond: whatever comes from outside, a byte on a port or a block from a
disk, comes at a time of the host's choosing. So the command lies in the initramfs, every disk is memory, and the ports
are used when all is over.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time

from lab.errors import DomainError
from lab.testbed import initramfs, process, tree
from lab.testbed.channel import Take, connected
from lab.testbed.parts import Parts
from lab.units import NS_PER_S
from lab.vm import cache
from lab.vm.guest_agent import GuestCommand, encode_command

_PREFIX = "counted-"
_DAY_NS = 24 * 3600 * NS_PER_S


def run(parent: str, made: Parts, command: GuestCommand, *, memory_bytes: int, out: Take, err: Take) -> tuple[int, int]:
    """Run a command in a machine of its own; return its exit code, and its time in virtual nanoseconds.

    Its output comes at its end. ``parent`` gets the machine's directory, which is removed.

    Raises:
        DomainError: the machine does not boot, or the command could not be started.
    """
    directory = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
    try:
        packed = tree.pack(command.cwd, sorted(tree.manifest(command.cwd)))
        image = initramfs.with_orders(made.counted_initramfs, encode_command(command), packed)
        path = os.path.join(directory, "initramfs.cpio")
        cache.write_file(path, image)
        machine = made.counted_machine(directory, path, memory_bytes=memory_bytes)
        process.start(machine)
        with connected(machine.port(0)) as channel:
            try:
                channel.greet(answering=True, deadline_ns=time.monotonic_ns() + _DAY_NS)
            except (DomainError, TimeoutError) as error:
                raise DomainError(f"the deterministic machine failed: {error}{process.last_lines(machine)}") from error
            return channel.follow(command.argv[0], stdin=None, out=out, err=err)
    finally:
        process.end(directory)
        cache.remove(directory)


def end_all(parent: str) -> None:
    """End the machines that commands have left behind in ``parent`` when they were killed.

    Raises:
        DomainError: one does not end.
    """
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(parent):
            if name.startswith(_PREFIX):
                process.end(os.path.join(parent, name))
