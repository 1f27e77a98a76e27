"""Plans of the engine: limits on every cgroup layout, init steps, filters, documents and messages."""

from __future__ import annotations

import json
import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container import defaults, init_calls, init_ops, init_plan, resources, runtime, seccomp_profile, wire
from lab.container.defaults import ContainerConfig
from lab.container.spawner_client import StartFailed
from lab.container.spec import codec
from lab.container.spec.runtime import Cpu, DeviceRule, Memory, Mount, Pids, Resources, Spec, User
from lab.errors import SpecError
from lab.linux import capabilities, seccomp
from lab.linux.cgroup.layout import CgroupKind, CgroupLayout, Hierarchy

CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
V1 = CgroupLayout(
    kind=CgroupKind.LEGACY,
    hierarchies=tuple(
        Hierarchy(version=1, mount_point=f"/sys/fs/cgroup/{name}", controllers=(name,))
        for name in (*CONTROLLERS, "devices", "freezer")
    ),
)
V2 = CgroupLayout(
    kind=CgroupKind.UNIFIED,
    hierarchies=(Hierarchy(version=2, mount_point="/sys/fs/cgroup", controllers=CONTROLLERS),),
)
HYBRID = CgroupLayout(
    kind=CgroupKind.HYBRID,
    hierarchies=(
        Hierarchy(version=1, mount_point="/sys/fs/cgroup/memory", controllers=("memory",)),
        Hierarchy(version=2, mount_point="/sys/fs/cgroup/unified", controllers=("cpu", "pids")),
    ),
)
LIMITS = Resources(
    memory=Memory(limit=1000, swap=1500), cpu=Cpu(shares=1024, quota=50_000, cpus="0"), pids=Pids(limit=9)
)


def _lines(limits: Resources, layout: CgroupLayout) -> dict[str, str]:
    return {write.file: write.value for write in resources.plan(limits, layout)}


def test_limits_on_v1_are_its_files() -> None:
    assert _lines(LIMITS, V1) == {
        "cpu.shares": "1024",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
        "cpuset.cpus": "0",
        "memory.limit_in_bytes": "1000",
        "memory.memsw.limit_in_bytes": "1500",
        "pids.max": "9",
    }


def test_limits_on_v2_are_its_files_and_swap_is_apart() -> None:
    assert _lines(LIMITS, V2) == {
        "cpu.weight": "39",
        "cpu.max": "50000 100000",
        "cpuset.cpus": "0",
        "memory.max": "1000",
        "memory.swap.max": "500",
        "pids.max": "9",
    }


@pytest.mark.parametrize(("layout", "word"), [(V1, "-1"), (V2, "max")])
def test_minus_one_takes_a_limit_away_on_either_version(layout: CgroupLayout, word: str) -> None:
    unlimited = Resources(memory=Memory(limit=-1, swap=-1), cpu=Cpu(quota=-1), pids=Pids(limit=-1))
    values = {write.file: write.value.split()[0] for write in resources.plan(unlimited, layout)}
    assert values.pop("pids.max") == "max"
    assert values.pop("cpu.cfs_period_us", "100000") == "100000"
    assert set(values.values()) == {word}


def test_swap_without_end_beside_limited_memory_is_max_on_v2() -> None:
    planned = resources.plan(Resources(memory=Memory(limit=1000, swap=-1)), V2)
    assert [(write.file, write.value) for write in planned] == [("memory.max", "1000"), ("memory.swap.max", "max")]


def test_on_a_hybrid_host_each_limit_goes_where_its_controller_lives() -> None:
    assert set(_lines(LIMITS, HYBRID)) == {
        "cpu.weight", "cpu.max", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "pids.max",
    }  # fmt: skip
    assert resources.unenforceable(LIMITS, HYBRID) == ("cpuset",)


def test_no_limit_is_no_line() -> None:
    assert resources.plan(Resources(), V1) == resources.plan(Resources(), V2) == ()


def test_the_device_list_is_denied_first_on_v1() -> None:
    writes = resources.plan(Resources(devices=defaults.DEVICE_RULES), V1)
    assert (writes[0].file, writes[0].value) == ("devices.deny", "a")
    assert ("devices.allow", "c 1:3 rwm") in {(write.file, write.value) for write in writes}


def test_a_device_rule_without_numbers_is_a_star() -> None:
    assert resources.device_line(DeviceRule(allow=True, type="c", major=136)) == "c 136:* rwm"


@given(st.integers(min_value=0, max_value=1_000_000))
def test_every_share_has_a_weight_that_v2_takes(shares: int) -> None:
    assert 1 <= resources.cpu_weight(shares) <= 10_000


def _spec(**changes: object) -> Spec:
    return defaults.spec(ContainerConfig(id="web", args=("/bin/true",), **changes), "/r", ())  # type: ignore[arg-type]


def _plan(spec: Spec, **changes: object) -> list[init_plan.InitOp]:
    root = init_plan.OverlayRoot(lower=("/l",), upper="/u", work="/w", target="/r")
    return list(init_plan.plan(init_plan.InitConfig(spec=spec, root=root, **changes)))  # type: ignore[arg-type]


def test_every_step_of_a_plan_is_a_known_operation_or_a_mark() -> None:
    names = {
        op.name for op in _plan(_spec(), task_files=("/t",), cgroup_mounts=runtime.cgroup_mounts(V1), seccomp=b"x")
    }
    assert names - {"mark"} <= set(init_ops.OPERATIONS)


def test_the_last_step_is_the_exec_and_the_filter_comes_before_capabilities_go() -> None:
    names = [op.name for op in _plan(_spec(), seccomp=b"12345678")]
    assert names[-1] == "execute"
    assert names.index("pivot") < names.index("install_seccomp") < names.index("drop_bounding")
    assert names.index("set_user") < names.index("die_with_spawner")


def test_what_is_the_hosts_is_opened_before_the_root_is_left() -> None:
    bind = Mount(destination="/data", type="bind", source="/srv", options=("ro",))
    names = [op.name for op in _plan(_spec(mounts=(bind,)))]
    assert names.index("open_bind") < names.index("pivot") < names.index("attach_bind")


def test_capabilities_that_the_host_lacks_are_not_asked_for() -> None:
    bounding = capabilities.mask(("CAP_CHOWN", "CAP_SYS_ADMIN"))
    ops = {op.name: op.arguments for op in _plan(_spec(), bounding_set=bounding)}
    assert ops["drop_bounding"] == (capabilities.mask(("CAP_SYS_ADMIN",)),)
    assert ops["set_capabilities"][:2] == (1, 1)


def test_a_detached_container_does_not_die_with_the_spawner() -> None:
    assert "die_with_spawner" not in {op.name for op in _plan(_spec(), detached=True)}


def test_a_network_waits_for_the_hosts_side_and_no_network_is_a_loopback() -> None:
    bridged = _plan(_spec(), bridged=True, go_descriptor=198)
    assert init_plan.InitOp.of(init_calls.connect_network, 198) in bridged
    assert "raise_loopback" in {op.name for op in _plan(_spec())} - {op.name for op in bridged}


def test_v2_shows_one_cgroup_mount_and_v1_one_for_each_hierarchy() -> None:
    assert [mount.type for mount in runtime.cgroup_mounts(V2)] == ["cgroup2"]
    assert {mount.destination for mount in runtime.cgroup_mounts(V1)} >= {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/pids"}


def test_where_nothing_keeps_devices_shut_no_container_may_make_device_nodes() -> None:
    assert runtime.grantable(defaults.CAPABILITIES, V1) == defaults.CAPABILITIES
    assert runtime.grantable(defaults.CAPABILITIES, V2) == defaults.CAPABILITIES
    bare = CgroupLayout(kind=CgroupKind.LEGACY, hierarchies=())
    assert set(defaults.CAPABILITIES) - set(runtime.grantable(defaults.CAPABILITIES, bare)) == {"CAP_MKNOD"}


def test_devices_are_lines_on_v1_and_a_program_wherever_v1_does_not_have_them() -> None:
    limits = Resources(devices=defaults.DEVICE_RULES)
    assert resources.device_program(limits, V1) == b""
    assert resources.device_program(limits, V2) == resources.device_program(limits, HYBRID) != b""
    assert resources.device_program(Resources(), V2) == b""
    assert not [write for write in resources.plan(limits, V2) if write.controller == "devices"]


def test_a_step_prints_as_one_line_without_its_binary_arguments() -> None:
    assert str(init_plan.InitOp.of(init_calls.set_hostname, "web")) == "set_hostname('web')"
    assert str(init_plan.InitOp.of(init_calls.install_seccomp, bytes(16))) == "install_seccomp(<16 bytes>)"


def test_the_plan_survives_the_way_to_the_spawner() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        plan = tuple((op.name, op.arguments) for op in _plan(_spec(), seccomp=bytes(8)))
        wire.send(ours, ("spawn", plan), (0, 1))
        received = wire.receive(theirs, bytearray(wire.MAX_MESSAGE_BYTES))
    assert received is not None
    assert received[0] == ("spawn", plan)
    for descriptor in received[1]:
        os.close(descriptor)
    assert len(received[1]) == 2


@given(st.lists(st.tuples(st.text(), st.integers(min_value=-(2**63), max_value=2**63)), max_size=5), st.integers(1, 7))
def test_answers_can_come_in_any_pieces(messages: list[tuple[str, int]], size: int) -> None:
    read_end, write_end = os.pipe()
    for message in messages:
        wire.answer(write_end, message)
    os.close(write_end)
    buffer, seen = bytearray(), []
    while data := os.read(read_end, size):
        buffer += data
        while (answer := wire.parse(buffer)) is not None:
            seen.append(answer)
    os.close(read_end)
    assert seen == messages


def test_an_oci_document_is_camel_case_and_comes_back_the_same() -> None:
    spec = _spec(resources=LIMITS, mounts=(Mount(destination="/x", type="bind", source="/y", options=("ro",)),))
    document = json.loads(json.dumps(codec.encode(spec)))
    assert document["ociVersion"] == "1.0.2"
    assert document["linux"]["maskedPaths"][0] == "/proc/asound"
    assert document["linux"]["resources"]["memory"] == {"limit": 1000, "swap": 1500}
    assert codec.decode(Spec, document) == spec


def test_an_unknown_key_is_ignored_and_a_missing_one_is_not() -> None:
    assert codec.decode(User, {"uid": 5, "nickname": "x"}) == User(uid=5)
    with pytest.raises(TypeError):
        codec.decode(Spec, {"root": {"path": "/"}})


HOST = seccomp_profile.Host(machine="x86_64", kernel=(6, 1))


def _rules(*names: str) -> dict[str, list[seccomp_profile.Rule]]:
    profile = json.loads(seccomp_profile.default_profile())
    found: dict[str, list[seccomp_profile.Rule]] = {}
    for rule in seccomp_profile.select(profile, frozenset(names), HOST):
        found.setdefault(rule.name, []).append(rule)
    return found


@pytest.mark.parametrize(
    "name", ["keyctl", "add_key", "request_key", "mount", "unshare", "setns", "bpf", "reboot", "kexec_load"]
)
def test_the_default_profile_does_not_allow_what_docker_denies(name: str) -> None:
    assert name not in _rules(*defaults.CAPABILITIES)


@pytest.mark.parametrize(
    "name", ["read", "openat", "execve", "futex", "ptrace", "chroot", "statx", "openat2", "epoll_pwait2"]
)
def test_the_default_profile_allows_what_docker_allows(name: str) -> None:
    assert name in _rules(*defaults.CAPABILITIES)


def test_a_capability_opens_its_calls() -> None:
    rules = _rules("CAP_SYS_ADMIN")
    assert {"mount", "unshare", "setns", "clone3"} <= set(rules)
    assert "chroot" not in rules
    assert rules["clone3"][0].action == seccomp.SCMP_ACT_ALLOW


def test_clone3_is_said_not_to_exist_and_clone_may_not_make_namespaces() -> None:
    rules = _rules(*defaults.CAPABILITIES)
    assert rules["clone3"][0].action == seccomp.SCMP_ACT_ERRNO | 38
    assert rules["clone"][0].comparisons == ((0, seccomp.SCMP_CMP_MASKED_EQ, 0x7E020000, 0),)


def test_what_is_no_profile_is_the_users_error() -> None:
    with pytest.raises(SpecError, match="not a seccomp profile"):
        seccomp_profile.compile_profile('{"defaultAction": "SCMP_ACT_MAYBE", "syscalls": []}', frozenset(), HOST)


@pytest.mark.parametrize(
    ("step", "errno", "code"), [("execute", 2, 127), ("execute", 13, 126), ("mount_overlay", 2, 125)]
)
def test_a_failed_start_has_dockers_exit_code(step: str, errno: int, code: int) -> None:
    assert StartFailed(step, errno, "why", "/x").exit_code == code
