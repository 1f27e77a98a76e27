"""What this host can run guests with, found by trying.

/dev/kvm gets three answers, because they differ: it opens; it runs a handful of real-mode instructions; it boots a
stock Linux. There are KVMs that do the first two and not the third. The third takes seconds, so its answer is kept for
as long as the host is up and nothing that it depends on changes.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from lab.errors import DomainError
from lab.linux import kvm, procfs, sysfs
from lab.paths import Paths
from lab.units import NS_PER_S
from lab.vm import cache, shares
from lab.vm.connection import qemu_version
from lab.vm.domain_spec import Accelerator
from lab.vm.guest import Guest
from lab.vm.makeup import Carrier, Makeup
from lab.vm.platform import Platform, firmware_file, prepare

_TINY_GUEST = bytes(
    (
        0xBA, 0xF8, 0x03,  # mov dx, 0x3f8
        0xB0, 0x52,  # mov al, 'R'
        0xEE,  # out dx, al
        0xF4,  # hlt
    )
)  # fmt: skip
_TINY_PORT, _TINY_VALUE = 0x3F8, 0x52
_TINY_TIMEOUT_S = 10.0
_BOOT_MEMORY_BYTES = 256 * 1024 * 1024
# KVM that works boots in a second; one that does not may run for minutes, emulating, before it gives up
_BOOT_TIMEOUT_NS = {Accelerator.KVM: 20 * NS_PER_S, Accelerator.TCG: 120 * NS_PER_S}
_EMULATED_BOOT_TIMEOUT_NS = 180 * NS_PER_S  # where the processor is emulated, its KVM works and takes ten times as long


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Whether it works and, if not, why and what to do; sentences, "" when it does."""

    works: bool
    reason: str = ""
    hint: str = ""


def kvm_opens() -> Answer:
    """Return whether /dev/kvm opens, speaks the version that everything needs, and makes a virtual machine."""
    try:
        device = kvm.open_device()
    except OSError as error:
        return Answer(works=False, reason=f"cannot open {kvm.DEVICE}: {error.strerror}", hint=_open_hint(error.errno))
    try:
        version = kvm.api_version(device)
        if version != kvm.API_VERSION:
            return Answer(works=False, reason=f"{kvm.DEVICE} speaks version {version}, not {kvm.API_VERSION}")
        os.close(kvm.create_vm(device))
    except OSError as error:
        return Answer(works=False, reason=f"{kvm.DEVICE} makes no virtual machine: {error.strerror}")
    finally:
        os.close(device)
    return Answer(works=True)


def _open_hint(number: int | None) -> str:
    if number == errno.ENOENT:
        return "enable VT-x or AMD-V in the firmware (in a guest: nested virtualisation), modprobe kvm_intel or kvm_amd"
    return "adduser $USER kvm, or run as root" if number == errno.EACCES else ""


def kvm_runs_tiny_guest() -> Answer:
    """Return whether KVM runs a real-mode guest that writes a byte to a port and halts."""
    exits: list[kvm.VcpuExit] = []
    failures: list[OSError] = []

    def run() -> None:
        try:
            exits.extend(kvm.run_real_mode(_TINY_GUEST, exits=2))
        except OSError as error:
            failures.append(error)

    # a thread, since no deadline can be set on a vCPU; on a KVM that never returns it is left behind
    thread = threading.Thread(target=run, name="tiny-guest", daemon=True)
    thread.start()
    thread.join(_TINY_TIMEOUT_S)
    if thread.is_alive():
        return Answer(works=False, reason=f"a guest of four instructions did not end within {_TINY_TIMEOUT_S:g} s")
    if failures:
        return Answer(works=False, reason=f"KVM does not run a real-mode guest: {failures[0].strerror}")
    return _judge_tiny(tuple(exits))


def _judge_tiny(exits: tuple[kvm.VcpuExit, ...]) -> Answer:
    wrote = kvm.VcpuExit(reason=kvm.ExitReason.IO, port=_TINY_PORT, value=_TINY_VALUE)
    if exits == (wrote, kvm.VcpuExit(reason=kvm.ExitReason.HLT)):
        return Answer(works=True)
    reasons = ", ".join(str(exit_.reason) for exit_ in exits)
    return Answer(works=False, reason=f"KVM runs a real-mode guest wrongly: it returned for reasons {reasons}")


def kvm_flavour() -> str:
    """Return whose KVM it is: "intel", "amd", "pvm", …; "unknown" when no module says so, "none" without KVM."""
    if flavours := sysfs.kvm_flavours():
        return "+".join(flavours)
    return "unknown" if os.path.exists(kvm.DEVICE) else "none"


def host_is_guest() -> bool:
    """Return whether this host's processor says that it is virtual, so that guests here are nested."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = next((line for line in file if line.startswith("flags")), "")
    return "hypervisor" in flags.split()


def nested_parameter(flavour: str) -> str:
    """Return whether KVM lets its guests have KVM ("Y", "1", "N", "0"); "" where it does not say."""
    return sysfs.read_text(f"module/kvm_{flavour}/parameters/nested") or ""


def can_be_made_up(paths: Paths, makeup: Makeup) -> Answer:
    """Return whether this host has what such guests need beyond those that all do; fetches their kernel.

    Raises:
        UnavailableError: something that is installed elsewhere is missing here; the hint says how to get it.
    """
    host = prepare(paths)
    host.kernel_of(makeup)
    firmware_file(makeup.firmware, host.machine_for(1, makeup))
    if Carrier.VIRTIOFS in makeup.carriers:
        shares.program()
    if makeup.memory.huge_pages and not sysfs.free_huge_pages():
        reason = "the host's pool of huge pages is empty"
        return Answer(works=False, reason=reason, hint="sysctl -w vm.nr_hugepages=256, and mount hugetlbfs")
    return Answer(works=True)


def boots_linux(paths: Paths, accelerator: Accelerator) -> Answer:
    """Return whether a stock Linux guest reaches userspace; asked once for each boot of this host.

    Raises:
        UnavailableError: guests cannot be tried at all: libvirt, QEMU or the guest kernel is missing.
    """
    host = prepare(paths)
    key = _boot_key(host)
    path = os.path.join(paths.checks, f"boots-linux-{accelerator}.json")
    known = _read_answer(path, key)
    if known is not None:
        return known
    with cache.locked(path + ".lock"):
        known = _read_answer(path, key)
        if known is not None:
            return known
        answer = _try_boot(host, accelerator)
        cache.write_file(path, json.dumps({"key": key, "answer": asdict(answer)}, indent=2).encode())
        return answer


def _boot_key(host: Platform) -> dict[str, str]:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    return {
        "boot_id": boot_id,
        "release": platform.release(),
        "qemu": qemu_version(),
        "libvirt": host.connection.versions()["libvirt"],
        "guest_kernel": host.kernel.digest,
    }


def _read_answer(path: str, key: dict[str, str]) -> Answer | None:
    try:
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return Answer(**known["answer"]) if known.get("key") == key else None


def _try_boot(host: Platform, accelerator: Accelerator) -> Answer:
    directory = _boot_directory(host.paths)
    guest = Guest(
        host.connection,
        host.domain_spec(
            name=os.path.basename(directory),
            directory=directory,
            accelerator=accelerator,
            machine=host.machine_for(1),
            vcpus=1,
            memory_bytes=_BOOT_MEMORY_BYTES,
        ),
        directory,
    )
    try:
        return _judge_boot(lambda: _boot(guest, _boot_timeout_ns(accelerator)), accelerator)
    finally:
        guest.destroy()
        shutil.rmtree(directory, ignore_errors=True)


def _boot_timeout_ns(accelerator: Accelerator) -> int:
    emulated = procfs.processor_is_emulated(procfs.cpuinfo())
    return _EMULATED_BOOT_TIMEOUT_NS if emulated else _BOOT_TIMEOUT_NS[accelerator]


def _boot_directory(paths: Paths) -> str:
    parent = os.path.join(paths.run, "guest-checks")
    os.makedirs(parent, exist_ok=True)
    return tempfile.mkdtemp(prefix="lab-check-", dir=parent)


def _boot(guest: Guest, timeout_ns: int) -> None:
    guest.launch()
    guest.release_vcpus()
    guest.await_userspace(deadline_ns=time.monotonic_ns() + timeout_ns)


def _judge_boot(boot: Callable[[], None], accelerator: Accelerator) -> Answer:
    try:
        boot()
    except (DomainError, TimeoutError) as error:
        flavour = f" (flavour {kvm_flavour()})" if accelerator is Accelerator.KVM else ""
        reason = f"a stock Linux guest does not boot with {accelerator}{flavour}: {error}"
        return Answer(works=False, reason=reason, hint=_boot_hint(accelerator))
    return Answer(works=True)


def _boot_hint(accelerator: Accelerator) -> str:
    if accelerator is Accelerator.KVM:
        return "use vm-tcg (software emulation), or a host whose KVM has VT-x or AMD-V"
    return "lab doctor shows what QEMU and libvirt say"
