"""virtiofsd: the process that serves one directory of the host to one guest.

We start it, not libvirt: so it runs in the guest's cgroups, and what it costs is counted with the guest. It ends with
the connection that it serves; a guest that is killed takes it along.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass

from lab.errors import UnavailableError
from lab.linux import command

_PROGRAMS = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
# As many descriptors as this process may have at all: virtiofsd keeps one for every file that the guest knows.
_JOIN = 'for procs in $0; do echo 0 >"$procs" || exit 1; done; ulimit -n "$(ulimit -H -n)"; exec "$@"'
_END_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareServer:
    """A running virtiofsd and the socket at which it waits for QEMU."""

    process: command.Process
    socket: str

    def stop(self) -> None:
        """End it, by force unless it has ended with its guest, and remove its socket; safe to call twice."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(_END_S)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)


def program() -> str:
    """Return where this host has virtiofsd.

    Raises:
        UnavailableError: it has none.
    """
    for path in _PROGRAMS:
        if os.path.exists(path):
            return path
    raise UnavailableError("virtiofsd is missing", hint="apt install qemu-system-common, or virtiofsd")


def serve(directory: str, path: str, *, cgroup_procs: tuple[str, ...]) -> ShareServer:
    """Serve ``directory`` at the socket ``path``, which is made; it listens when this returns.

    The host's page cache serves every arm alike, so the guest asks the server about all that it has not cached itself
    (cache=auto): what another arm or guest writes is seen.

    Raises:
        UnavailableError: there is no virtiofsd.
        OSError: the socket cannot be made.
    """
    options = f"source={directory},cache=auto,sandbox=chroot"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        argv = (program(), f"--fd={listener.fileno()}", "--rlimit-nofile=0", "-o", options)
        process = command.spawn(
            ("sh", "-c", _JOIN, " ".join(cgroup_procs), *argv), pass_fds=(listener.fileno(),), start_new_session=True
        )
    return ShareServer(process=process, socket=path)
