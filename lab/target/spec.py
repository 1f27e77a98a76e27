"""What a target is asked to be, and what comes back from it: frozen nouns, no behaviour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class NetworkMode(StrEnum):
    """How a target is connected."""

    NONE = "none"  # a loopback of its own (a process: nothing is listened on)
    BRIDGE = "bridge"  # reachable from the host by TCP at Target.endpoint()


class MarkName(StrEnum):
    """An instant in the life of a target, in the order in which they can happen.

    Arms that cannot see an instant leave it out; a phase reaches from one mark that is there to the next,
    so the phases of a trial always add up to its total.
    """

    REQUESTED = "requested"  # the harness called start()
    SPAWNED = "spawned"  # the isolating program exists: clone returned, the runtime or the VMM runs
    NAMESPACES = "namespaces"  # the namespaces exist and the first process runs in them
    ENVIRONMENT = "environment"  # root and devices are in place | the first vCPU is about to run
    KERNEL = "kernel"  # a guest kernel has been entered
    USERSPACE = "userspace"  # the payload's exec succeeded | first byte of a guest's init
    READY = "ready"  # the payload says so (first byte of its output), or its service answers
    STOP_REQUESTED = "stop_requested"  # the harness called stop()
    GONE = "gone"  # no process of the target is left


MarkSink = Callable[[MarkName, int | None], None]
"""Called by a target when a mark happens: ``sink(name, at_ns)``.

``at_ns`` is on the host's CLOCK_MONOTONIC, stamped where it happened; None asks the harness to stamp now.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run inside a target; the same for every arm."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    stdin: bytes = b""
    timeout_ns: int = 60_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What a command left behind. No times: the harness holds the clock.

    ``exit_code`` is 128+n after death by signal n. ``target_elapsed_ns`` is a *difference* on the target's own
    monotonic clock around the command, where the arm can tell, else None.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes
    target_elapsed_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a target may use; every arm enforces the same.

    ``vcpus`` is whole processors' worth of CPU time (cgroup quota, or number of virtual CPUs);
    ``memory_bytes`` is the cgroup's limit, or the guest's memory; ``pids`` limits tasks where the arm has a
    cgroup around the payload itself.
    """

    vcpus: int = 1
    memory_bytes: int = 256 * 1024 * 1024
    pids: int | None = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A host directory that the target sees at ``path``; ``read_only`` as docker's ``:ro``.

    A guest gets it as a disk of its own or a shared file system; the fairness card says which.
    """

    source: str
    path: str
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """One place to be provisioned.

    ``name`` is unique on the host ("lab-<run>-<n>", at most 40 characters of [a-z0-9-]).
    ``image`` is the digest of an OCI image manifest in the lab's store ("sha256:…").
    ``command`` is the target's main program: a ready byte, if it gives one, is the first byte of its output.
    ``cgroup_parent`` is relative to every hierarchy's root ("lab/<run>"); a target's cgroups lie below it.
    ``service_port`` is the TCP port on which ``command`` will listen, None when it is no service.
    ``scratch_bytes`` asks for a data file system of that size at /data, apart from the image: a volume
    (bind mount) in process and container arms, a virtio-blk disk of its own in guests; 0 for none.
    """

    name: str
    image: str
    command: Command
    limits: Limits = field(default_factory=Limits)
    network: NetworkMode = NetworkMode.NONE
    volumes: tuple[Volume, ...] = ()
    cgroup_parent: str = "lab"
    service_port: int | None = None
    scratch_bytes: int = 0
    start_timeout_ns: int = 60_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a service of a target answers, as seen from the host."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupDirectory:
    """A cgroup of a target: absolute directory and the controller that it is for ("" means the v2 hierarchy)."""

    controller: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What this target costs the host.

    ``pids`` are host pids of the payload's side (a guest's VMM included), ``helper_pids`` of processes that vanish
    with the target (shim, conmon, monitor, virtiofsd), ``shared_daemons`` of processes that serve many targets,
    by name; they are counted apart. ``links`` are host-side network interfaces of this target.
    ``guest_memory`` says that the target runs a kernel of its own, so that its own view of memory differs.
    """

    cgroups: tuple[CgroupDirectory, ...]
    pids: tuple[int, ...]
    helper_pids: tuple[int, ...] = ()
    shared_daemons: tuple[tuple[str, int], ...] = ()
    links: tuple[str, ...] = ()
    guest_memory: bool = False


OptionValue = str | int | bool
Options = Mapping[str, OptionValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One choice that a backend leaves to suites; the type of ``default`` is the option's type."""

    name: str
    default: OptionValue
    doc: str
    choices: tuple[OptionValue, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Whether this host can, found by trying.

    ``reason`` and ``hint`` are sentences when it cannot, "" when it can; ``facts`` label the numbers: versions,
    accelerator ("none", "tcg", "kvm"), KVM flavour, nesting, isolation ("process", "namespaces", "vm").
    """

    available: bool
    reason: str = ""
    hint: str = ""
    facts: tuple[tuple[str, str], ...] = ()
