"""What happens between clone and exec: one function per step, carried out by name in the child.

They run in the child of a one-threaded process that has imported little more than ctypes: no logging, no threads,
no engine. A step that fails raises ``OSError`` with errno and the path; ``init.py`` reports which step that was.
After ``pivot`` every path is the container's own, so that no symbolic link of an image can lead out of it; what is
needed of the host is opened before, under a descriptor number that the plan chose.
"""

from __future__ import annotations

import marshal
import os
import resource
import stat

from lab.container import user_database, user_namespace
from lab.container.storage import overlay
from lab.linux import capabilities as caps
from lab.linux import libc, mount, namespaces, pidfd, prctl, pty, seccomp, sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_EPERM, _ENOENT, _ENOTDIR, _EINVAL = 1, 2, 20, 22
_SMALL_BYTES = 1 << 20

CONSOLE_MESSAGE = b"t"
"""What comes with the master of a terminal, since a descriptor cannot travel alone."""
_PIPE_BUF = 4096  # what one write puts into a pipe whole, one read takes out whole


# -- where it belongs ------------------------------------------------------------------------------------------------


def await_limits(descriptor: int) -> None:
    """Wait until the engine has set the limits: it makes the cgroups while this process is being cloned.

    Raises:
        OSError: it closed the pipe instead: it could not, and knows why.
    """
    if not os.read(descriptor, 1):
        raise OSError(104, "the limits could not be set", "cgroup")
    os.close(descriptor)


def join_cgroups(task_files: tuple[str, ...]) -> None:
    """Move this one-threaded process into v1 cgroups, given their tasks files; on v2 it is born there."""
    for path in task_files:
        _write(path, b"0")


def unshare_cgroup() -> None:
    """Enter a cgroup namespace whose root is the cgroup that this process is in now."""
    namespaces.unshare(namespaces.CLONE_NEWCGROUP)


def enter_namespaces(descriptor: int, flags: int) -> None:
    """Enter the namespaces of a running container, given a pidfd of its first process."""
    namespaces.setns(descriptor, flags, path="the container's first process")


def join_namespace(pid: int, started_ticks: int, name: str, flag: int) -> None:
    """Enter a namespace of a running process of the host, by the name that it has in /proc/PID/ns.

    Raises:
        ProcessLookupError: the process that has this identity has ended.
    """
    descriptor = pidfd.open_namespace(pid, started_ticks, name)
    namespaces.setns(descriptor, flag, path=f"/proc/{pid}/ns/{name}")
    os.close(descriptor)


def new_session() -> None:
    """Leave the caller's session and process group, and its terminal with them."""
    os.setsid()


# -- the root ----------------------------------------------------------------------------------------------------------


def make_mounts_private() -> None:
    """Keep every mount event of this namespace from the host's."""
    mount.mount("", "/", "", mount.MS_REC | mount.MS_PRIVATE, "")


def mount_overlay(lower: tuple[str, ...], upper: str, work: str, target: str, volatile: bool) -> None:
    """Mount an overlay at ``target``; ``lower`` topmost first. It dies with the mount namespace: nothing is left."""
    overlay.mount_overlay(lower, upper, work, target, volatile)


def open_bind(number: int, source: str, recursive: bool, attributes: int, propagation: int) -> None:
    """Clone the mount at a path of the host, or with ``recursive`` all below it as well, into descriptor ``number``.

    ``attributes`` are MOUNT_ATTR_*, and hold for all of them; ``propagation`` is MS_PRIVATE, MS_SLAVE or MS_SHARED.
    """
    below = mount.AT_RECURSIVE if recursive else 0
    descriptor = mount.open_tree(mount.AT_FDCWD, source, mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | below)
    if attributes or propagation != mount.MS_PRIVATE:
        mount.mount_setattr(descriptor, "", mount.AT_EMPTY_PATH | below, attributes, 0, propagation)
    os.dup2(descriptor, number, inheritable=False)
    os.close(descriptor)


def open_bind_of(number: int, pid: int, started_ticks: int, source: str) -> None:
    """Clone the mount at a path that a running process of the host sees into descriptor ``number``.

    Raises:
        ProcessLookupError: the process that has this identity has ended.
    """
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    join_namespace(pid, started_ticks, "mnt", namespaces.CLONE_NEWNS)
    try:
        open_bind(number, source, False, 0, mount.MS_PRIVATE)
    finally:
        namespaces.setns(own, namespaces.CLONE_NEWNS, path="/proc/self/ns/mnt")
        os.close(own)


def pivot(new_root: str) -> None:
    """Make ``new_root`` the root, and let go of the host's file systems."""
    os.chdir(new_root)
    mount.pivot_root(".", ".")  # stacks the old root on the new one, so that no directory is needed for it
    mount.umount2(".", mount.MNT_DETACH)
    os.chdir("/")


def change_root(new_root: str) -> None:
    """Make ``new_root`` the root of this process alone; the mounts stay the host's (a bare process has no other)."""
    os.chroot(new_root)
    os.chdir("/")


# -- what is in the root -----------------------------------------------------------------------------------------------


def mount_filesystem(fstype: str, source: str, target: str, flags: int, data: str) -> None:
    """Mount a file system of the kernel, and make the directory for it if the image has none."""
    try:
        mount.mount(source, target, fstype, flags, data)
    except FileNotFoundError:
        os.makedirs(target, 0o755)
        mount.mount(source, target, fstype, flags, data)


def require_directories(paths: tuple[str, ...]) -> None:
    """See that none of the paths is a link or a file: what is mounted there has to be where the rules look for it.

    Raises:
        OSError: with the path of one that is; one that is not there is none.
    """
    for path in paths:
        try:
            mode = os.lstat(path).st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(mode):
            raise OSError(_ENOTDIR, "must be mounted on ordinary directory", path)


def mount_tmpfs(target: str, flags: int, data: str) -> None:
    """Mount a tmpfs that the user asked for; without a mode of its own it has that of the image's directory."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        os.makedirs(target, 0o755)
        mode = 0
    mount.mount("tmpfs", target, "tmpfs", flags, data)
    if mode and "mode=" not in data:
        os.chmod(target, stat.S_IMODE(mode))


def make_directory(path: str, mode: int) -> None:
    """Make a directory with exactly this mode."""
    os.mkdir(path, mode)
    os.chmod(path, mode)


def make_device(path: str, major: int, minor: int) -> None:
    """Make a character device that everyone may use."""
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    os.chmod(path, 0o666)  # the umask has taken bits away


def make_node(path: str, kind: str, major: int, minor: int, mode: int, uid: int, gid: int) -> None:
    """Make a device node ("c", "b") or a pipe ("p") with exactly this mode and owner.

    Raises:
        FileExistsError: there is something else already.
    """
    file_type = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}[kind]
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    try:
        os.mknod(path, file_type | mode, os.makedev(major, minor))
    except FileExistsError:
        found = os.lstat(path)
        if (stat.S_IFMT(found.st_mode), found.st_rdev) != (file_type, os.makedev(major, minor)):
            raise
    os.chmod(path, mode)
    os.chown(path, uid, gid)


def make_symlink(target: str, path: str) -> None:
    """Make a symbolic link."""
    os.symlink(target, path)


def open_console(rows: int, columns: int, is_main: bool) -> None:
    """Make a terminal in the container's devpts and take it as streams 0, 1, 2 and as the controlling terminal.

    Standard input is a socket until then, over which the master goes to whoever started this process: one message,
    ``CONSOLE_MESSAGE`` with one descriptor (SCM_RIGHTS). ``container/console.py`` is the other end. The main process's
    terminal (``is_main``) is also the container's /dev/console.
    """
    master, slave = pty.open_pair("/dev/pts/ptmx")
    if rows and columns:
        pty.set_size(slave, rows, columns)
    if is_main:
        _bind_console(slave)
    with sockets.Socket(fileno=os.dup(0)) as channel:
        sockets.send_descriptors(channel, CONSOLE_MESSAGE, (master,))
    os.close(master)
    pty.set_controlling(slave)
    for number in (0, 1, 2):
        os.dup2(slave, number)
    os.close(slave)


def _bind_console(slave: int) -> None:
    os.close(os.open("/dev/console", os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC, 0o600))
    flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_EMPTY_PATH
    cloned = mount.open_tree(slave, "", flags)
    try:
        mount.move_mount(cloned, "", mount.AT_FDCWD, "/dev/console", mount.MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(cloned)


def attach_bind(number: int, destination: str) -> None:
    """Mount what ``open_bind`` has opened; the destination is made, a file or a directory as the source is."""
    _make_destination(destination, is_directory=stat.S_ISDIR(os.fstat(number).st_mode))
    mount.move_mount(number, "", mount.AT_FDCWD, destination, mount.MOVE_MOUNT_F_EMPTY_PATH)
    os.close(number)


def _make_destination(path: str, *, is_directory: bool) -> None:
    if os.path.exists(path):
        return
    path = os.path.realpath(path)  # a link of the image may lead to what it does not have
    os.makedirs(path if is_directory else os.path.dirname(path), 0o755, exist_ok=True)
    if not is_directory:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def mask(path: str) -> None:
    """Hide a path: an empty read-only directory or /dev/null over it; one that is not there needs no hiding."""
    _mask(path, "/dev/null")


def open_null(number: int) -> None:
    """Hold our /dev/null as descriptor ``number`` for ``mask_by``, before the user's mounts may take its place."""
    descriptor = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    os.dup2(descriptor, number, inheritable=False)
    os.close(descriptor)


def mask_by(number: int, path: str) -> None:
    """Hide a path as ``mask`` does, by the null device that ``open_null`` holds."""
    _mask(path, f"/proc/self/fd/{number}")


def _mask(path: str, null: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        mount.mount("tmpfs", path, "tmpfs", mount.MS_RDONLY, "size=0k")
    else:
        mount.mount(null, path, "", mount.MS_BIND, "")


def make_read_only(path: str) -> None:
    """Make what is at a path read-only by a bind mount over itself; one that is not there is left alone."""
    try:
        mount.mount(path, path, "", mount.MS_BIND | mount.MS_REC, "")
    except FileNotFoundError:
        return
    mount.mount_setattr(mount.AT_FDCWD, path, mount.AT_RECURSIVE, mount.MOUNT_ATTR_RDONLY, 0, 0)


def set_mount_read_only(path: str) -> None:
    """Make the mount at a path read-only, and nothing that is mounted below it."""
    mount.mount_setattr(mount.AT_FDCWD, path, 0, mount.MOUNT_ATTR_RDONLY, 0, 0)


def set_hostname(name: str) -> None:
    """Set the host name of the container."""
    namespaces.sethostname(name)


def set_domainname(name: str) -> None:
    """Set the NIS domain name of the container."""
    namespaces.setdomainname(name)


def write_sysctl(path: str, value: str) -> None:
    """Write a kernel parameter, given its file below /proc/sys."""
    _write(path, value.encode())


def set_oom_score_adj(value: int) -> None:
    """Make this process, and what it starts, likelier or less likely to be killed for memory: -1000 to 1000."""
    _write("/proc/self/oom_score_adj", str(value).encode())


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(descriptor)


# -- network -----------------------------------------------------------------------------------------------------------


def raise_loopback() -> None:
    """Raise the loopback: all the network that a container without one has."""
    from lab.container.network import fastpath  # the spawner has imported it already; exec never needs it

    fastpath.loopback_up()


def connect_network(descriptor: int) -> None:
    """Wait until the spawner has made the host's side, then raise loopback and eth0 and give eth0 its address.

    What it sends are the fields of ``model.Attachment``, marshalled: so the plan itself does not depend on an address.

    Raises:
        OSError: it closed the pipe instead: the network could not be made.
    """
    from lab.container.network import fastpath

    fields = os.read(descriptor, _PIPE_BUF)
    if not fields:
        raise OSError(104, "the host's side of the network could not be made", "veth")
    os.close(descriptor)
    fastpath.inside(fastpath.PlainAttachment(marshal.loads(fields)))


# -- what it may do ----------------------------------------------------------------------------------------------------


def set_rlimit(number: int, soft: int, hard: int) -> None:
    """Set a resource limit, given its number in ``resource``."""
    try:
        resource.setrlimit(number, (soft, hard))
    except ValueError as error:  # raised in place of EPERM: above the hard limit without CAP_SYS_RESOURCE
        raise OSError(1, f"{error}: {soft}:{hard}", f"rlimit {number}") from None


def set_no_new_privileges() -> None:
    """Promise that no exec of this process or its children will gain privileges."""
    prctl.prctl(prctl.PR_SET_NO_NEW_PRIVS, 1)


def install_seccomp(program: bytes) -> None:
    """Install the system call filter; while CAP_SYS_ADMIN is still there, so that no_new_privs is not needed."""
    seccomp.install(program, seccomp.SECCOMP_FILTER_FLAG_SPEC_ALLOW)


def drop_bounding(bits: int) -> None:
    """Drop capabilities for good."""
    caps.drop_bounding(bits)


def set_user(uid: int, gid: int, additional_gids: tuple[int, ...], umask: int) -> None:
    """Become a user, groups first, since that needs what the user may lack.

    Where the kernel denies groups, in a user namespace of an ordinary user's, they stay as they are.
    """
    if uid:
        _own_streams(uid)
    try:
        os.setgroups(additional_gids)
    except PermissionError:
        if read_small("/proc/self/setgroups").strip() != "deny":
            raise
    try:
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        reason = "there is no such user in its user namespace" if error.errno == _EINVAL else error.strerror
        raise OSError(error.errno, reason, f"{uid}:{gid}") from None
    os.umask(umask)


def set_named_user(
    user: str, additional_groups: tuple[str, ...], umask: int, sets: tuple[int, int, int, int], keep: bool
) -> None:
    """Become "USER[:GROUP]" as the root's own files have it, with capability ``sets`` if that is root or ``keep``.

    Raises:
        OSError: there is no such user or group.
    """
    passwd, group = read_small("/etc/passwd"), read_small("/etc/group")
    try:
        uid, gid, gids = user_database.identify(user, additional_groups, passwd, group)
    except LookupError as error:
        raise OSError(0, error.args[0]) from None
    if uid and keep:
        keep_capabilities()
    set_user(uid, gid, gids, umask)
    if not uid or keep:
        set_capabilities(*sets)


def read_small(path: str) -> str:
    """Return the text of a file of the image, at most 1 MiB; "" for one that cannot be read or is not a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return os.read(descriptor, _SMALL_BYTES).decode(errors="replace")
    finally:
        os.close(descriptor)


def _own_streams(uid: int) -> None:
    # /dev/stdout is opened anew by path: without this the user may write to its output, but not open it
    for number in (0, 1, 2):
        try:
            if _is_made_for_us(number):
                os.fchown(number, uid, -1)
        except OSError:
            continue  # closed, or not to be given away: then it stays as it is


def _is_made_for_us(number: int) -> bool:
    # a pipe, or a terminal of our own /dev/pts; a file or terminal of the host keeps its owner
    status = os.fstat(number)
    return stat.S_ISFIFO(status.st_mode) or (os.isatty(number) and status.st_dev == os.stat("/dev/pts").st_dev)


def set_capabilities(effective: int, permitted: int, inheritable: int, ambient: int) -> None:
    """Set the capability sets, the ambient one included."""
    caps.capset(effective, permitted, inheritable)
    caps.set_ambient(ambient)


def keep_capabilities() -> None:
    """Keep the permitted set when root becomes another user, until the next exec."""
    prctl.prctl(prctl.PR_SET_KEEPCAPS, 1)


def die_with_spawner() -> None:
    """Be killed when the spawner dies; after the change of user, which would clear it."""
    prctl.prctl(prctl.PR_SET_PDEATHSIG, 9)


def make_working_directory(path: str) -> None:
    """Make the working directory if the image lacks it."""
    os.makedirs(path, 0o755, exist_ok=True)


def change_directory(path: str) -> None:
    """Make ``path`` the working directory.

    Raises:
        OSError: it cannot be, or it lies outside of the root, as /proc/self/fd/N of a host's directory would.
    """
    os.chdir(path)
    if not mount.getcwd().startswith("/"):
        raise OSError(_EPERM, "is outside of the container's root", path)


def execute(arguments: tuple[str, ...], environment: tuple[str, ...], sets_home: bool = False) -> None:
    """Become the program, found in the PATH of ``environment`` unless its name has a slash; never returns.

    With ``sets_home`` HOME is what the root's own /etc/passwd says of the user that this process is.

    Raises:
        FileNotFoundError: no such program (docker's exit code 127).
        OSError: it may not be executed (126).
    """
    libc.signal_default(13)  # Python ignores SIGPIPE and SIGXFSZ, and exec would pass that on
    libc.signal_default(25)
    variables = dict(line.partition("=")[::2] for line in environment)
    if sets_home:
        variables["HOME"] = user_database.home(os.getuid(), read_small("/etc/passwd"))
    failure = FileNotFoundError(_ENOENT, "executable file not found in $PATH", arguments[0])
    for path in _candidates(arguments[0], variables.get("PATH", "")):
        try:
            os.execve(path, arguments, variables)
        except OSError as error:
            if error.errno not in (_ENOENT, _ENOTDIR):
                raise OSError(error.errno, error.strerror, path) from None
            if "/" in arguments[0]:
                failure = FileNotFoundError(_ENOENT, "no such file or directory", path)
    raise failure


def _candidates(program: str, path: str) -> tuple[str, ...]:
    if "/" in program:
        return (program,)
    return tuple(f"{directory or '.'}/{program}" for directory in path.split(":")) if path else ()


_ALL: tuple[Callable[..., None], ...] = (
    await_limits,
    join_cgroups,
    unshare_cgroup,
    enter_namespaces,
    join_namespace,
    new_session,
    make_mounts_private,
    mount_overlay,
    open_bind,
    open_bind_of,
    pivot,
    change_root,
    require_directories,
    mount_filesystem,
    mount_tmpfs,
    make_directory,
    make_device,
    make_node,
    make_symlink,
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
OPERATIONS = {function.__name__: function for function in (*_ALL, *user_namespace.STEPS)}
"""Every step by its name; a plan can hold nothing else."""
