"""The hypervisors that libvirt has drivers for: what kind each is and why, and whether this host has it, by trying.

Popek and Goldberg's two types are about what the hypervisor runs on: hardware (I), or a host's operating system (II).
Source: G. Popek, R. Goldberg, "Formal Requirements for Virtualizable Third Generation Architectures", CACM 17 (1974);
R. Goldberg, "Architectural Principles for Virtual Computer Systems" (1973), 2.2; libvirt.org/drivers.html.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from lab.errors import LabError
from lab.linux import command
from lab.paths import Paths

_TRY_S = 10.0
_ASK = "import sys, libvirt; h = libvirt.open(sys.argv[1]); print(h.getType(), h.getVersion()); h.close()"


class HypervisorType(StrEnum):
    """Goldberg's types, and what is none."""

    ONE = "I"
    TWO = "II"
    NEITHER = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypervisor:
    """A driver: what it is, ``reason`` of its type, and how it is reached by default."""

    name: str
    type: HypervisorType
    reason: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What this host can do with a hypervisor, and why not, or what it said."""

    usable: bool
    reason: str


HYPERVISORS = (
    Hypervisor(
        name="qemu/kvm",
        type=HypervisorType.ONE,
        reason="arguable: KVM makes the Linux kernel itself the hypervisor, in the processor's most privileged mode; "
        "but it is a part of a full operating system, which schedules guests beside its processes, and QEMU is one of "
        "these. Who looks at the latter calls it Type II",
        uri="qemu:///embed",
    ),
    Hypervisor(
        name="qemu/tcg",
        type=HypervisorType.TWO,
        reason="a process of the host translates all instructions: an emulator, which needs nothing of the processor",
        uri="qemu:///embed",
    ),
    Hypervisor(
        name="xen",
        type=HypervisorType.ONE,
        reason="it boots first and owns the hardware; Linux is its first guest (dom0), which has the drivers",
        uri="xen:///system",
    ),
    Hypervisor(
        name="esx",
        type=HypervisorType.ONE,
        reason="VMware's vmkernel boots on the hardware, and nothing else does; always a machine of its own",
        uri="esx://HOST/?no_verify=1",
    ),
    Hypervisor(
        name="hyperv",
        type=HypervisorType.ONE,
        reason="it starts below Windows, which becomes its root partition; always a machine of its own",
        uri="hyperv://HOST/",
    ),
    Hypervisor(
        name="vbox",
        type=HypervisorType.TWO,
        reason="VirtualBox is a program and a driver of a host's operating system",
        uri="vbox:///session",
    ),
    Hypervisor(
        name="bhyve",
        type=HypervisorType.TWO,
        reason="a module and a process of FreeBSD; as arguable as KVM, whose build it shares",
        uri="bhyve:///system",
    ),
    Hypervisor(
        name="lxc",
        type=HypervisorType.NEITHER,
        reason="no hypervisor: containers of the host's own kernel, in libvirt's words",
        uri="lxc:///system",
    ),
    Hypervisor(
        name="test",
        type=HypervisorType.NEITHER,
        reason="no hypervisor: a driver that keeps domains in memory and runs nothing, for tests",
        uri="test:///default",
    ),
)


def verdict(paths: Paths, hypervisor: Hypervisor) -> Verdict:
    """Return whether this host has a hypervisor, after trying."""
    try:
        return _TRIES.get(hypervisor.name, _open)(paths, hypervisor)
    except LabError as error:
        return Verdict(usable=False, reason=str(error).splitlines()[0])


def _kvm(paths: Paths, _: Hypervisor) -> Verdict:
    from lab.vm import capabilities  # loads libvirt, which the list alone does not need
    from lab.vm.domain_spec import Accelerator

    for answer in (capabilities.kvm_opens(), capabilities.kvm_runs_tiny_guest()):
        if not answer.works:
            return Verdict(usable=False, reason=answer.reason)
    answer = capabilities.boots_linux(paths, Accelerator.KVM)
    flavour = f"/dev/kvm (flavour {capabilities.kvm_flavour()}) boots Linux"
    return Verdict(usable=answer.works, reason=flavour if answer.works else answer.reason.splitlines()[0])


def _tcg(paths: Paths, _: Hypervisor) -> Verdict:
    from lab.vm import capabilities
    from lab.vm.connection import qemu_version
    from lab.vm.domain_spec import Accelerator

    answer = capabilities.boots_linux(paths, Accelerator.TCG)
    return Verdict(usable=answer.works, reason=f"QEMU {qemu_version()} boots Linux" if answer.works else answer.reason)


def _remote(_: Paths, hypervisor: Hypervisor) -> Verdict:
    return Verdict(
        usable=False, reason=f"never this host: `lab vm ls --connect {hypervisor.uri}` asks one that you name"
    )


def _open(_: Paths, hypervisor: Hypervisor) -> Verdict:
    """Open the URI in a process of its own, which can be given up: some drivers wait for what never comes."""
    try:
        done = command.run((sys.executable, "-c", _ASK, hypervisor.uri), timeout_s=_TRY_S)
    except TimeoutError:
        return Verdict(usable=False, reason=f"{hypervisor.uri} does not answer within {_TRY_S:g} s")
    if done.exit_code == 0:
        kind, version = done.text.split()
        return Verdict(usable=True, reason=f"{hypervisor.uri} answers: {kind}, version {version}")
    lines = [line for line in done.error_text.splitlines() if "error" in line.lower()] or [f"exit {done.exit_code}"]
    return Verdict(usable=False, reason=lines[-1].rpartition("libvirtError: ")[2])


_TRIES: dict[str, Callable[[Paths, Hypervisor], Verdict]] = {
    "qemu/kvm": _kvm,
    "qemu/tcg": _tcg,
    "esx": _remote,
    "hyperv": _remote,
}
