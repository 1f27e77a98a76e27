"""A container's own user namespace: what the host's side prepares for it, and how its first process takes that over.

Its root is nobody on the host. The process is cloned straight into all of its namespaces, so that they belong to the
new user namespace, and waits; the spawner maps its ids and has a helper, which is still root on the host, mount what a
container's root may not: the overlay on layers that show the image's ids as the container's (ID-mapped mounts, so that
no file is ever changed for it), and the user's binds. They come to the process as descriptors of detached mounts, in
one message.

An ordinary user's engine has nothing to prepare but a map of one id: then the container's root is that user, and mounts
its overlay itself.
"""

from __future__ import annotations

import marshal
import os
import stat

from lab.container import bind_source
from lab.container.storage import overlay
from lab.linux import idmap, mount, prctl, sockets
from lab.linux import namespaces as ns
from lab.linux.pidfd import start_time_ticks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Overlay = tuple[tuple[str, ...], str, str, str, bool]
    """lower, topmost first; upper, work, target, volatile."""
    Bind = tuple[str, bool, int, int, str]
    """source, recursive, attributes, propagation, subpath."""
    Setup = tuple[str, str, bool, Overlay | None, tuple[Bind, ...]]
    """uid map, gid map, whether setgroups is denied, what to mount as the root, and the binds, as plain data."""

_READY, _FAILED = b"r", b"!"
_MESSAGE_BYTES = 4096
_ECONNRESET, _EINVAL = 104, 22
_BY_SIGNAL, _SIGKILL = 128, 9
_RECURSIVE = mount.AT_EMPTY_PATH | mount.AT_RECURSIVE


# -- the host's side, in the spawner ---------------------------------------------------------------------------------


def prepare(pid: int, setup: Setup, channel: sockets.Socket, streams: Iterable[int]) -> None:
    """Map the ids of a process that waits for it at the other end of ``channel``, and send it its mounts.

    What fails is sent as well, for the process to report; ``streams`` become its root's own, so that it can open them.
    """
    uid_map, gid_map, deny_setgroups, root, _ = setup
    try:
        idmap.write_maps(pid, uid_map, gid_map, deny_setgroups=deny_setgroups)
        if root is None:
            channel.send(_READY)
            return
        give_streams(streams, int(uid_map.split()[1]), int(gid_map.split()[1]))
        _mount_in_helper(pid, setup, root, channel)
    except OSError as error:
        _send_failure(channel, error)


def give_streams(streams: Iterable[int], uid: int, gid: int) -> None:
    """Make pipes that are a process's streams its root's own, so that it can open them by name as well."""
    for number in set(streams):
        if stat.S_ISFIFO(os.fstat(number).st_mode):
            os.fchown(number, uid, gid)


def _mount_in_helper(pid: int, setup: Setup, root: Overlay, channel: sockets.Socket) -> None:
    # An overlay takes layers that are attached in its mounter's namespace: the helper has one for the time of it.
    helper, pidfd = ns.clone3(ns.CLONE_NEWNS, -1)
    if not helper:
        try:
            _mount_all(pid, setup, root, channel)
        except OSError as error:
            _send_failure(channel, error)
        finally:
            os._exit(0)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)


def _mount_all(pid: int, setup: Setup, root: Overlay, channel: sockets.Socket) -> None:
    uid_map, gid_map, _, _, binds = setup
    mount.mount("", "/", "", mount.MS_REC | mount.MS_PRIVATE, "")
    users = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    opened = [_clone_bind(bind, users) for bind in binds]
    lower, upper, work, target, volatile = root
    for directory in (*lower, os.path.dirname(upper)):
        _cover(directory, users)
    become(int(uid_map.split()[1]), int(gid_map.split()[1]))
    overlay.mount_overlay(lower, upper, work, target, volatile)
    merged = mount.open_tree(mount.AT_FDCWD, target, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
    sockets.send_descriptors(channel, _READY, (merged, *opened))


def become(uid: int, gid: int) -> None:
    """Take ids that the layers show, and keep all capabilities: an overlay works with its mounter's for ever."""
    prctl.prctl(prctl.PR_SET_SECUREBITS, prctl.SECBIT_NO_SETUID_FIXUP)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _cover(directory: str, users: int) -> None:
    """Mount a directory over itself, with the ids of a user namespace."""
    cloned = mount.open_tree(mount.AT_FDCWD, directory, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC)
    idmap.set_mount(cloned, mount.AT_EMPTY_PATH, users, path=directory)
    mount.move_mount(cloned, "", mount.AT_FDCWD, directory, mount.MOVE_MOUNT_F_EMPTY_PATH)
    os.close(cloned)


def _clone_bind(bind: Bind, users: int) -> int:
    source, recursive, attributes, propagation, subpath = bind
    below = mount.AT_RECURSIVE if recursive else 0
    cloned = bind_source.clone(source, subpath, recursive=recursive)
    show_ids(cloned, below, users, path=source)
    mount.mount_setattr(cloned, "", mount.AT_EMPTY_PATH | below, attributes, 0, propagation)
    return cloned


def show_ids(descriptor: int, below: int, users: int, *, path: str) -> None:
    """Show the files of a detached mount with a user namespace's ids; ``below`` is AT_RECURSIVE or 0."""
    try:
        idmap.set_mount(descriptor, mount.AT_EMPTY_PATH | below, users, path=path)
    except OSError as error:
        if error.errno != _EINVAL:  # a file system that cannot: its files are nobody's in the container
            raise


def _send_failure(channel: sockets.Socket, error: OSError) -> None:
    fields = (error.errno or 0, error.strerror or str(error), str(error.filename or ""))
    channel.send(_FAILED + marshal.dumps(fields))


# -- the container's side: steps between clone and exec ----------------------------------------------------------------


def await_mapping(channel_number: int, first: int, count: int) -> None:
    """Wait until the ids are mapped; the root and the binds, ``count`` in all, become the descriptors from ``first``.

    Raises:
        OSError: what failed on the host's side.
    """
    with sockets.Socket(fileno=channel_number) as channel:
        message, descriptors = sockets.receive_descriptors(channel, _MESSAGE_BYTES, count)
    if message[:1] == _FAILED:
        raise OSError(*marshal.loads(message[1:]))
    if message != _READY or len(descriptors) != count:
        raise OSError(_ECONNRESET, "the spawner did not map the container's ids", "uid_map")
    for number, descriptor in enumerate(descriptors, start=first):
        os.dup2(descriptor, number, inheritable=False)
        os.close(descriptor)


def attach_root(number: int, target: str) -> None:
    """Attach the root file system that the host's side has mounted."""
    mount.move_mount(number, "", mount.AT_FDCWD, target, mount.MOVE_MOUNT_F_EMPTY_PATH)
    os.close(number)


def mount_own_overlay(lower: tuple[str, ...], upper: str, work: str, target: str, volatile: bool) -> None:
    """Mount an overlay as the root of a user namespace, which keeps its marks in attributes that users may set."""
    overlay.mount_overlay(lower, upper, work, target, volatile, user_attributes=True)


def pivot_keeping_old_root(new_root: str) -> None:
    """Make ``new_root`` the root, and keep the old one stacked on it.

    No path leads there; but the kernel lets a user namespace mount /proc and /sys only as long as it has such a mount
    that nothing hides.
    """
    os.chdir(new_root)
    mount.pivot_root(".", ".")
    os.chdir("/")


def leave_old_root() -> None:
    """Let go of the host's file systems."""
    mount.umount2("/", mount.MNT_DETACH)


def become_root(sets_groups: bool) -> None:
    """Become root of the user namespace, with all its capabilities; ``sets_groups`` where that is not denied."""
    if sets_groups:
        os.setgroups(())
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    prctl.prctl(prctl.PR_SET_DUMPABLE, 1)  # which the change took away, and with it what is our own below /proc/self


def enter_and_fork(pid: int, started_ticks: int, flags: int, status_number: int) -> None:
    """Enter the namespaces of a running container and go on in a child there; this process ends as the child ends.

    It keeps nothing of the pipe ``status_number``, whose end means that the child has executed its program.

    Raises:
        ProcessLookupError: the container's first process, known by pid and start, has ended.
    """
    descriptor = os.pidfd_open(pid)
    if start_time_ticks(pid) != started_ticks:
        raise ProcessLookupError(3, "no such process", f"/proc/{pid}")
    os.setsid()
    ns.setns(descriptor, flags | ns.CLONE_NEWPID, path="the container's first process")
    os.close(descriptor)
    child = os.fork()
    if child:
        os.close(status_number)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        os._exit(code if code >= 0 else _BY_SIGNAL - code)
    prctl.prctl(prctl.PR_SET_PDEATHSIG, _SIGKILL)


STEPS: tuple[Callable[..., None], ...] = (
    await_mapping,
    attach_root,
    mount_own_overlay,
    pivot_keeping_old_root,
    leave_old_root,
    become_root,
    enter_and_fork,
)
