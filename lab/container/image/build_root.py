"""The files of a stage as they stand: an overlay of its layers, seen by the thread that asked for it only.

A thread that works on a stage has a mount namespace of its own, so that what it mounts goes with it, however it ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lab.container import user_database
from lab.container.image.build_select import resolve
from lab.container.storage.snapshots import Overlay, mount_overlay, unmount
from lab.errors import ContainerError
from lab.linux import mount, namespaces


@contextmanager
def mounted(layers: Sequence[str], work: str) -> Iterator[tuple[str, str]]:
    """Give the root directory of ``layers``, lowest first, and the directory that what is written to it ends up in.

    The second one stays, below ``work``, when the block ends.
    """
    directory = tempfile.mkdtemp(dir=work)
    upper, overlay_work, root, bottom = (os.path.join(directory, name) for name in ("upper", "work", "root", "bottom"))
    for path in (upper, overlay_work, root, bottom):
        os.mkdir(path, 0o755)
    lower = tuple(reversed(layers)) or (bottom,)
    mount_overlay(Overlay(lower=lower, upper=upper, work=overlay_work, volatile=True), root)
    try:
        yield root, upper
    finally:
        unmount(root)


def enter_own_mounts() -> None:
    """Give the calling thread a mount namespace of its own: nothing gets out of it, what is shared still gets in.

    Raises:
        OSError: with errno; it needs root.
    """
    namespaces.unshare(namespaces.CLONE_NEWNS)
    mount.mount("", "/", "", mount.MS_REC | mount.MS_SLAVE, "")


def owner_of(root: str, name: str) -> tuple[int, int]:
    """Return the uid and gid that ``--chown`` means in the root file system at ``root``.

    Raises:
        ContainerError: its files know no such user or group.
    """
    try:
        uid, gid, _ = user_database.identify(name, (), _text(root, "etc/passwd"), _text(root, "etc/group"))
    except LookupError as error:
        raise ContainerError(f"--chown={name}: {error}") from None
    alone = ":" not in name and name.isdecimal()
    return uid, uid if alone else gid  # as docker: a lone number stands for both


def exists(root: str, path: str) -> bool:
    """Return whether ``path`` leads to something in the root file system at ``root``."""
    try:
        resolve(root, path)
    except OSError:
        return False
    return True


def _text(root: str, path: str) -> str:
    try:
        with open(resolve(root, path), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""
