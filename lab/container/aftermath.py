"""What follows the end of a container and takes more than the spawner has imported: start it again, or remove it.

The shared spawner runs this file in a process of its own, for one container each time. It decides nothing: whether a
container is to be started again is on disk, in its exit file, and is looked at again under the container's lock. So two
of these at once, or one that was late, do no harm; and one that is killed leaves what a command would leave.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Sequence

from lab.container.containers import Containers
from lab.container.follow_up import TRY_AGAIN
from lab.container.spawner_client import StartFailed
from lab.errors import LabError
from lab.paths import Paths

_PASSES = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)  # what there will be enough of again
_LONGEST_S = 120  # then the kernel ends us: what can hang is a disk or a network file system, and nobody waits for it


def main(arguments: Sequence[str]) -> int:
    """Carry out VERB (a key of ``_VERBS``) on a container: VERB ID ROOT CACHE RUN.

    Returns 0, or ``TRY_AGAIN`` if only something that passes was in the way.
    """
    signal.alarm(_LONGEST_S)
    verb, container_id, root, cache, run = arguments
    with Containers(Paths(root=root, cache=cache, run=run)) as containers:
        try:
            _VERBS[verb](containers, container_id)
        except StartFailed as error:
            if error.errno not in _PASSES:
                raise
            return TRY_AGAIN
    return 0


def _restart(containers: Containers, container_id: str) -> None:
    try:
        containers.start_again(container_id)
    except LabError as error:  # as docker has it: what cannot be started is not tried for ever
        if isinstance(error, StartFailed) and error.errno in _PASSES:
            raise
        with contextlib.suppress(LabError):
            containers.cancel_restart(container_id)


def _remove(containers: Containers, container_id: str) -> None:
    with contextlib.suppress(LabError):  # somebody was faster, or has started it again
        containers.remove(container_id)


def _unmount(containers: Containers, _: str) -> None:
    from lab.container.volumes import mounting  # few have volumes that have to be mounted

    mounting.release_all(containers.paths)


def _stop_unhealthy(containers: Containers, container_id: str) -> None:
    with contextlib.suppress(LabError):
        containers.stop(container_id)


def _restart_unhealthy(containers: Containers, container_id: str) -> None:
    with contextlib.suppress(LabError):
        containers.stop(container_id)
        containers.start(container_id).close()


def _make_slumber(containers: Containers, _: str) -> None:
    from lab.container import compiled, slumber  # once for a spawner

    program = compiled.slumber(containers.paths.cache)
    if program:
        link = os.path.join(containers.paths.run, slumber.PROGRAM_LINK)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{link}.new")
        os.symlink(program, f"{link}.new")
        os.replace(f"{link}.new", link)


def _pack_log(containers: Containers, container_id: str) -> None:
    from lab.container import log_packing  # few logs are compressed

    with contextlib.suppress(OSError):  # a full disk: they stay as they are
        log_packing.pack(containers.engine.directory.bundle(container_id))


def _answer(containers: Containers, _: str) -> None:
    from lab.container import answering  # few networks lose their name servers

    with contextlib.suppress(LabError):  # the next start says why it cannot be started
        answering.answer(containers.paths, containers.all())


_VERBS: dict[str, Callable[[Containers, str], None]] = {
    "restart": _restart,
    "remove": _remove,
    "unmount": _unmount,
    "pack-log": _pack_log,
    "make-slumber": _make_slumber,
    "stop-unhealthy": _stop_unhealthy,
    "restart-unhealthy": _restart_unhealthy,
    "answer": _answer,
}
