"""In which order a container is made, whatever is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container import defaults, init_ops, init_plan
from lab.container.defaults import ContainerConfig
from lab.container.options import users
from lab.container.spec.runtime import JOINS, Mount, Process, Spec
from lab.linux import capabilities
from lab.linux import mount as m
from lab.linux import namespaces as ns

MAPPED = users.mappings("private", subuid="", subgid="")
OWN_USERS = {"uid_mappings": MAPPED.uid_mappings, "gid_mappings": MAPPED.gid_mappings}
ROOT = init_plan.OverlayRoot(lower=("/l",), upper="/b/upper", work="/b/work", target="/b/rootfs")
BIND = Mount(destination="/data", type="bind", source="/srv", options=("rbind", "ro"))


def _spec(**changes: object) -> Spec:
    return defaults.spec(ContainerConfig(id="web", args=("/bin/true",), **changes), "/r", ())  # type: ignore[arg-type]


def _config(spec: Spec, **changes: object) -> init_plan.InitConfig:
    return init_plan.InitConfig(spec=spec, root=ROOT, seccomp=b"12345678", **changes)  # type: ignore[arg-type]


def _names(spec: Spec, **changes: object) -> list[str]:
    return [op.name for op in init_plan.plan(_config(spec, **changes))]


FLAGS = st.fixed_dictionaries(
    {},
    optional={
        "user": st.sampled_from(["", "0", "web:staff"]),
        "read_only": st.booleans(),
        "privileged": st.booleans(),
        "no_new_privileges": st.booleans(),
        "terminal": st.booleans(),
        "cwd": st.sampled_from(["/", "/srv"]),
        "pid": st.sampled_from(["private", "host"]),
        "ipc": st.sampled_from(["private", "host", "none"]),
        "network_namespace": st.sampled_from(["private", "host"]),
        "sysctls": st.sampled_from([{}, {"net.core.somaxconn": "1"}]),
        "mounts": st.lists(
            st.sampled_from([BIND, Mount(destination="/data/t", type="tmpfs", source="tmpfs")]), unique=True
        ).map(tuple),
        "uid_mappings": st.sampled_from([(), MAPPED.uid_mappings]),
    },
)


@given(FLAGS, st.booleans())
def test_whatever_is_asked_for_privileges_go_last_and_nothing_of_the_host_is_opened_inside(
    flags: dict[str, object], rootless: bool
) -> None:
    flags["gid_mappings"] = flags.get("uid_mappings", ())
    plan = init_plan.plan(_config(_spec(**flags), rootless=rootless))
    names = [op.name for op in plan]
    assert set(names) - {"mark"} <= set(init_ops.OPERATIONS)
    pivot = next(names.index(name) for name in ("pivot", "pivot_keeping_old_root") if name in names)
    assert not {"open_bind", "join_namespace", "attach_root", "mount_overlay", "join_cgroups"} & set(names[pivot:])
    assert not {"attach_bind", "mount_filesystem", "mask", "make_node"} & set(names[:pivot])
    dropped = names.index("drop_bounding")
    inside = ("mount_filesystem", "mask", "mask_by", "make_read_only", "open_console", "write_sysctl", "set_hostname")
    assert not set(inside) & set(names[dropped:])
    assert names[-1] == "execute"


def test_masks_come_after_mounts_and_sysctls_before_they_cannot_be_written() -> None:
    names = _names(_spec(sysctls={"net.core.somaxconn": "1"}, mounts=(BIND,), read_only=True, cwd="/srv"))
    assert names.index("attach_bind") < names.index("mask") < names.index("make_read_only")
    assert names.index("write_sysctl") < names.index("make_read_only")
    last = len(names) - 1 - names[::-1].index("set_mount_read_only")
    assert names.index("make_working_directory") < last


def test_the_users_are_mapped_before_anything_is_mounted_and_the_hosts_tree_goes_after_proc_and_sys_are_there() -> None:
    spec = _spec(mounts=(BIND,), **OWN_USERS)
    names = _names(spec, task_files=("/t",), users_descriptor=196)
    order = ("join_cgroups", "await_mapping", "unshare_cgroup", "attach_root", "pivot_keeping_old_root", "become_root")
    assert [names.index(name) for name in order] == sorted(names.index(name) for name in order)
    mounted = [number for number, name in enumerate(names) if name in ("mount_filesystem", "attach_bind")]
    assert names.index("become_root") < mounted[0] < mounted[-1] < names.index("leave_old_root")
    assert not {"make_device", "mount_overlay"} & set(names)
    assert init_plan.clone_flags(spec.linux) & ns.CLONE_NEWUSER


def test_what_the_hosts_side_prepares_is_the_map_the_root_and_the_binds() -> None:
    spec = _spec(mounts=(BIND,), **OWN_USERS)
    uid_map, gid_map, deny, root, binds = init_plan.user_setup(_config(spec))
    assert uid_map == gid_map == "0 100000 65536\n"
    assert (deny, root) == (False, (("/l",), "/b/upper", "/b/work", "/b/rootfs", False))
    assert binds == (("/srv", True, m.MOUNT_ATTR_RDONLY, m.MS_PRIVATE, ""),)


def test_an_ordinary_user_mounts_all_by_itself() -> None:
    single = users.single(1000, 1000)
    spec = _spec(mounts=(BIND,), uid_mappings=single.uid_mappings, gid_mappings=single.gid_mappings, rootless=True)
    config = _config(spec, rootless=True)
    assert init_plan.user_setup(config) == ("0 1000 1\n", "0 1000 1\n", True, None, ())
    names = [op.name for op in init_plan.plan(config)]
    assert names.index("mount_own_overlay") < names.index("pivot_keeping_old_root")
    pts = next(str(op) for op in init_plan.plan(config) if "devpts" in str(op))
    assert "gid=5" not in pts  # the group is not mapped


def test_joined_namespaces_are_entered_by_the_identity_of_a_process() -> None:
    spec = _spec(pid=JOINS + "a", ipc=JOINS + "b", network_namespace=JOINS + "a")
    assert init_plan.joins(spec.linux) == {"a", "b"}
    joined = {"a": (10, 100), "b": (20, 200)}
    ops = init_plan.plan(_config(spec, joined=joined))
    entered = [op.arguments for op in ops if op.name == "join_namespace"]
    assert set(entered) == {(20, 200, "ipc", ns.CLONE_NEWIPC), (10, 100, "net", ns.CLONE_NEWNET)}
    assert init_plan.joined_pid_namespace(spec.linux, joined) == (10, 100)
    assert not init_plan.clone_flags(spec.linux) & (ns.CLONE_NEWPID | ns.CLONE_NEWIPC | ns.CLONE_NEWNET)
    assert not init_plan.is_first(spec.linux)
    assert next(op.arguments for op in ops if op.name == "open_bind_of")[1:] == (20, 200, "/dev/shm")


def test_the_name_of_the_host_is_left_alone_in_its_own_namespace() -> None:
    assert "set_hostname" not in _names(_spec(uts="host", hostname="web"))


def test_a_users_null_device_masks_nothing() -> None:
    names = _names(_spec(mounts=(Mount(destination="/dev/null", type="bind", source="/x"),)))
    assert names.index("open_null") < names.index("attach_bind") < names.index("mask_by")
    assert "mask" not in names


@pytest.mark.parametrize(("no_new_privileges", "expected"), [(True, -2), (False, None)])
def test_the_filter_comes_last_where_it_may(no_new_privileges: bool, expected: int | None) -> None:
    names = _names(_spec(no_new_privileges=no_new_privileges))
    if expected is None:
        assert names.index("install_seccomp") < names.index("drop_bounding")
    else:
        assert names[expected] == "install_seccomp"


def test_a_shared_bind_is_opened_while_it_is_still_the_hosts() -> None:
    shared = Mount(destination="/data", type="bind", source="/srv", options=("rbind", "rshared"))
    ops = init_plan.plan(_config(_spec(mounts=(shared,))))
    names = [op.name for op in ops]
    assert names.index("open_bind") < names.index("make_mounts_private")
    assert ops[names.index("open_bind")].arguments[4] == m.MS_SHARED


def test_an_ordinary_users_exec_forks_inside() -> None:
    ops = init_plan.plan_rootless_exec(
        Process(args=("id",), env=("HOME=/",)),
        first=(10, 100),
        flags=ns.CLONE_NEWUSER,
        bounding_set=capabilities.mask(capabilities.NAMES),
        seccomp=b"",
        detached=False,
    )
    assert [op.name for op in ops][:2] == ["enter_and_fork", "become_root"]
    assert ops[0].arguments[:3] == (10, 100, ns.CLONE_NEWUSER)
