"""The texts of docker's flags become parts of a configuration, or are refused in docker's words."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container import defaults, init_plan
from lab.container.defaults import ContainerConfig
from lab.container.options import devices, limits, mounts, security, users
from lab.container.spec.runtime import Device, DeviceRule, Mount, NamespaceType, Rlimit
from lab.errors import SpecError
from lab.linux import capabilities as caps

EVERYTHING = (1 << len(caps.NAMES)) - 1


def _granted(
    added: tuple[str, ...] = (), dropped: tuple[str, ...] = (), *, privileged: bool = False, bounding: int = EVERYTHING
) -> security.Granted:
    return security.capabilities(added, dropped, privileged=privileged, bounding_set=bounding)


def test_without_flags_the_capabilities_are_dockers() -> None:
    assert set(_granted().names) == set(defaults.CAPABILITIES)


@pytest.mark.parametrize("name", ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_net_admin"])
def test_a_capability_has_its_name_with_and_without_its_prefix(name: str) -> None:
    assert set(_granted((name,)).names) == {*defaults.CAPABILITIES, "CAP_NET_ADMIN"}


def test_dropping_all_leaves_what_is_added() -> None:
    assert _granted(("CHOWN",), ("ALL",)).names == ("CAP_CHOWN",)


def test_adding_all_leaves_out_what_is_dropped() -> None:
    assert set(_granted(("all",), ("MKNOD",)).names) == set(caps.NAMES) - {"CAP_MKNOD"}


def test_what_is_added_and_dropped_is_there() -> None:
    assert "CAP_CHOWN" in _granted(("CHOWN",), ("CHOWN",)).names


def test_what_the_host_lacks_is_left_out_with_a_warning() -> None:
    bounding = EVERYTHING & ~caps.mask(("CAP_SYS_RESOURCE",))
    granted = _granted(privileged=True, bounding=bounding)
    assert set(caps.NAMES) - set(granted.names) == {"CAP_SYS_RESOURCE"}
    assert granted.warnings == ("this host itself lacks CAP_SYS_RESOURCE: the container starts without",)
    assert _granted(bounding=bounding).warnings == ()


@pytest.mark.parametrize(("added", "dropped", "flag"), [(("NO",), (), "CapAdd"), ((), ("NO",), "CapDrop")])
def test_an_unknown_capability_is_named(added: tuple[str, ...], dropped: tuple[str, ...], flag: str) -> None:
    with pytest.raises(SpecError, match=f'invalid {flag}: unknown capability: "CAP_NO"'):
        _granted(added, dropped)


def _options(*values: str) -> security.SecurityOptions:
    return security.security_options(values, read=lambda path: {"p.json": "{}", "bad": "{"}[path])


@pytest.mark.parametrize(
    ("value", "field", "expected"),
    [
        ("no-new-privileges", "no_new_privileges", True),
        ("no-new-privileges:true", "no_new_privileges", True),
        ("no-new-privileges=false", "no_new_privileges", False),
        ("seccomp=unconfined", "seccomp", ""),
        ("seccomp:unconfined", "seccomp", ""),
        ("seccomp=builtin", "seccomp", None),
        ("seccomp=p.json", "seccomp", "{}"),
        ('seccomp={"a": 1}', "seccomp", '{"a": 1}'),
        ("systempaths=unconfined", "unmasked", True),
    ],
)
def test_a_security_option_sets_its_field(value: str, field: str, expected: object) -> None:
    assert getattr(_options(value), field) == expected


def test_apparmor_and_label_are_taken_and_change_nothing() -> None:
    assert _options("apparmor=unconfined", "label=disable", "label=level:s0") == security.SecurityOptions()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nonsense", '^Invalid --security-opt: "nonsense"'),
        ("no-new-privileges=perhaps", 'invalid --security-opt 2: "no-new-privileges=perhaps"'),
        ("systempaths=masked", 'invalid --security-opt 2: "systempaths=masked"'),
        ("seccomp=bad", "compacting json for seccomp profile"),
    ],
)
def test_what_is_no_security_option_is_refused(value: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        _options(value)


def test_a_profile_that_is_not_there_is_named() -> None:
    def read(path: str) -> str:
        raise FileNotFoundError(2, os.strerror(2), path)

    message = r"opening seccomp profile \(/x\) failed: open /x: no such file or directory"
    with pytest.raises(SpecError, match=message):
        security.security_options(("seccomp=/x",), read=read)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nofile=1024", Rlimit(type="RLIMIT_NOFILE", soft=1024, hard=1024)),
        ("nofile=1024:2048", Rlimit(type="RLIMIT_NOFILE", soft=1024, hard=2048)),
        ("CORE=-1", Rlimit(type="RLIMIT_CORE", soft=-1, hard=-1)),
        ("core=0:-1", Rlimit(type="RLIMIT_CORE", soft=0, hard=-1)),
    ],
)
def test_a_ulimit_is_a_limit(text: str, expected: Rlimit) -> None:
    assert limits.ulimit(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nofile", "invalid ulimit argument: nofile"),
        ("files=3", "invalid ulimit type: files"),
        ("nofile=a", 'strconv.ParseInt: parsing "a": invalid syntax'),
        ("nofile=1:2:3", "too many limit value arguments"),
        ("nofile=5:3", "ulimit soft limit must be less than or equal to hard limit: 5 > 3"),
        ("nofile=-1:3", "ulimit soft limit must be less than or equal to hard limit: hard: 3, soft: unlimited"),
        ("nofile=99999999999999999999", "value out of range"),
    ],
)
def test_what_is_no_ulimit_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        limits.ulimit(text)


def test_the_last_ulimit_of_a_name_counts() -> None:
    assert limits.ulimits(("core=1", "nofile=2", "core=3")) == (
        Rlimit(type="RLIMIT_CORE", soft=3, hard=3),
        Rlimit(type="RLIMIT_NOFILE", soft=2, hard=2),
    )


def _sysctls(*texts: str, ipc: bool = True, network: bool = True) -> dict[str, str]:
    return dict(limits.sysctls(texts, own_ipc=ipc, own_network=network))


def test_a_sysctl_of_an_own_namespace_is_taken() -> None:
    given = ("net.ipv4.ip_forward=1", "kernel.shmmax=5", "fs.mqueue.msg_max=9", "net/ipv4/conf/eth0.5/forwarding=1")
    assert _sysctls(*given) == {name: value for name, _, value in (text.partition("=") for text in given)}


@pytest.mark.parametrize(
    "text", ["kernel.core_pattern=x", "vm.swappiness=1", "net..x=1", "net./../kernel/core_pattern=x", "net.ipv4"]
)
def test_a_sysctl_of_the_machine_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="is not allowed"):
        _sysctls(text)


def test_a_sysctl_of_a_namespace_that_is_the_hosts_is_refused() -> None:
    with pytest.raises(SpecError, match="not allowed in host network namespace"):
        _sysctls("net.core.somaxconn=5", network=False)
    with pytest.raises(SpecError, match="is not allowed in the hosts ipc namespace"):
        _sysctls("kernel.shmmax=5", ipc=False)


@given(st.text(max_size=40))
def test_no_sysctl_that_is_taken_leads_out_of_its_directory(name: str) -> None:
    try:
        taken = _sysctls(f"{name}=1")
    except SpecError:
        return
    for each in taken:
        path = os.path.normpath(init_plan.sysctl_file(each))
        assert path.startswith(("/proc/sys/net/", "/proc/sys/kernel/", "/proc/sys/fs/mqueue/"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/dev/x", ("/dev/x", "/dev/x", "rwm")),
        ("/dev/x:/dev/y", ("/dev/x", "/dev/y", "rwm")),
        ("/dev/x:r", ("/dev/x", "/dev/x", "r")),
        ("/dev/x:/dev/y:rw", ("/dev/x", "/dev/y", "rw")),
    ],
)
def test_a_device_has_a_place_and_a_use(text: str, expected: tuple[str, str, str]) -> None:
    request = devices.device(text)
    assert (request.host_path, request.container_path, request.access) == expected


@pytest.mark.parametrize("text", ["", ":/x", "/a:/b:x", "/a:/b:rr", "/a:/b:r:w"])
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"invalid device specification|bad mode specified"):
        devices.device(text)


def test_a_device_of_the_host_is_a_node_and_a_rule() -> None:
    nodes, rules = devices.find(devices.device("/dev/null:/dev/nothing:r"))
    assert (nodes[0].path, nodes[0].type, nodes[0].major, nodes[0].minor) == ("/dev/nothing", "c", 1, 3)
    assert rules == (DeviceRule(allow=True, type="c", major=1, minor=3, access="r"),)


@pytest.mark.parametrize(
    ("path", "reason"), [("/dev/no-such", "no such file or directory"), (__file__, "not a device")]
)
def test_what_is_no_device_of_the_host_is_said(path: str, reason: str) -> None:
    with pytest.raises(SpecError, match=f'adding custom device "{path}": {reason}'):
        devices.find(devices.DeviceRequest(host_path=path, container_path=path))


def test_all_devices_of_the_host_are_nodes_that_are_there() -> None:
    found = devices.all_of_host()
    assert "/dev/null" in {device.path for device in found}
    assert not [device for device in found if device.path.startswith(("/dev/pts", "/dev/shm"))]
    assert all(os.stat(device.path).st_rdev == os.makedev(device.major, device.minor) for device in found)


def test_a_device_rule_is_a_line_of_the_allow_list() -> None:
    assert devices.device_rule("c 42:* rmw") == DeviceRule(allow=True, type="c", major=42, access="rmw")


@pytest.mark.parametrize("text", ["", "c 1:3", "x 1:3 r", "c 1:3 rwmr", "c -1:3 r", "c 1:3 r\n"])
def test_what_is_no_device_rule_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="invalid device cgroup format"):
        devices.device_rule(text)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("/run", ("noexec", "nosuid", "nodev")),
        ("/run:size=64k,mode=700", ("noexec", "nosuid", "nodev", "size=64k", "mode=700")),
        ("/run:exec", ("nosuid", "nodev")),
        ("/run:exec,noexec", ("nosuid", "nodev", "noexec")),
        ("/run:ro,rw", ("noexec", "nosuid", "nodev")),
    ],
)
def test_a_tmpfs_is_safe_unless_told_otherwise(text: str, options: tuple[str, ...]) -> None:
    assert mounts.tmpfs(text) == Mount(destination="/run", type="tmpfs", source="tmpfs", options=options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run", "mount path must be absolute"),
        ("/", "destination can't be '/'"),
        ("/x/..", "destination can't be '/'"),
        ("/run:huge=1", "invalid tmpfs option"),
        ("/proc/sys", "inside /proc"),
        ("/x/../proc/self", "inside /proc"),
    ],
)
def test_what_is_no_tmpfs_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        mounts.tmpfs(text)


def test_a_file_of_proc_that_tells_about_the_machine_may_be_covered() -> None:
    mounts.check_destination("/proc/cpuinfo")


def _spec(**changes: object) -> defaults.Spec:
    return defaults.spec(ContainerConfig(id="web", args=("/bin/true",), **changes), "/r", ())  # type: ignore[arg-type]


def test_a_privileged_container_has_nothing_masked_and_no_filter() -> None:
    spec = _spec(privileged=True)
    assert spec.linux.masked_paths == spec.linux.readonly_paths == ()
    assert not [mount for mount in spec.mounts if "ro" in mount.options]
    assert spec.linux.resources.devices == (DeviceRule(allow=True),)
    assert defaults.seccomp_profile(spec) == ""


def test_a_profile_is_kept_with_the_container() -> None:
    assert defaults.seccomp_profile(_spec()) is None
    assert defaults.seccomp_profile(_spec(seccomp="")) == ""
    assert defaults.seccomp_profile(_spec(seccomp="{}", privileged=True)) == "{}"


def test_outer_mounts_come_first_and_a_users_replaces_the_default() -> None:
    inner = Mount(destination="/app/data/tmp", type="tmpfs", source="tmpfs")
    outer = Mount(destination="/app", type="bind", source="/srv")
    shm = Mount(destination="/dev/shm", type="bind", source="/srv")
    found = [mount.destination for mount in _spec(mounts=(inner, outer, shm)).mounts]
    assert found.index("/app") < found.index("/app/data/tmp")
    assert found.count("/dev/shm") == 1


def test_a_mount_inside_proc_is_refused_wherever_it_comes_from() -> None:
    with pytest.raises(SpecError, match="inside /proc"):
        _spec(mounts=(Mount(destination="/proc/self/attr", type="bind", source="/srv"),))


def test_the_environment_is_dockers() -> None:
    assert _spec(user="0", terminal=True, env=("A=1", "TERM=vt100")).process.env == (
        defaults.PATH,
        "HOSTNAME=web",
        "A=1",
        "TERM=vt100",
    )


def test_a_namespace_of_the_hosts_is_left_out() -> None:
    kinds = {namespace.type for namespace in _spec(pid="host", uts="host", cgroupns="host").linux.namespaces}
    assert kinds == {NamespaceType.MOUNT, NamespaceType.NETWORK, NamespaceType.IPC}


def test_the_size_of_shared_memory_is_said_in_kibibytes() -> None:
    shm = next(mount for mount in _spec(shm_bytes=1 << 20).mounts if mount.destination == "/dev/shm")
    assert "size=1024k" in shm.options


def test_a_device_is_made_in_the_containers_own_dev() -> None:
    spec = _spec(devices=(Device(path="/dev/fuse", type="c", major=10, minor=229),))
    root = init_plan.OverlayRoot(lower=("/l",), upper="/u", work="/w", target="/r")
    names = [str(op) for op in init_plan.plan(init_plan.InitConfig(spec=spec, root=root))]
    assert "make_node('/dev/fuse', 'c', 10, 229, 438, 0, 0)" in names


def test_a_kept_profile_is_plain_json() -> None:
    from lab.container.spec import codec

    document = json.loads(json.dumps(codec.encode(_spec(seccomp='{"x": 1}'))))
    assert codec.decode(defaults.Spec, document) == _spec(seccomp='{"x": 1}')


def _first(subuid: str) -> int:
    return users.mappings("private", subuid=subuid, subgid="").uid_mappings[0].host_id


def test_the_users_of_the_host_are_the_containers_unless_asked_otherwise() -> None:
    assert users.mappings("", subuid="", subgid="") == users.mappings("host", subuid="", subgid="") == users.Mappings()


def test_a_range_of_ids_is_ours_by_name_or_nobodys() -> None:
    assert _first("") == 100_000
    assert _first("alice:100000:65536\nlab:500000:65536\n") == 500_000
    assert _first("lab:500000:5\nalice:100000:65536\n") == 165_536
    assert _first("bob:165000:65536\nalice:100000:1000\n# nobody:x\n") == 230_536


@given(st.lists(st.tuples(st.integers(0, 2**31), st.integers(1, 2**20)), max_size=8))
def test_a_range_that_is_taken_overlaps_no_other(taken: list[tuple[int, int]]) -> None:
    found = _first("".join(f"user:{first}:{size}\n" for first, size in taken))
    assert all(found + users.RANGE_SIZE <= first or found >= first + size for first, size in taken)


@pytest.mark.parametrize("text", ["alice", "alice:1", "alice:x:1", "alice:1:2:3"])
def test_a_line_that_is_no_range_is_said_with_its_place(text: str) -> None:
    with pytest.raises(SpecError, match=r"^/etc/subuid:1: not a range"):
        _first(text)


def test_no_other_mode_of_users_is_taken() -> None:
    with pytest.raises(SpecError, match="invalid USER mode"):
        users.mappings("nomap", subuid="", subgid="")
