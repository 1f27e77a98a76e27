"""The spawner's process: what it settles before it serves one engine or all of a root, and when it ends.

It runs in a bare interpreter: nothing heavy here.
"""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import select
import sys
import time

from lab.container import wire
from lab.container.numbered import Numbered
from lab.container.spawner import Spawner
from lab.linux import pidfd, sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

_IS_SECOND = "again"
_RESTS_AFTER_NS = 5_000_000_000


def main(control_descriptor: int) -> None:
    """Serve the engine at the other end of an inherited socket; never called in a process with threads."""
    _begin_anew_if_compiled()
    _settle()
    own = Spawner()
    own.serve(sockets.Socket(fileno=control_descriptor))
    while own.is_needed:
        own.step()


def main_shared(listening_descriptor: int, paths: tuple[str, str, str]) -> None:
    """Serve all engines of a root (root, cache and run directory) that connect to an inherited, listening socket."""
    _begin_anew_if_compiled()
    _settle()
    listener = sockets.Socket(fileno=listening_descriptor)
    os.set_inheritable(listening_descriptor, False)  # a program of ours that outlives us must not keep it open
    listener.setblocking(False)
    shared = Spawner(paths)
    shared.adopt()
    shared.listen(listener)
    while True:
        if not shared.step(_RESTS_AFTER_NS):
            shared.rest(_IS_SECOND)
        if not shared.is_needed and shared.stays_idle() and _retire(listener, paths[2]):
            return


def _retire(listener: sockets.Socket, run_directory: str) -> bool:
    """Take the socket's name away unless somebody is just connecting; who comes now waits for the lock that we hold."""
    lock = os.open(os.path.join(run_directory, wire.LOCK_NAME), os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = os.path.join(run_directory, wire.SOCKET_NAME)
        os.rename(path, path + ".retired")
        if select.select([listener], [], [], 0)[0]:
            os.rename(path + ".retired", path)
            return False
        os.unlink(path + ".retired")
        return True
    finally:
        os.close(lock)


def _begin_anew_if_compiled() -> None:
    """Execute this very interpreter again if it had to compile what it has imported: the next one need not.

    A compiler leaves memory behind, more than all that we need, in a process that may stay for months.
    """
    if _IS_SECOND in sys.argv:
        return
    ticks_ns = pidfd.start_time_ticks(os.getpid()) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))
    began_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME) + ticks_ns
    if any(_is_newer(module, began_ns) for module in list(sys.modules.values())):
        _compile_rest()
        os.execve("/proc/self/exe", [*sys.orig_argv, _IS_SECOND], {})  # by that path it is still read-only


def _compile_rest() -> None:
    """Import what is only loaded when a container needs it."""
    from lab.container import health, init, terminal_keeper, user_namespace  # noqa: F401

    init.prepare()


def _is_newer(module: ModuleType, began_ns: int) -> bool:
    path = getattr(module, "__cached__", None)
    try:
        return path is not None and os.stat(path).st_mtime_ns > began_ns
    except OSError:  # what it has compiled could not be kept
        return False


def _settle() -> None:
    gc.disable()  # a collection would copy every page that it touches in each child
    gc.freeze()
    os.umask(0o022)  # not its user's: what a container's file system lacks is made for everybody to read
    # A container takes five descriptors, and its own limit is this one: neither is to be that of some user's shell.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard := resource.getrlimit(resource.RLIMIT_NOFILE)[1], hard))
    Numbered.reserve()
