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

from lab.linux import capabilities as caps
from lab.linux import libc, mount, namespaces, prctl, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ENOENT, _ENOTDIR = 2, 20
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
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"0")
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(descriptor)


def unshare_cgroup() -> None:
    """Enter a cgroup namespace whose root is the cgroup that this process is in now."""
    namespaces.unshare(namespaces.CLONE_NEWCGROUP)


def enter_namespaces(pidfd: int, flags: int) -> None:
    """Enter the namespaces of a running container, given a pidfd of its first process."""
    namespaces.setns(pidfd, flags, path="the container's first process")


def new_session() -> None:
    """Leave the caller's session and process group, and its terminal with them."""
    os.setsid()


# -- the root ----------------------------------------------------------------------------------------------------------


def make_mounts_private() -> None:
    """Keep every mount event of this namespace from the host's."""
    mount.mount("", "/", "", mount.MS_REC | mount.MS_PRIVATE, "")


def mount_overlay(lower: tuple[str, ...], upper: str, work: str, target: str, volatile: bool) -> None:
    """Mount an overlay at ``target``; ``lower`` topmost first. It dies with the mount namespace: nothing is left."""
    if _takes_layers_one_by_one():
        _mount_overlay_by_context(lower, upper, work, target, volatile)
    else:  # all layers are one option, and a string of a context ends at 255 bytes
        mount.mount("overlay", target, "overlay", 0, _overlay_options(lower, upper, work, volatile))


def _takes_layers_one_by_one() -> bool:
    # Not found by trying: before 6.5 the context takes any option, and creating it then complains in the kernel's log.
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int(minor.partition("-")[0])) >= (6, 8)


def _mount_overlay_by_context(lower: tuple[str, ...], upper: str, work: str, target: str, volatile: bool) -> None:
    context = mount.fsopen("overlay", mount.FSOPEN_CLOEXEC)
    try:
        for directory in lower:
            mount.fsconfig_set_string(context, "lowerdir+", directory)
        mount.fsconfig_set_string(context, "upperdir", upper)
        mount.fsconfig_set_string(context, "workdir", work)
        if volatile:
            mount.fsconfig_set_flag(context, "volatile")
        mount.fsconfig_create(context, target)
        _attach_new(context, target, 0)
    finally:
        os.close(context)


def _overlay_options(lower: tuple[str, ...], upper: str, work: str, volatile: bool) -> str:
    layers = ":".join(_escaped(directory) for directory in lower)
    options = f"lowerdir={layers},upperdir={_escaped(upper)},workdir={_escaped(work)}"
    return f"{options},volatile" if volatile else options


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _attach_new(context: int, target: str, attributes: int) -> None:
    descriptor = mount.fsmount(context, mount.FSMOUNT_CLOEXEC, attributes)
    try:
        mount.move_mount(descriptor, "", mount.AT_FDCWD, target, mount.MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(descriptor)


def open_bind(number: int, source: str, read_only: bool) -> None:
    """Clone the mounts at a path of the host into descriptor ``number``; ``read_only`` holds for all below as well."""
    flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | mount.AT_RECURSIVE
    descriptor = mount.open_tree(mount.AT_FDCWD, source, flags)
    if read_only:
        recursive = mount.AT_EMPTY_PATH | mount.AT_RECURSIVE
        mount.mount_setattr(descriptor, "", recursive, mount.MOUNT_ATTR_RDONLY, 0, mount.MS_PRIVATE)
    os.dup2(descriptor, number, inheritable=False)
    os.close(descriptor)


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


def make_directory(path: str, mode: int) -> None:
    """Make a directory with exactly this mode."""
    os.mkdir(path, mode)
    os.chmod(path, mode)


def make_device(path: str, major: int, minor: int) -> None:
    """Make a character device that everyone may use."""
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(major, minor))
    os.chmod(path, 0o666)  # the umask has taken bits away


def make_symlink(target: str, path: str) -> None:
    """Make a symbolic link."""
    os.symlink(target, path)


def attach_bind(number: int, destination: str) -> None:
    """Mount what ``open_bind`` has opened; the destination is made, a file or a directory as the source is."""
    _make_destination(destination, is_directory=stat.S_ISDIR(os.fstat(number).st_mode))
    mount.move_mount(number, "", mount.AT_FDCWD, destination, mount.MOVE_MOUNT_F_EMPTY_PATH)
    os.close(number)


def _make_destination(path: str, *, is_directory: bool) -> None:
    if os.path.exists(path):
        return
    os.makedirs(path if is_directory else os.path.dirname(path), 0o755, exist_ok=True)
    if not is_directory:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def mask(path: str) -> None:
    """Hide a path: an empty read-only directory or /dev/null over it; one that is not there needs no hiding."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        mount.mount("tmpfs", path, "tmpfs", mount.MS_RDONLY, "size=0k")
    else:
        mount.mount("/dev/null", path, "", mount.MS_BIND, "")


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
    """Become a user, groups first, since that needs what the user may lack."""
    os.setgroups(additional_gids)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    os.umask(umask)


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


def change_directory(path: str) -> None:
    """Make ``path`` the working directory, and make it if the image lacks it."""
    try:
        os.chdir(path)
    except FileNotFoundError:
        os.makedirs(path, 0o755)
        os.chdir(path)


def execute(arguments: tuple[str, ...], environment: tuple[str, ...]) -> None:
    """Become the program, found in the PATH of ``environment`` unless its name has a slash; never returns.

    Raises:
        FileNotFoundError: no such program (docker's exit code 127).
        OSError: it may not be executed (126).
    """
    libc.signal_default(13)  # Python ignores SIGPIPE and SIGXFSZ, and exec would pass that on
    libc.signal_default(25)
    variables = dict(line.partition("=")[::2] for line in environment)
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
    new_session,
    make_mounts_private,
    mount_overlay,
    open_bind,
    pivot,
    change_root,
    mount_filesystem,
    make_directory,
    make_device,
    make_symlink,
    attach_bind,
    mask,
    make_read_only,
    set_mount_read_only,
    set_hostname,
    raise_loopback,
    connect_network,
    set_rlimit,
    set_no_new_privileges,
    install_seccomp,
    drop_bounding,
    set_user,
    set_capabilities,
    keep_capabilities,
    die_with_spawner,
    change_directory,
    execute,
)
OPERATIONS = {function.__name__: function for function in _ALL}
"""Every step by its name; a plan can hold nothing else."""
