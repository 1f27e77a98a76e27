"""The steps between clone and exec that system calls alone can do: each returns the program of one.

After ``pivot`` every path is the container's own, so that no symbolic link of an image can lead out of it; what is
needed of the host is opened before, under a descriptor number that the plan chose. Steps that need more than calls are
in ``init_ops.py``.
"""

from __future__ import annotations

import os
import stat
import struct

from lab.container import bind_source
from lab.container import program as p
from lab.container.program import Buffer, Filter, Slot, Vector, call
from lab.container.storage import overlay
from lab.linux import capabilities as caps
from lab.linux import mount as m
from lab.linux import namespaces as ns
from lab.linux import prctl, pty, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.container.program import Program

_EPERM, _ENOENT, _EEXIST, _ENOTDIR, _EINVAL, _ECONNRESET = 1, 2, 17, 20, 22, 104
_O_CLOEXEC, _O_WRONLY, _O_NOFOLLOW, _O_PATH = os.O_CLOEXEC, os.O_WRONLY, os.O_NOFOLLOW, os.O_PATH
_SIGPIPE, _SIGXFSZ, _SIGKILL = 13, 25, 9
_TCGETS, _SIOCSIFFLAGS, _IFF_UP = 0x5401, 0x8914, 1
_IFREQ = struct.Struct("=16sh22x")  # a name, flags, and the rest of the union
_RLIMIT = struct.Struct("=QQ")
_DENY = int.from_bytes(b"deny", "little")
_DEFAULT_ACTION = bytes(32)  # struct sigaction, all of it SIG_DFL
_SIGSET_BYTES = 8
_AF_INET, _SOCK_DGRAM_CLOEXEC = 2, 2 | os.O_CLOEXEC

_RESULT, _FOUND, _MODE, _DESCRIPTOR, _CONTEXT = 0, 1, 2, 3, 4  # slots
_MAJOR, _MINOR, _OTHER_MAJOR, _OTHER_MINOR = 5, 6, 7, 8
_MASTER, _SLAVE = 9, 10
_BASE = 11
_UID, _GID, _COUNT = 12, 13, 14
_GROUPS = 1  # a buffer


# -- where it belongs ------------------------------------------------------------------------------------------------


def await_limits(descriptor: int) -> Program:
    """Wait until the engine has set the limits: it makes the cgroups while this process is being cloned."""
    yield call("read", descriptor, Buffer(0), 1, keep=_RESULT, path="cgroup")
    # it closed the pipe instead: it could not set them, and knows why
    yield from p.when(_RESULT, 0, [p.fail(_ECONNRESET, "the limits could not be set", "cgroup")])
    yield call("close", descriptor)


def join_cgroups(task_files: tuple[str, ...]) -> Program:
    """Move this one-threaded process into v1 cgroups, given their tasks files; on v2 it is born there."""
    for path in task_files:
        yield from _write(path, b"0")


def unshare_cgroup() -> Program:
    """Enter a cgroup namespace whose root is the cgroup that this process is in now."""
    yield call("unshare", ns.CLONE_NEWCGROUP)


def enter_namespaces(descriptor: int, flags: int) -> Program:
    """Enter the namespaces of a running container, given a pidfd of its first process."""
    yield call("setns", descriptor, flags, path="the container's first process")


def new_session() -> Program:
    """Leave the caller's session and process group, and its terminal with them."""
    yield call("setsid")


# -- the root ----------------------------------------------------------------------------------------------------------


def make_mounts_private() -> Program:
    """Keep every mount event of this namespace from the host's."""
    yield call("mount", None, "/", None, m.MS_REC | m.MS_PRIVATE, None, path="/")


def mount_overlay(lower: tuple[str, ...], upper: str, work: str, target: str, volatile: bool) -> Program:
    """Mount an overlay at ``target``; ``lower`` topmost first. It dies with the mount namespace: nothing is left."""
    if not overlay.takes_layers_one_by_one():
        options = overlay.classic_options(lower, upper, work, volatile)
        yield call("mount", "overlay", target, "overlay", 0, options, path=target)
        return
    context = Slot(_CONTEXT)
    yield call("fsopen", "overlay", m.FSOPEN_CLOEXEC, keep=_CONTEXT, path="overlay")
    for number, (key, value) in enumerate(overlay.context_options(lower, upper, work)):
        yield from _set_option(context, number, key, value)
    if volatile:
        yield call("fsconfig", context, m.FSCONFIG_SET_FLAG, "volatile", None, 0, path="volatile")
    yield call("fsconfig", context, m.FSCONFIG_CMD_CREATE, None, None, 0, path=target, log=_CONTEXT)
    yield call("fsmount", context, m.FSMOUNT_CLOEXEC, m.MOUNT_ATTR_RELATIME, keep=_DESCRIPTOR)
    yield _attach(Slot(_DESCRIPTOR), target)
    yield call("close", Slot(_DESCRIPTOR))
    yield call("close", context)


def _set_option(context: Slot, number: int, key: str, value: str) -> Program:
    if len(os.fsencode(value)) <= overlay.CONTEXT_STRING_MAX:
        yield call("fsconfig", context, m.FSCONFIG_SET_STRING, key, value, 0, path=f"{key}={value}")
        return
    descriptor = _LONG_PATH_DESCRIPTOR + number
    yield from _open_as(descriptor, value, _O_PATH | os.O_DIRECTORY | _O_CLOEXEC)
    short = f"/proc/self/fd/{descriptor}"
    yield call("fsconfig", context, m.FSCONFIG_SET_STRING, key, short, 0, path=f"{key}={value}")
    yield call("close", descriptor)


_LONG_PATH_DESCRIPTOR = 300


def _open_as(number: int, path: str, flags: int) -> Program:
    yield call("openat", m.AT_FDCWD, path, flags, 0, keep=_DESCRIPTOR, path=path)
    yield call("dup3", Slot(_DESCRIPTOR), number, _O_CLOEXEC)
    yield call("close", Slot(_DESCRIPTOR))


def open_bind(
    number: int, source: str, recursive: bool, attributes: int, propagation: int, subpath: str = ""
) -> Program:
    """Clone the mount at a path of the host, or with ``recursive`` all below it as well, into descriptor ``number``.

    ``attributes`` are MOUNT_ATTR_*, and hold for all of them; ``propagation`` is MS_PRIVATE, MS_SLAVE or MS_SHARED.
    With ``subpath`` only that is cloned, which is looked for beneath ``source`` (see ``bind_source``).
    """
    below = m.AT_RECURSIVE if recursive else 0
    flags = m.OPEN_TREE_CLONE | m.OPEN_TREE_CLOEXEC | below
    if subpath:
        yield from _open_beneath(source, subpath, flags)
    else:
        yield call("open_tree", m.AT_FDCWD, source, flags, keep=_DESCRIPTOR, path=source)
    if attributes or propagation != m.MS_PRIVATE:
        changes = m.attributes(attributes, 0, propagation)
        yield call("mount_setattr", Slot(_DESCRIPTOR), "", m.AT_EMPTY_PATH | below, changes, len(changes))
    yield call("dup3", Slot(_DESCRIPTOR), number, _O_CLOEXEC)
    yield call("close", Slot(_DESCRIPTOR))


def _open_beneath(source: str, subpath: str, flags: int) -> Program:
    path = f"{source}/{subpath}"
    operands = (Slot(_BASE), subpath, bind_source.HOW, len(bind_source.HOW))
    yield call("openat", m.AT_FDCWD, source, _O_PATH | os.O_DIRECTORY | _O_CLOEXEC, 0, keep=_BASE, path=source)
    yield call("openat2", *operands, keep=_FOUND, path=path, reasons=bind_source.REASONS)
    yield call("open_tree", Slot(_FOUND), "", flags | m.AT_EMPTY_PATH, keep=_DESCRIPTOR, path=path)
    yield call("close", Slot(_FOUND))
    yield call("close", Slot(_BASE))


def pivot(new_root: str) -> Program:
    """Make ``new_root`` the root, and let go of the host's file systems."""
    yield call("chdir", new_root, path=new_root)
    yield call("pivot_root", ".", ".", path=new_root)  # stacks the old root on the new one: it needs no directory
    yield call("umount2", ".", m.MNT_DETACH, path=new_root)
    yield call("chdir", "/", path="/")


def change_root(new_root: str) -> Program:
    """Make ``new_root`` the root of this process alone; the mounts stay the host's (a bare process has no other)."""
    yield call("chroot", new_root, path=new_root)
    yield call("chdir", "/", path="/")


# -- what is in the root -----------------------------------------------------------------------------------------------


def mount_filesystem(fstype: str, source: str, target: str, flags: int, data: str) -> Program:
    """Mount a file system of the kernel, and make the directory for it if the image has none."""
    operands = (source or None, target, fstype, flags, data or None)
    yield call("mount", *operands, keep=_RESULT, tolerate=p.tolerated(_ENOENT), path=target)
    again = (p.operation(p.MAKE_DESTINATION, target, 1, path=target), call("mount", *operands, path=target))
    yield from p.when(_RESULT, -_ENOENT, again)


def require_directories(paths: tuple[str, ...]) -> Program:
    """See that none of the paths is a link or a file: what is mounted there has to be where the rules look for it."""
    for path in paths:
        yield from p.look_at(path, mode=_MODE, follow=False)
        wrong = p.fail(_ENOTDIR, "must be mounted on ordinary directory", path)
        yield from p.unless(_MODE, -_ENOENT, p.is_other_format(_MODE, p.DIRECTORY, [wrong]))


def mount_tmpfs(target: str, flags: int, data: str) -> Program:
    """Mount a tmpfs that the user asked for; without a mode of its own it has that of the image's directory."""
    yield from p.look_at(target, mode=_MODE)
    yield from p.when(_MODE, -_ENOENT, [p.operation(p.MAKE_DESTINATION, target, 1, path=target)])
    yield call("mount", "tmpfs", target, "tmpfs", flags, data or None, path=target)
    if "mode=" not in data:
        yield from p.unless(_MODE, -_ENOENT, [call("fchmodat", m.AT_FDCWD, target, Slot(_MODE), path=target)])


def make_directory(path: str, mode: int) -> Program:
    """Make a directory with exactly this mode."""
    yield call("mkdirat", m.AT_FDCWD, path, mode, path=path)
    yield call("fchmodat", m.AT_FDCWD, path, mode, path=path)


def make_device(path: str, major: int, minor: int) -> Program:
    """Make a character device that everyone may use."""
    yield call("mknodat", m.AT_FDCWD, path, stat.S_IFCHR | 0o666, os.makedev(major, minor), path=path)
    yield call("fchmodat", m.AT_FDCWD, path, 0o666, path=path)  # the umask has taken bits away


def make_symlink(target: str, path: str) -> Program:
    """Make a symbolic link."""
    yield call("symlinkat", target, m.AT_FDCWD, path, path=path)


def make_node(path: str, kind: str, major: int, minor: int, mode: int, uid: int, gid: int) -> Program:
    """Make a device node ("c", "b") or a pipe ("p") with exactly this mode and owner; the same one may be there."""
    file_type = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[kind]
    there = p.tolerated(_EEXIST)
    node = (m.AT_FDCWD, path, file_type | mode, os.makedev(major, minor))
    yield p.operation(p.MAKE_DESTINATION, os.path.dirname(path), 1, path=os.path.dirname(path))
    yield call("mknodat", *node, keep=_RESULT, tolerate=there, path=path)
    yield from p.when(_RESULT, -_EEXIST, _require_same(path, file_type, major, minor))
    yield call("fchmodat", m.AT_FDCWD, path, mode, path=path)
    yield call("fchownat", m.AT_FDCWD, path, uid, gid, 0, path=path)


def _require_same(path: str, file_type: int, major: int, minor: int) -> Program:
    other = p.fail(_EEXIST, os.strerror(_EEXIST), path)
    yield from p.look_at(path, mode=_MODE, follow=False)
    yield from p.is_other_format(_MODE, file_type, [other])
    yield from p.load_node(major=_MAJOR, minor=_MINOR)
    yield from p.unless(_MAJOR, major, [other])
    yield from p.unless(_MINOR, minor, [other])


CONSOLE_MESSAGE = b"t"
"""What comes with the master of a terminal, since a descriptor cannot travel alone."""


def open_console(rows: int, columns: int, is_main: bool) -> Program:
    """Make a terminal in the container's devpts and take it as streams 0, 1, 2 and as the controlling terminal.

    Standard input is a socket until then, over which the master goes to whoever started this process: one message,
    ``CONSOLE_MESSAGE`` with one descriptor (SCM_RIGHTS). ``container/console.py`` is the other end. The main process's
    terminal (``is_main``) is also the container's /dev/console. The slave comes from the master, not from a path, so it
    is of the same instance whatever is mounted where.
    """
    flags, master, slave = os.O_RDWR | os.O_NOCTTY | _O_CLOEXEC, Slot(_MASTER), Slot(_SLAVE)
    yield call("openat", m.AT_FDCWD, "/dev/pts/ptmx", flags, 0, keep=_MASTER, path="/dev/pts/ptmx")
    yield call("ioctl", master, pty.TIOCSPTLCK, bytes(4), path="/dev/pts/ptmx")
    yield call("ioctl", master, pty.TIOCGPTPEER, flags, keep=_SLAVE, path="/dev/pts/ptmx")
    if rows and columns:
        yield call("ioctl", slave, pty.TIOCSWINSZ, pty.WINSIZE.pack(rows, columns, 0, 0))
    if is_main:
        yield from _bind_console(slave)
    yield p.operation(p.SEND_DESCRIPTOR, 0, CONSOLE_MESSAGE, master)
    yield call("close", master)
    yield call("ioctl", slave, pty.TIOCSCTTY, 0)
    for number in (0, 1, 2):
        yield call("dup3", slave, number, 0)
    yield call("close", slave)


def _bind_console(slave: Slot) -> Program:
    flags = os.O_CREAT | _O_WRONLY | _O_NOFOLLOW | os.O_NOCTTY | _O_CLOEXEC
    yield call("openat", m.AT_FDCWD, "/dev/console", flags, 0o600, keep=_DESCRIPTOR, path="/dev/console")
    yield call("close", Slot(_DESCRIPTOR))
    cloning = m.OPEN_TREE_CLONE | m.OPEN_TREE_CLOEXEC | m.AT_EMPTY_PATH
    yield call("open_tree", slave, "", cloning, keep=_DESCRIPTOR)
    yield _attach(Slot(_DESCRIPTOR), "/dev/console")
    yield call("close", Slot(_DESCRIPTOR))


def attach_bind(number: int, destination: str) -> Program:
    """Mount what ``open_bind`` has opened; the destination is made, a file or a directory as the source is."""
    yield from p.look_at_descriptor(number, mode=_MODE)
    yield from p.is_format(_MODE, p.DIRECTORY, [p.operation(p.MAKE_DESTINATION, destination, 1, path=destination)])
    file = p.operation(p.MAKE_DESTINATION, destination, 0, path=destination)
    yield from p.is_other_format(_MODE, p.DIRECTORY, [file])
    yield _attach(number, destination)
    yield call("close", number)


def _attach(descriptor: int, path: str) -> p.Instruction:
    return call("move_mount", descriptor, "", m.AT_FDCWD, path, m.MOVE_MOUNT_F_EMPTY_PATH, path=path)


def mask(path: str) -> Program:
    """Hide a path: an empty read-only directory or /dev/null over it; one that is not there needs no hiding."""
    yield from _mask(path, "/dev/null")


def open_null(number: int) -> Program:
    """Hold our /dev/null as descriptor ``number`` for ``mask_by``, before the user's mounts may take its place."""
    yield from _open_as(number, "/dev/null", _O_PATH | _O_NOFOLLOW | _O_CLOEXEC)


def mask_by(number: int, path: str) -> Program:
    """Hide a path as ``mask`` does, by the null device that ``open_null`` holds."""
    yield from _mask(path, f"/proc/self/fd/{number}")


def _mask(path: str, null: str) -> Program:
    yield from p.look_at(path, mode=_MODE)
    empty = call("mount", "tmpfs", path, "tmpfs", m.MS_RDONLY, "size=0k", path=path)
    hidden = call("mount", null, path, None, m.MS_BIND, None, path=path)
    yield from p.is_format(_MODE, p.DIRECTORY, [empty])
    yield from p.unless(_MODE, -_ENOENT, p.is_other_format(_MODE, p.DIRECTORY, [hidden]))


def make_read_only(path: str) -> Program:
    """Make what is at a path read-only by a bind mount over itself; one that is not there is left alone."""
    operands = (path, path, None, m.MS_BIND | m.MS_REC, None)
    yield call("mount", *operands, keep=_RESULT, tolerate=p.tolerated(_ENOENT), path=path)
    yield from p.when(_RESULT, 0, [_set_read_only(path, m.AT_RECURSIVE)])


def set_mount_read_only(path: str) -> Program:
    """Make the mount at a path read-only, and nothing that is mounted below it."""
    yield _set_read_only(path, 0)


def _set_read_only(path: str, flags: int) -> p.Instruction:
    changes = m.attributes(m.MOUNT_ATTR_RDONLY, 0, 0)
    return call("mount_setattr", m.AT_FDCWD, path, flags, changes, len(changes), path=path)


def set_hostname(name: str) -> Program:
    """Set the host name of the container."""
    yield call("sethostname", name, len(name.encode()), path=name)


def set_domainname(name: str) -> Program:
    """Set the NIS domain name of the container."""
    yield call("setdomainname", name, len(name.encode()), path=name)


def write_sysctl(path: str, value: str) -> Program:
    """Write a kernel parameter, given its file below /proc/sys."""
    yield from _write(path, value.encode())


def set_oom_score_adj(value: int) -> Program:
    """Make this process, and what it starts, likelier or less likely to be killed for memory: -1000 to 1000."""
    yield from _write("/proc/self/oom_score_adj", str(value).encode())


def _write(path: str, data: bytes) -> Program:
    yield call("openat", m.AT_FDCWD, path, _O_WRONLY | _O_CLOEXEC, 0, keep=_DESCRIPTOR, path=path)
    yield call("write", Slot(_DESCRIPTOR), data, len(data), path=path)
    yield call("close", Slot(_DESCRIPTOR))


# -- network -----------------------------------------------------------------------------------------------------------


def raise_loopback() -> Program:
    """Raise the loopback: all the network that a container without one has."""
    yield call("socket", _AF_INET, _SOCK_DGRAM_CLOEXEC, 0, keep=_DESCRIPTOR)
    yield call("ioctl", Slot(_DESCRIPTOR), _SIOCSIFFLAGS, _IFREQ.pack(b"lo", _IFF_UP), path="link lo")
    yield call("close", Slot(_DESCRIPTOR))


def connect_network(descriptor: int) -> Program:
    """Wait until the spawner has made the host's side, then do what it says with the links of this namespace.

    What it sends is what ``fastpath.exchanges`` makes: so the plan itself does not depend on an address.
    """
    yield p.operation(p.EXCHANGE, descriptor)


# -- what it may do ----------------------------------------------------------------------------------------------------


def set_rlimit(number: int, soft: int, hard: int) -> Program:
    """Set a resource limit, given its number in ``resource``; -1 is none."""
    infinite = (1 << 64) - 1
    limit = _RLIMIT.pack(*(infinite if value < 0 else value for value in (soft, hard)))
    reason = f"not allowed to raise maximum limit: {soft}:{hard}"  # above the hard one without CAP_SYS_RESOURCE
    yield call("prlimit64", 0, number, limit, None, path=f"rlimit {number}", reasons={_EPERM: reason})


def set_no_new_privileges() -> Program:
    """Promise that no exec of this process or its children will gain privileges."""
    yield _prctl(prctl.PR_SET_NO_NEW_PRIVS, 1)


def install_seccomp(program: bytes) -> Program:
    """Install the system call filter; while CAP_SYS_ADMIN is still there, so that no_new_privs is not needed."""
    flags = seccomp.SECCOMP_FILTER_FLAG_SPEC_ALLOW
    yield call("seccomp", seccomp.SECCOMP_SET_MODE_FILTER, flags, Filter(program), path="filter")


def drop_bounding(bits: int) -> Program:
    """Drop capabilities for good."""
    for number in range(bits.bit_length()):
        if bits >> number & 1:
            yield _prctl(prctl.PR_CAPBSET_DROP, number)


def set_user(uid: int, gid: int, additional_gids: tuple[int, ...], umask: int) -> Program:
    """Become a user, groups first, since that needs what the user may lack.

    Where the kernel denies groups, in a user namespace of an ordinary user's, they stay as they are.
    """
    groups = struct.pack(f"={len(additional_gids)}I", *additional_gids)
    yield from _set_groups(len(additional_gids), groups)
    yield from _own_streams(uid) if uid else ()
    yield from _set_ids(uid, gid, f"{uid}:{gid}")
    yield call("umask", umask)


def set_named_user(
    user: str, additional_groups: tuple[str, ...], umask: int, sets: tuple[int, int, int, int], keep: bool
) -> Program:
    """Become "USER[:GROUP]" as the root's own files have it; root, or all with ``keep``, gets the capability sets.

    It fails without an errno, in docker's words, for a user or group that is not there.
    """
    uid = Slot(_UID)
    yield p.find_user(user, additional_groups, groups=_GROUPS, uid=_UID, gid=_GID, count=_COUNT)
    yield from _set_groups(Slot(_COUNT), Buffer(_GROUPS))  # before another step uses the buffer
    yield from p.unless(_UID, 0, (*_own_streams(uid), *(keep_capabilities() if keep else ())))
    yield from _set_ids(uid, Slot(_GID), user)
    yield call("umask", umask)
    capable = set_capabilities(*sets)
    yield from capable if keep else p.when(_UID, 0, capable)


def _set_groups(count: int, groups: p.Operand) -> Program:
    yield call("setgroups", count, groups, keep=_RESULT, tolerate=p.tolerated(_EPERM))
    yield from p.when(_RESULT, -_EPERM, _require_denied_groups())


def _set_ids(uid: int, gid: int, who: str) -> Program:
    reasons = {_EINVAL: "there is no such user in its user namespace"}
    yield call("setresgid", gid, gid, gid, path=who, reasons=reasons)
    yield call("setresuid", uid, uid, uid, path=who, reasons=reasons)


def _require_denied_groups() -> Program:
    path = "/proc/self/setgroups"
    yield call("openat", m.AT_FDCWD, path, _O_CLOEXEC, 0, keep=_DESCRIPTOR, path=path)
    yield call("read", Slot(_DESCRIPTOR), Buffer(0), p.BUFFER_BYTES, path=path)
    yield call("close", Slot(_DESCRIPTOR))
    yield p.load(0, 0, 4, keep=_MODE)
    yield from p.when(_MODE, _DENY, [p.load_nothing(_RESULT)])
    yield from p.when(_RESULT, -_EPERM, [p.fail(_EPERM, os.strerror(_EPERM), "")])


def _own_streams(uid: int) -> Program:
    # /dev/stdout is opened anew by path: without this the user may write to its output, but not open it. A pipe is made
    # for us, and so is a terminal of our own /dev/pts; a file or terminal of the host keeps its owner.
    yield call("statx", m.AT_FDCWD, "/dev/pts", 0, 0, Buffer(0), keep=_FOUND, tolerate=p.ANY)
    yield from p.when(_FOUND, 0, p.load_device(major=_OTHER_MAJOR, minor=_OTHER_MINOR))
    for number in (0, 1, 2):
        give = call("fchown", number, uid, -1, tolerate=p.ANY)  # one that is not to be given away stays as it is
        yield from p.look_at_descriptor(number, mode=_MODE)
        yield from _give_if_made_for_us(number, give)


def _give_if_made_for_us(number: int, give: p.Instruction) -> Program:
    yield from p.is_format(_MODE, p.FIFO, [give])
    of_ours = p.when(_MAJOR, Slot(_OTHER_MAJOR), p.when(_MINOR, Slot(_OTHER_MINOR), [give]))
    terminal = (
        call("ioctl", number, _TCGETS, Buffer(1), keep=_RESULT, tolerate=p.ANY),
        *p.load_device(major=_MAJOR, minor=_MINOR),
        *p.when(_RESULT, 0, of_ours),
    )
    yield from p.is_format(_MODE, p.CHARACTER, terminal)


def set_capabilities(effective: int, permitted: int, inheritable: int, ambient: int) -> Program:
    """Set the capability sets, the ambient one included."""
    yield call("capset", *caps.capset_arguments(effective, permitted, inheritable), path="capabilities")
    yield _prctl(prctl.PR_CAP_AMBIENT, prctl.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(ambient.bit_length()):
        if ambient >> number & 1:
            yield _prctl(prctl.PR_CAP_AMBIENT, prctl.PR_CAP_AMBIENT_RAISE, number)


def keep_capabilities() -> Program:
    """Keep the permitted set when root becomes another user, until the next exec."""
    yield _prctl(prctl.PR_SET_KEEPCAPS, 1)


def die_with_spawner() -> Program:
    """Be killed when the spawner dies; after the change of user, which would clear it."""
    yield _prctl(prctl.PR_SET_PDEATHSIG, _SIGKILL)


def _prctl(option: int, argument: int, argument3: int = 0) -> p.Instruction:
    return call("prctl", option, argument, argument3, 0, 0, path=f"prctl {option}")


def make_working_directory(path: str) -> Program:
    """Make the working directory if the image lacks it."""
    yield p.operation(p.MAKE_DESTINATION, path, 1, path=path)


def change_directory(path: str) -> Program:
    """Make ``path`` the working directory; it may not lie outside, as /proc/self/fd/N of a host's directory would."""
    yield call("chdir", path, path=path)
    yield call("getcwd", Buffer(0), p.BUFFER_BYTES, path="working directory")
    yield p.load(0, 0, 1, keep=_MODE)
    outside = p.fail(_EPERM, "is outside of the container's root", path)
    yield from p.when(_MODE, ord("("), [outside])  # "(unreachable)/..."


def execute(arguments: tuple[str, ...], environment: tuple[str, ...], sets_home: bool = False) -> Program:
    """Become the program, found in the PATH of ``environment`` unless its name has a slash.

    With ``sets_home`` HOME is what the root's own /etc/passwd says of the user that this process is. It fails with
    ENOENT for no such program (docker's exit code 127), and with another error for one that may not be executed (126).
    """
    for number in (_SIGPIPE, _SIGXFSZ):  # Python ignores both, and exec would pass that on
        yield call("rt_sigaction", number, _DEFAULT_ACTION, None, _SIGSET_BYTES)
    variables = dict(line.partition("=")[::2] for line in environment)
    if sets_home:
        variables.pop("HOME", None)
        yield p.operation(p.FIND_HOME)
    texts = (os.fsencode(f"{name}={value}") for name, value in variables.items())
    vectors = Vector(map(os.fsencode, arguments)), Vector((*texts, *((None,) if sets_home else ())))
    yield p.operation(p.EXECUTING)
    program, missing = arguments[0], p.tolerated(_ENOENT, _ENOTDIR)
    for path in _candidates(program, variables.get("PATH", "")):
        yield call("execve", path, *vectors, tolerate=missing, path=path)
    reason = "no such file or directory" if "/" in program else "executable file not found in $PATH"
    yield p.fail(_ENOENT, reason, program)


def _candidates(program: str, path: str) -> tuple[str, ...]:
    if "/" in program:
        return (program,)
    return tuple(f"{directory or '.'}/{program}" for directory in path.split(":")) if path else ()


_ALL: tuple[Callable[..., Program], ...] = (
    await_limits,
    join_cgroups,
    unshare_cgroup,
    enter_namespaces,
    new_session,
    make_mounts_private,
    mount_overlay,
    open_bind,
    pivot,
    change_root,
    mount_filesystem,
    require_directories,
    mount_tmpfs,
    make_directory,
    make_device,
    make_symlink,
    make_node,
    open_console,
    attach_bind,
    mask,
    open_null,
    mask_by,
    make_read_only,
    set_mount_read_only,
    set_hostname,
    set_domainname,
    write_sysctl,
    set_oom_score_adj,
    raise_loopback,
    connect_network,
    set_rlimit,
    set_no_new_privileges,
    install_seccomp,
    drop_bounding,
    set_user,
    set_named_user,
    set_capabilities,
    keep_capabilities,
    die_with_spawner,
    make_working_directory,
    change_directory,
    execute,
)
PROGRAMS = {function.__name__: function for function in _ALL}
"""The program of every step that calls alone can do, by its name."""
