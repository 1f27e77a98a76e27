"""What this host can do, each line found by trying; the same answers for `lab doctor`, the harness and the tests.

A check is a name, a group and a function that tries. It never only looks for a file: a namespace is made, an overlay
is written through, a peer runs a container. What a check finds is an ``Availability``, the type that backends answer
with too, so that a test can say ``needs("overlay")`` and ``needs("docker")`` alike.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lab.errors import LabError, SpecError
from lab.linux.features import Feature
from lab.paths import Paths
from lab.target import guest_checks, host_checks, registry, tool_checks
from lab.target.protocol import Closing
from lab.target.spec import Availability


class Group(StrEnum):
    """The headings of the doctor's report, in order."""

    ESSENTIALS = "essentials"
    NAMESPACES = "namespaces"
    CGROUPS = "control groups"
    STORAGE = "file systems"
    SECURITY = "security"
    NETWORK = "network"
    GUESTS = "guests"
    TARGETS = "targets"
    TOOLS = "tools"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing to find out by trying. ``essential`` means that without it nothing can be compared here."""

    name: str
    group: Group
    title: str
    attempt: Callable[[Paths], Availability]
    essential: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A check and what came of it on this host."""

    check: Check
    availability: Availability


def all_checks() -> tuple[Check, ...]:
    """Return every check, grouped, in the order in which they are shown."""
    return (*_HOST_CHECKS, *(_target_check(name) for name in registry.NAMES), *_TOOL_CHECKS)


def find_check(name: str) -> Check:
    """Return the check called ``name``.

    Raises:
        SpecError: there is none; the hint names those that are spelled alike.
    """
    checks = {check.name: check for check in all_checks()}
    if name not in checks:
        near = difflib.get_close_matches(name, checks, n=3)
        raise SpecError(f"unknown check '{name}'", hint=f"did you mean {' or '.join(near)}?" if near else "lab doctor")
    return checks[name]


def examine(check: Check, paths: Paths) -> Finding:
    """Try ``check`` on this host and return what was found; a failure that we foresaw is a finding, not an error."""
    try:
        availability = check.attempt(paths)
    except LabError as error:
        availability = Availability(available=False, reason=str(error), hint=error.hint)
    except OSError as error:
        availability = Availability(available=False, reason=f"{check.title}: {error}")
    except ImportError as error:  # an arm whose Python package is optional, such as libvirt's
        availability = Availability(available=False, reason=str(error), hint="sudo ./lab.sh setup installs it")
    return Finding(check=check, availability=availability)


def examine_all(names: Sequence[str], paths: Paths) -> Iterator[Finding]:
    """Try the checks called ``names``, or every one if there are none, and yield each finding as it is made.

    Raises:
        SpecError: a name is unknown; nothing has been tried then.
    """
    checks = tuple(find_check(name) for name in names) if names else all_checks()
    return (examine(check, paths) for check in checks)


def _feature(wanted: Feature, group: Group, title: str, hint: str, *, essential: bool = True) -> Check:
    attempt = host_checks.feature(wanted, hint)
    return Check(name=wanted.value, group=group, title=title, attempt=attempt, essential=essential)


def _namespace(wanted: Feature, *, essential: bool = True) -> Check:
    kind = wanted.value.partition("-")[0]
    hint = f"boot a kernel with CONFIG_{'NAMESPACES' if kind == 'mount' else f'{kind.upper()}_NS'}"
    if wanted is Feature.USER_NAMESPACE:
        hint = "sysctl -w user.max_user_namespaces=10000 (and kernel.unprivileged_userns_clone=1 where it exists)"
    return _feature(wanted, Group.NAMESPACES, f"a {kind} namespace", hint, essential=essential)


def _controller(name: str) -> Check:
    title = f"a {name} limit on a cgroup of our own"
    attempt = host_checks.controller(name)
    return Check(name=f"cgroup-{name}", group=Group.CGROUPS, title=title, attempt=attempt, essential=True)


def _guest(name: str, title: str, attempt: Callable[[Paths], Availability]) -> Check:
    return Check(name=name, group=Group.GUESTS, title=title, attempt=attempt)


def _tool(name: str, title: str, attempt: Callable[[Paths], Availability]) -> Check:
    return Check(name=name, group=Group.TOOLS, title=title, attempt=attempt)


def _versioned(name: str, flag: str, title: str, package: str) -> Check:
    return _tool(name, title, tool_checks.program(name, flag, package=package))


def _target_check(name: str) -> Check:
    def attempt(paths: Paths) -> Availability:
        backend = registry.open_backend(name, paths)
        try:
            return backend.check()
        finally:
            if isinstance(backend, Closing):  # a check may have started a spawner or a daemon, and asks for no target
                backend.close()

    essential = name in ("process", "container")
    return Check(name=name, group=Group.TARGETS, title=f"target {name}", attempt=attempt, essential=essential)


_HOST_CHECKS = (
    Check(name="root", group=Group.ESSENTIALS, title="running as root", attempt=host_checks.root, essential=True),
    _namespace(Feature.MOUNT_NAMESPACE),
    _namespace(Feature.PID_NAMESPACE),
    _namespace(Feature.NET_NAMESPACE),
    _namespace(Feature.UTS_NAMESPACE),
    _namespace(Feature.IPC_NAMESPACE),
    _namespace(Feature.CGROUP_NAMESPACE),
    _namespace(Feature.USER_NAMESPACE, essential=False),
    _namespace(Feature.TIME_NAMESPACE, essential=False),
    Check(
        name="cgroups",
        group=Group.CGROUPS,
        title="a cgroup hierarchy",
        attempt=host_checks.cgroup_layout,
        essential=True,
    ),
    _controller("cpu"),
    _controller("memory"),
    _controller("pids"),
    _feature(
        Feature.OVERLAY,
        Group.STORAGE,
        "an overlay, written and deleted through",
        "modprobe overlay; or keep the state on ext4, xfs or btrfs: lab --root DIR",
    ),
    _feature(Feature.MOUNT_API, Group.STORAGE, "the new mount API", "boot Linux 5.12 or later", essential=False),
    _feature(Feature.SECCOMP, Group.SECURITY, "a seccomp filter", "boot a kernel with CONFIG_SECCOMP_FILTER"),
    Check(
        name="nftables",
        group=Group.NETWORK,
        title="an nftables table of our own",
        attempt=host_checks.nftables,
    ),
    _feature(Feature.TUN, Group.NETWORK, "a tap device", "modprobe tun", essential=False),
    _guest("qemu", "QEMU answers", guest_checks.qemu),
    _guest("libvirt", "libvirt's driver for QEMU", guest_checks.libvirt),
    _guest("kvm-device", "/dev/kvm opens", guest_checks.kvm_device),
    _guest("kvm-boot", "KVM runs a guest of four instructions", guest_checks.kvm_boot),
    _guest("kvm-linux", "KVM boots the stock Linux guest", guest_checks.kvm_linux),
    _guest("testbed", "QEMU emulates a machine with SVM", guest_checks.testbed),
)

_TOOL_CHECKS = (
    _tool("lab-client", "a compiled client for short commands", tool_checks.command_client),
    _versioned("fio", "--version", "disk workloads", "fio"),
    _versioned("iperf3", "--version", "network workloads", "iperf3"),
    _versioned("mmdebstrap", "--version", "base images", "mmdebstrap"),
    _versioned("mkfs.ext4", "-V", "disks of guests", "e2fsprogs"),
    _versioned("mkfs.erofs", "--help", "read-only disks of guests", "erofs-utils"),
    _versioned("mksquashfs", "-version", "read-only disks of guests", "squashfs-tools"),
    _versioned("qemu-img", "--version", "disks of guests", "qemu-utils"),
    _tool("gcc", "a static program in C", tool_checks.c_compiler),
    _versioned("skopeo", "--version", "images to and from peers", "skopeo"),
    _versioned("docker-compose", "--version", "compose files read by another", "docker-compose"),
    _versioned("docker-registry", "--version", "a registry to test with", "docker-registry"),
    _versioned("dnsmasq", "--version", "DHCP for libvirt networks", "dnsmasq-base"),
    _tool("virtiofsd", "host files in a test's guest", tool_checks.virtiofsd),
    _versioned("shellcheck", "--version", "the lint run", "shellcheck"),
    _tool("chromium", "a page with a script, rendered", tool_checks.browser),
)
