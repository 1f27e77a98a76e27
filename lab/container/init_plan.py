"""A runtime configuration -> the steps from clone to exec, in order; pure.

A step is the name of a function in ``init_calls`` or ``init_ops`` with its arguments: typed when it is planned, plain
data on its way to the spawner, one line when it is printed.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ParamSpec

from lab.container import bind_source
from lab.container import init_calls as calls
from lab.container import init_ops as ops
from lab.container import user_namespace as users
from lab.container.init import MARK, STATUS_NUMBER
from lab.container.spec.runtime import JOINS, Capabilities, IdMapping, Linux, Mount, NamespaceType, Process, Spec
from lab.linux import capabilities as caps
from lab.linux import idmap
from lab.linux import mount as m
from lab.linux import namespaces as ns

if TYPE_CHECKING:
    from lab.container.program import Program

P = ParamSpec("P")

_NULL_DESCRIPTOR = 200
_ROOT_DESCRIPTOR = 201
_FIRST_BIND_DESCRIPTOR = 202
_FIRST_DEVICE_DESCRIPTOR = 900
CLONE_FLAGS = {
    NamespaceType.PID: ns.CLONE_NEWPID,
    NamespaceType.NETWORK: ns.CLONE_NEWNET,
    NamespaceType.MOUNT: ns.CLONE_NEWNS,
    NamespaceType.IPC: ns.CLONE_NEWIPC,
    NamespaceType.UTS: ns.CLONE_NEWUTS,
    NamespaceType.CGROUP: ns.CLONE_NEWCGROUP,
    NamespaceType.USER: ns.CLONE_NEWUSER,
}
_LINKS = {
    NamespaceType.NETWORK: "net",
    NamespaceType.IPC: "ipc",
    NamespaceType.UTS: "uts",
    NamespaceType.CGROUP: "cgroup",
}
_MOUNT_FLAGS = {
    "ro": m.MS_RDONLY,
    "nosuid": m.MS_NOSUID,
    "nodev": m.MS_NODEV,
    "noexec": m.MS_NOEXEC,
    "noatime": m.MS_NOATIME,
    "relatime": m.MS_RELATIME,
    "strictatime": m.MS_STRICTATIME,
}
_MOUNT_ATTRIBUTES = {
    "ro": m.MOUNT_ATTR_RDONLY,
    "nosuid": m.MOUNT_ATTR_NOSUID,
    "nodev": m.MOUNT_ATTR_NODEV,
    "noexec": m.MOUNT_ATTR_NOEXEC,
}
_PROPAGATION = {
    "slave": m.MS_SLAVE,
    "rslave": m.MS_SLAVE,
    "shared": m.MS_SHARED,
    "rshared": m.MS_SHARED,
}
_MOUNTED_ON_DIRECTORIES = frozenset(("/proc", "/sys", "/dev"))
_TTY_GROUP = 5

_DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))
_DEVICE_LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
)


Identity = tuple[int, int]
"""A process of the host: its pid, and when it was started in clock ticks since boot."""


@dataclass(frozen=True, slots=True)
class InitOp:
    """One step: the name of an operation and its arguments, positional."""

    name: str
    arguments: tuple[object, ...]

    @classmethod
    def of(cls, operation: Callable[P, Program | None], *args: P.args, **kwargs: P.kwargs) -> InitOp:
        """Return the step that calls ``operation``; its arguments are checked by type here, and are positional."""
        assert not kwargs
        return cls(operation.__name__, args)

    def __str__(self) -> str:
        """Return one line for --dry-run: "set_hostname('web')"; binary arguments by their size."""
        shown = (f"<{len(value)} bytes>" if isinstance(value, bytes) else repr(value) for value in self.arguments)
        return f"{self.name}({', '.join(shown)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlayRoot:
    """The layers of a root file system, ``lower`` topmost first, and where it is mounted."""

    lower: tuple[str, ...]
    upper: str
    work: str
    target: str
    volatile: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InitConfig:
    """All that the plan depends on.

    ``task_files`` are the tasks files of v1 cgroups, which it joins by itself; ``cgroup_mounts`` are the hierarchies
    that the container sees; ``bounding_set`` is the host's own mask; ``seccomp`` is BPF, empty for no filter;
    ``users_descriptor`` is the channel of ``user_namespace.prepare``, ``rootless`` if the engine is not the host's
    root. ``joined`` are the first processes of the containers that ``joins`` names. ``limits_descriptor`` is where the
    engine says that the limits are set, ``go_descriptor`` where the spawner gives a ``bridged`` container its address,
    once the host's side is there.
    """

    spec: Spec
    root: OverlayRoot
    task_files: tuple[str, ...] = ()
    cgroup_mounts: tuple[Mount, ...] = ()
    bounding_set: int = 0
    seccomp: bytes = b""
    bridged: bool = False
    go_descriptor: int = -1
    limits_descriptor: int = -1
    detached: bool = False
    joined: Mapping[str, Identity] = field(default_factory=dict)
    users_descriptor: int = -1
    rootless: bool = False


def has_users(linux: Linux) -> bool:
    """Return whether the container has a user namespace of its own."""
    return NamespaceType.USER in _new_namespaces(linux)


def is_first(linux: Linux) -> bool:
    """Return whether the container's main process is the first of a pid namespace, with which the rest dies."""
    return NamespaceType.PID in _new_namespaces(linux)


def user_setup(config: InitConfig) -> users.Setup:
    """Return what the host's side prepares for a container with a user namespace of its own."""
    linux, root = config.spec.linux, config.root
    mounted = (root.lower, root.upper, root.work, root.target, root.volatile)
    binds = tuple(bind_arguments(bind) for _, bind in _binds(config.spec))
    return (
        _map(linux.uid_mappings),
        _map(linux.gid_mappings),
        config.rootless,
        None if config.rootless else mounted,
        () if config.rootless else binds,
    )


def _map(mappings: tuple[IdMapping, ...]) -> str:
    return idmap.text((each.container_id, each.host_id, each.size) for each in mappings)


def joins(linux: Linux) -> frozenset[str]:
    """Return the ids of the containers whose namespaces this one joins."""
    paths = (namespace.path for namespace in linux.namespaces)
    return frozenset(path.removeprefix(JOINS) for path in paths if path.startswith(JOINS))


def joined_pid_namespace(linux: Linux, joined: Mapping[str, Identity]) -> Identity | None:
    """Return whose pid namespace the container is to be born in; None for one of its own, or the host's."""
    paths = (namespace.path for namespace in linux.namespaces if namespace.type == NamespaceType.PID)
    return next((joined[path.removeprefix(JOINS)] for path in paths if path.startswith(JOINS)), None)


def clone_flags(linux: Linux) -> int:
    """Return the flags of clone3; the cgroup namespace is entered later, when the process is in its cgroup."""
    return sum(CLONE_FLAGS[kind] for kind in _new_namespaces(linux) - {NamespaceType.CGROUP})


def _new_namespaces(linux: Linux) -> frozenset[NamespaceType]:
    return frozenset(namespace.type for namespace in linux.namespaces if not namespace.path)


def plan(config: InitConfig) -> tuple[InitOp, ...]:
    """Return the steps that make a container out of a process that clone3 has put into new namespaces."""
    return (
        *_plan_cgroups(config),
        InitOp(MARK, ("namespaces",)),
        *(_plan_users_root(config) if has_users(config.spec.linux) else _plan_root(config)),
        *_plan_mounts(config),
        *_plan_terminal(config.spec.process, is_main=True),
        *_plan_protection(config.spec),
        *_plan_network(config),
        InitOp(MARK, ("environment",)),
        *plan_process(config.spec.process, config.bounding_set, config.seccomp, detached=config.detached),
    )


def plan_exec(
    process: Process,
    *,
    task_files: tuple[str, ...],
    pidfd: int,
    flags: int,
    bounding_set: int,
    seccomp: bytes,
    detached: bool = False,
    has_own_users: bool = False,
) -> tuple[InitOp, ...]:
    """Return the steps that bring a new process into a running container, whose first process is ``pidfd``."""
    return (
        InitOp.of(calls.join_cgroups, task_files),
        InitOp.of(calls.enter_namespaces, pidfd, flags),
        *((InitOp.of(users.become_root, True),) if has_own_users else ()),
        InitOp(MARK, ("namespaces",)),
        InitOp.of(calls.new_session),
        *_plan_terminal(process, is_main=False),
        *plan_process(process, bounding_set, seccomp, detached=detached),
    )


def plan_rootless_exec(
    process: Process, *, first: Identity, flags: int, bounding_set: int, seccomp: bytes, detached: bool
) -> tuple[InitOp, ...]:
    """Return the steps of ``plan_exec`` for an ordinary user, whose spawner may not enter a pid namespace.

    The process that the spawner has cloned enters all namespaces of the one that is ``first`` in the container, and
    stands in outside for one that it forks into them.
    """
    return (
        InitOp.of(users.enter_and_fork, *first, flags, STATUS_NUMBER),
        InitOp.of(users.become_root, False),
        InitOp(MARK, ("namespaces",)),
        InitOp.of(calls.new_session),
        *_plan_terminal(process, is_main=False),
        *plan_process(process, bounding_set, seccomp, detached=detached),
    )


def _plan_cgroups(config: InitConfig) -> Iterator[InitOp]:
    if config.limits_descriptor >= 0:
        yield InitOp.of(calls.await_limits, config.limits_descriptor)
    if config.task_files:
        yield InitOp.of(calls.join_cgroups, config.task_files)
    if has_users(config.spec.linux):  # the files of the cgroups were the host's root's: so were we until here
        count = 0 if config.rootless else 1 + len(_binds(config.spec))
        yield InitOp.of(users.await_mapping, config.users_descriptor, _ROOT_DESCRIPTOR, count)
    if NamespaceType.CGROUP in _new_namespaces(config.spec.linux):
        yield InitOp.of(calls.unshare_cgroup)
    for namespace in config.spec.linux.namespaces:
        if namespace.path.startswith(JOINS) and namespace.type != NamespaceType.PID:  # the spawner has entered that one
            name, flag = _LINKS[namespace.type], CLONE_FLAGS[namespace.type]
            yield InitOp.of(ops.join_namespace, *config.joined[namespace.path.removeprefix(JOINS)], name, flag)
    yield InitOp.of(calls.new_session)


def _plan_root(config: InitConfig) -> Iterator[InitOp]:
    root, binds = config.root, _binds(config.spec)
    shared = {number for number, bind in binds if _propagation(bind) != m.MS_PRIVATE}
    yield from (_open_bind(number, bind) for number, bind in binds if number in shared)  # while they are the host's
    for number, bind in binds:
        if bind.source.startswith(JOINS):
            identity = config.joined[bind.source.removeprefix(JOINS)]
            yield InitOp.of(ops.open_bind_of, number, *identity, bind.destination)
    yield InitOp.of(calls.make_mounts_private)
    yield InitOp.of(calls.mount_overlay, root.lower, root.upper, root.work, root.target, root.volatile)
    of_host = ((number, bind) for number, bind in binds if not bind.source.startswith(JOINS))
    yield from (_open_bind(number, bind) for number, bind in of_host if number not in shared)
    yield InitOp.of(calls.pivot, root.target)


def _plan_users_root(config: InitConfig) -> Iterator[InitOp]:
    """Yield the steps to the root in a user namespace, where device nodes are the host's, since none can be made."""
    root = config.root
    for number, name in _device_binds():
        yield InitOp.of(calls.open_bind, number, f"/dev/{name}", False, 0, m.MS_PRIVATE)
    yield InitOp.of(calls.make_mounts_private)
    if config.rootless:
        yield InitOp.of(users.mount_own_overlay, root.lower, root.upper, root.work, root.target, root.volatile)
        yield from (_open_bind(number, bind) for number, bind in _binds(config.spec))
    else:
        yield InitOp.of(users.attach_root, _ROOT_DESCRIPTOR, root.target)
    yield InitOp.of(users.pivot_keeping_old_root, root.target)
    yield InitOp.of(users.become_root, not config.rootless)


def _device_binds() -> Iterator[tuple[int, str]]:
    return enumerate((name for name, _, _ in _DEVICES), start=_FIRST_DEVICE_DESCRIPTOR)


def _open_bind(number: int, bind: Mount) -> InitOp:
    return InitOp.of(calls.open_bind, number, *bind_arguments(bind))


def bind_arguments(bind: Mount) -> users.Bind:
    """Return source, whether it is recursive, MOUNT_ATTR_* and MS_* of propagation, and subpath of a bind."""
    options = bind.options
    attributes, subpath = mount_attributes(options), bind_source.subpath_of(options)
    return bind.source, "bind" not in options, attributes, _propagation(bind), subpath


def mount_attributes(options: Iterable[str]) -> int:
    """Return the MOUNT_ATTR_* that are among the options of a mount."""
    return sum(_MOUNT_ATTRIBUTES[option] for option in set(options) if option in _MOUNT_ATTRIBUTES)


def _propagation(bind: Mount) -> int:
    return next((_PROPAGATION[option] for option in bind.options if option in _PROPAGATION), m.MS_PRIVATE)


def _binds(spec: Spec) -> list[tuple[int, Mount]]:
    binds = [mount for mount in spec.mounts if mount.type == "bind"]
    return list(enumerate(binds, start=_FIRST_BIND_DESCRIPTOR))


def _plan_mounts(config: InitConfig) -> Iterator[InitOp]:
    """Yield what is mounted, in the order of the configuration: where mounts nest, the outer one comes first there."""
    numbers = {id(bind): number for number, bind in _binds(config.spec)}
    yield InitOp.of(calls.require_directories, tuple(_kernel_directories(config.spec)))
    for mount in config.spec.mounts:
        if mount.type == "bind":
            yield InitOp.of(calls.attach_bind, numbers[id(mount)], mount.destination)
            if bind_source.READ_ONLY_TOP in mount.options:
                yield InitOp.of(calls.set_mount_read_only, mount.destination)
        elif mount.type == "cgroup":
            yield from _plan_cgroup_mounts(mount, config.cgroup_mounts)
        elif mount.type == "tmpfs" and not mount.destination.startswith("/dev"):
            yield InitOp.of(calls.mount_tmpfs, mount.destination, *_flags_and_data(mount))
        else:
            yield plan_mount(_with_known_ids(mount, config.spec.linux))
        if mount.destination == "/dev" and mount.type == "tmpfs":
            yield from _plan_own_dev(config.spec)
    if has_users(config.spec.linux):
        yield InitOp.of(users.leave_old_root)


def _with_known_ids(mount: Mount, linux: Linux) -> Mount:
    """Return a mount without the group of its files where the container has no such group."""
    if mount.type != "devpts" or not has_users(linux) or any(each.size > _TTY_GROUP for each in linux.gid_mappings):
        return mount
    return replace(mount, options=tuple(option for option in mount.options if option != f"gid={_TTY_GROUP}"))


def _plan_terminal(process: Process, *, is_main: bool) -> Iterator[InitOp]:
    if process.terminal:
        size = process.console_size
        yield InitOp.of(calls.open_console, size.height, size.width, is_main)


def _kernel_directories(spec: Spec) -> Iterator[str]:
    return (mount.destination for mount in spec.mounts if mount.destination in _MOUNTED_ON_DIRECTORIES)


def _plan_own_dev(spec: Spec) -> Iterator[InitOp]:
    yield from plan_dev() if not has_users(spec.linux) else _plan_users_dev()
    for device in spec.linux.devices:
        numbers = (device.major, device.minor, device.file_mode, device.uid, device.gid)
        yield InitOp.of(calls.make_node, device.path, device.type, *numbers)
    if _users_mount_over_null(spec):
        yield InitOp.of(calls.open_null, _NULL_DESCRIPTOR)


def _plan_users_dev() -> Iterator[InitOp]:
    yield from (InitOp.of(calls.attach_bind, number, f"/dev/{name}") for number, name in _device_binds())
    yield from _plan_dev_links()


def _users_mount_over_null(spec: Spec) -> bool:
    return any(mount.type == "bind" and mount.destination in ("/dev", "/dev/null") for mount in spec.mounts)


def plan_mount(mount: Mount) -> InitOp:
    """Return the step that mounts a file system of the kernel; options are flags or the file system's own."""
    return InitOp.of(calls.mount_filesystem, mount.type, mount.source, mount.destination, *_flags_and_data(mount))


def _flags_and_data(mount: Mount) -> tuple[int, str]:
    flags = sum(_MOUNT_FLAGS[option] for option in mount.options if option in _MOUNT_FLAGS)
    return flags, ",".join(option for option in mount.options if option not in _MOUNT_FLAGS)


def plan_dev() -> Iterator[InitOp]:
    """Yield the steps that fill an empty /dev with what every program may expect."""
    yield from (InitOp.of(calls.make_device, f"/dev/{name}", major, minor) for name, major, minor in _DEVICES)
    yield from _plan_dev_links()


def _plan_dev_links() -> Iterator[InitOp]:
    yield from (InitOp.of(calls.make_symlink, target, path) for target, path in _DEVICE_LINKS)
    yield from (InitOp.of(calls.make_directory, path, mode) for path, mode in _DEVICE_DIRECTORIES)


_DEVICE_DIRECTORIES = (("/dev/pts", 0o755), ("/dev/shm", 0o1777), ("/dev/mqueue", 0o755))


def _plan_cgroup_mounts(parent: Mount, hierarchies: tuple[Mount, ...]) -> Iterator[InitOp]:
    shown = tuple(replace(hierarchy, options=_as_writable(hierarchy, parent)) for hierarchy in hierarchies)
    if any(hierarchy.destination != parent.destination for hierarchy in hierarchies):
        options = ("nosuid", "nodev", "noexec", "mode=755")
        yield plan_mount(Mount(destination=parent.destination, type="tmpfs", source="tmpfs", options=options))
        yield from (plan_mount(hierarchy) for hierarchy in shown)
        if "ro" in parent.options:
            yield InitOp.of(calls.set_mount_read_only, parent.destination)
    else:
        yield from (plan_mount(hierarchy) for hierarchy in shown)


def _as_writable(hierarchy: Mount, parent: Mount) -> tuple[str, ...]:
    """Return a hierarchy's options: read-only where the whole of /sys/fs/cgroup is."""
    kept = tuple(option for option in hierarchy.options if option != "ro")
    return (*kept, "ro") if "ro" in parent.options else kept


def _plan_protection(spec: Spec) -> Iterator[InitOp]:
    yield from (InitOp.of(calls.write_sysctl, sysctl_file(name), value) for name, value in spec.linux.sysctl.items())
    if _users_mount_over_null(spec):
        yield from (InitOp.of(calls.mask_by, _NULL_DESCRIPTOR, path) for path in spec.linux.masked_paths)
    else:
        yield from (InitOp.of(calls.mask, path) for path in spec.linux.masked_paths)
    yield from (InitOp.of(calls.make_read_only, path) for path in spec.linux.readonly_paths)
    if spec.process.cwd != "/":
        yield InitOp.of(calls.make_working_directory, spec.process.cwd)
    if spec.root.readonly:
        yield InitOp.of(calls.set_mount_read_only, "/")
    if NamespaceType.UTS in _new_namespaces(spec.linux):
        yield from _plan_names(spec)


def _plan_names(spec: Spec) -> Iterator[InitOp]:
    if spec.hostname:
        yield InitOp.of(calls.set_hostname, spec.hostname)
    if spec.domainname:
        yield InitOp.of(calls.set_domainname, spec.domainname)


def sysctl_file(name: str) -> str:
    """Return the file of a kernel parameter; "net.ipv4.ip_forward" and "net/ipv4/ip_forward" are the same one.

    As in sysctl(8) the first separator decides, so that "net/ipv4/conf/eth0.5/forwarding" can be said.
    """
    first = next((letter for letter in name if letter in "./"), ".")
    return "/proc/sys/" + (name if first == "/" else name.replace(".", "/"))


def _plan_network(config: InitConfig) -> Iterator[InitOp]:
    if config.bridged:
        yield InitOp.of(calls.connect_network, config.go_descriptor)
    elif NamespaceType.NETWORK in _new_namespaces(config.spec.linux):
        yield InitOp.of(calls.raise_loopback)


def plan_process(process: Process, bounding_set: int, seccomp: bytes, *, detached: bool) -> Iterator[InitOp]:
    """Yield the last steps of init and exec alike: limits, privileges, user, directory, program.

    Without no_new_privs the filter needs CAP_SYS_ADMIN, so it comes before the capabilities go, and what follows is
    allowed by docker's profile; with it, it comes last, so that a profile need only allow what the program does.
    """
    for limit in process.rlimits:
        yield InitOp.of(calls.set_rlimit, int(getattr(resource, limit.type)), limit.soft, limit.hard)
    if process.oom_score_adj is not None:
        yield InitOp.of(calls.set_oom_score_adj, process.oom_score_adj)
    if process.no_new_privileges:
        yield InitOp.of(calls.set_no_new_privileges)
    if seccomp and not process.no_new_privileges:
        yield InitOp.of(calls.install_seccomp, seccomp)
    yield InitOp.of(calls.change_directory, process.cwd)  # while it may: the user may not be let through to it
    yield from _plan_privileges(process, bounding_set)
    if not detached:
        yield InitOp.of(calls.die_with_spawner)
    if seccomp and process.no_new_privileges:
        yield InitOp.of(calls.install_seccomp, seccomp)
    if any(line.startswith("HOME=") for line in process.env):
        yield InitOp.of(calls.execute, process.args, process.env)
    else:
        yield InitOp.of(calls.execute, process.args, process.env, True)


def _plan_privileges(process: Process, bounding_set: int) -> Iterator[InitOp]:
    user, wanted = process.user, process.capabilities
    sets = _masks(wanted, bounding_set)
    yield InitOp.of(calls.drop_bounding, bounding_set & ~caps.mask(wanted.bounding))
    if user.username:
        ambient = bool(wanted.ambient)
        yield InitOp.of(calls.set_named_user, user.username, user.additional_groups, user.umask, sets, ambient)
        return
    if user.uid and wanted.ambient:
        yield InitOp.of(calls.keep_capabilities)
    yield InitOp.of(calls.set_user, user.uid, user.gid, user.additional_gids, user.umask)
    if not user.uid or wanted.ambient:  # any other user has lost them all by becoming one
        yield InitOp.of(calls.set_capabilities, *sets)


def _masks(wanted: Capabilities, bounding_set: int) -> tuple[int, int, int, int]:
    sets = (wanted.effective, wanted.permitted, wanted.inheritable, wanted.ambient)
    effective, permitted, inheritable, ambient = (caps.mask(names) & bounding_set for names in sets)
    return effective, permitted, inheritable, ambient
