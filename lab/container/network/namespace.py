"""Network namespaces that have a file: made before a foreign runtime starts, and joined by it through the path.

Our own engine needs none of this: its container's namespace is born with its first process.
"""

from __future__ import annotations

import contextlib
import os
import threading

from lab.container.network import fastpath
from lab.container.network.model import Attachment
from lab.errors import KernelError
from lab.linux import command, mount, namespaces, rtnetlink, sockets


def create(path: str) -> None:
    """Make a network namespace that stays at ``path`` until ``remove``.

    A short-lived program does it: the caller's threads keep their own namespaces.

    Raises:
        KernelError: the kernel refused; nothing is left at ``path``.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    done = command.run(("unshare", f"--net={path}", "--", "true"))
    if done.exit_code != 0:
        os.unlink(path)
        raise KernelError("make network namespace", path, done.error_text, hint="this needs root")


def connect(path: str, attachment: Attachment) -> None:
    """Put the namespace at ``path`` on the bridge of ``attachment``, with its address and default route.

    Raises:
        KernelError: the kernel refused.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fastpath.host_side(attachment, descriptor)
        fastpath.inside(attachment, open_socket_in(descriptor, path))
    except OSError as error:
        subject = error.filename or attachment.bridge
        raise KernelError("connect", f"{path} to {subject}", error.strerror or str(error)) from error
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    """Let go of the namespace at ``path``: the kernel reaps it, its links too, after its last process; safe to repeat.

    Raises:
        OSError: it cannot be unmounted.
    """
    with contextlib.suppress(FileNotFoundError):
        with contextlib.suppress(OSError):  # EINVAL: it was killed between making the file and the namespace
            mount.umount2(path, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
        os.unlink(path)


def open_socket_in(descriptor: int, path: str) -> sockets.Socket:
    """Return an rtnetlink socket of another network namespace.

    A thread of its own enters the namespace and ends: setns(2) moves only the calling thread, and a socket stays where
    it was opened.

    Raises:
        OSError: the namespace cannot be entered.
    """
    result: list[sockets.Socket | OSError] = []

    def enter() -> None:
        try:
            namespaces.setns(descriptor, namespaces.CLONE_NEWNET, path=path)
            result.append(rtnetlink.open_socket())
        except OSError as error:
            result.append(error)

    thread = threading.Thread(target=enter, name="network-namespace")
    thread.start()
    thread.join()
    (answer,) = result
    if isinstance(answer, OSError):
        raise answer
    return answer
