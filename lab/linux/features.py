"""Try what this kernel lets us do, each thing in a child process of its own, so that this one stays as it is.

A child is a fresh interpreter and not a fork: a process with threads may neither fork safely nor make a user or mount
namespace. Its answer is an errno, which becomes the ``OSError`` that the caller would have got itself.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import sys
from collections.abc import Callable
from enum import StrEnum

from lab.linux import command, libc, mount


class Feature(StrEnum):
    """What can be tried."""

    USER_NAMESPACE = "user-namespace"
    MOUNT_NAMESPACE = "mount-namespace"
    PID_NAMESPACE = "pid-namespace"
    NET_NAMESPACE = "net-namespace"
    UTS_NAMESPACE = "uts-namespace"
    IPC_NAMESPACE = "ipc-namespace"
    CGROUP_NAMESPACE = "cgroup-namespace"
    TIME_NAMESPACE = "time-namespace"
    OVERLAY = "overlay"
    MOUNT_API = "mount-api"
    SECCOMP = "seccomp"
    TUN = "tun"


# Flag and link below /proc/self/ns. Source: man clone(2), namespaces(7).
_CLONE_NEWNS = 0x00020000
_NAMESPACES = {
    Feature.USER_NAMESPACE: (0x10000000, "user"),
    Feature.MOUNT_NAMESPACE: (_CLONE_NEWNS, "mnt"),
    Feature.PID_NAMESPACE: (0x20000000, "pid_for_children"),
    Feature.NET_NAMESPACE: (0x40000000, "net"),
    Feature.UTS_NAMESPACE: (0x04000000, "uts"),
    Feature.IPC_NAMESPACE: (0x08000000, "ipc"),
    Feature.CGROUP_NAMESPACE: (0x02000000, "cgroup"),
    Feature.TIME_NAMESPACE: (0x00000080, "time_for_children"),
}
_CHILD = "import sys; from lab.linux import features; features.answer(sys.argv[1], sys.argv[2])"

# Source: man prctl(2), seccomp(2), and struct sock_filter of linux/filter.h.
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_SECCOMP_RET_ERRNO = 0x00050000
_SECCOMP_RET_ALLOW = 0x7FFF0000
_BPF_LD_W_ABS, _BPF_JEQ_K, _BPF_RET_K = 0x20, 0x15, 0x06

# Source: linux/if_tun.h.
_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000


def attempt(feature: Feature, directory: str) -> None:
    """Try ``feature`` in a child; ``directory`` is an empty one on the file system that is asked about.

    Raises:
        OSError: the kernel refused, with errno and what it was about; ENOTSUP if it accepted and then did not do it.
    """
    done = command.run([sys.executable, "-I", "-c", _CHILD, feature.value, directory])
    if done.exit_code == 0:
        return
    number, _, reason = done.text.partition(" ")
    if number.isdigit():
        raise OSError(int(number), reason)
    raise OSError(errno.EIO, f"the trying process died with {done.exit_code}: {done.error_text}")


def answer(feature: str, directory: str) -> None:
    """Be the child: try, write an errno and its text if it fails, and end this process."""
    try:
        _ATTEMPTS[Feature(feature)](directory)
    except OSError as error:
        subject = f": {error.filename}" if error.filename else ""
        os.write(1, f"{error.errno or errno.EIO} {error.strerror}{subject}".encode())
        os._exit(1)
    os._exit(0)


def _namespace(feature: Feature) -> Callable[[str], None]:
    def make(_directory: str) -> None:
        flag, link = _NAMESPACES[feature]
        before = os.readlink(f"/proc/self/ns/{link}")
        libc.syscall("unshare", flag, path=f"/proc/self/ns/{link}")
        # (the link to a namespace that only children will enter cannot be read until there is one)
        if not link.endswith("_for_children") and os.readlink(f"/proc/self/ns/{link}") == before:
            raise OSError(errno.ENOTSUP, f"unshare made no new {link} namespace")
        _enter_by_fork()

    return make


def _enter_by_fork() -> None:
    """Run a child to its end: only children live in a new pid or time namespace."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise OSError(errno.ENOTSUP, f"a process in the new namespace ended with {os.waitstatus_to_exitcode(status)}")


def _private_mounts() -> None:
    libc.syscall("unshare", _CLONE_NEWNS, path="/proc/self/ns/mnt")
    mount.mount("", "/", "", mount.MS_REC | mount.MS_PRIVATE, "")


def _overlay(directory: str) -> None:
    """Write through an overlay, and delete through it: a whiteout is what many file systems cannot hold."""
    _private_mounts()
    lower, upper, work, merged = (os.path.join(directory, name) for name in ("lower", "upper", "work", "merged"))
    for path in (lower, upper, work, merged):
        os.mkdir(path)
    _touch(os.path.join(lower, "old"))
    mount.mount("overlay", merged, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")
    _touch(os.path.join(merged, "new"))
    os.unlink(os.path.join(merged, "old"))
    whiteout = os.lstat(os.path.join(upper, "old"))
    if not stat.S_ISCHR(whiteout.st_mode) or whiteout.st_rdev != 0:
        raise OSError(errno.ENOTSUP, "deleting through the overlay left no whiteout", upper)
    mount.umount2(merged, mount.MNT_DETACH)


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _mount_api(directory: str) -> None:
    _private_mounts()
    context = mount.fsopen("tmpfs", mount.FSOPEN_CLOEXEC)
    mount.fsconfig_set_string(context, "size", "64k")
    mount.fsconfig_create(context, "tmpfs")
    detached = mount.fsmount(context, mount.FSMOUNT_CLOEXEC, mount.MOUNT_ATTR_NOSUID)
    mount.move_mount(detached, "", mount.AT_FDCWD, directory, mount.MOVE_MOUNT_F_EMPTY_PATH)
    mount.mount_setattr(mount.AT_FDCWD, directory, mount.AT_RECURSIVE, mount.MOUNT_ATTR_RDONLY, 0, 0)
    try:
        _touch(os.path.join(directory, "written"))
    except OSError as error:
        if error.errno == errno.EROFS:
            return
        raise
    raise OSError(errno.ENOTSUP, "mount_setattr did not make the mount read-only", directory)


def _seccomp(_directory: str) -> None:
    """Install a filter that refuses one call, make that call, and see it refused."""
    refused = libc.SYSCALL_NUMBERS["unshare"]
    instructions = (
        struct.pack("=HBBI", _BPF_LD_W_ABS, 0, 0, 0),
        struct.pack("=HBBI", _BPF_JEQ_K, 0, 1, refused),
        struct.pack("=HBBI", _BPF_RET_K, 0, 0, _SECCOMP_RET_ERRNO | errno.EXDEV),
        struct.pack("=HBBI", _BPF_RET_K, 0, 0, _SECCOMP_RET_ALLOW),
    )
    code = b"".join(instructions)
    program = struct.pack("@HP", len(instructions), libc.address_of_bytes(code))
    libc.syscall("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.syscall("prctl", _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0)
    try:
        libc.syscall("unshare", 0)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return
    raise OSError(errno.ENOTSUP, "the seccomp filter was installed but does not filter")


def _tun(_directory: str) -> None:
    """Make a tap device that goes away with its descriptor."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    request = struct.pack("16sH22x", b"", _IFF_TAP | _IFF_NO_PI)
    fcntl.ioctl(device, _TUNSETIFF, request)
    os.close(device)


_ATTEMPTS: dict[Feature, Callable[[str], None]] = {
    **{feature: _namespace(feature) for feature in _NAMESPACES},
    Feature.OVERLAY: _overlay,
    Feature.MOUNT_API: _mount_api,
    Feature.SECCOMP: _seccomp,
    Feature.TUN: _tun,
}
