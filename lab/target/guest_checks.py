"""What guests need of this host: QEMU, libvirt, and the three answers about /dev/kvm.

``lab.vm`` is imported when a check is made: without libvirt's Python package the other checks must still work.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from lab.linux import command, procfs
from lab.paths import Paths
from lab.target.spec import Availability
from lab.units import format_bytes

if TYPE_CHECKING:
    from lab.vm.capabilities import Answer

_TESTBED_MEMORY_BYTES = 4 * 1024**3  # 3 GiB of its machine's, and what QEMU takes to emulate it
_TESTBED_DISK_BYTES = 6 * 1024**3  # packages, environment, images, a saved state, and what is unpacked on the way


def qemu(_paths: Paths) -> Availability:
    """Ask QEMU itself for its machine types."""
    from lab.vm import connection, platform

    kinds = platform.machine_types()
    wanted = [kind for kind in ("microvm", "q35") if kind in kinds]
    if wanted:
        facts = (("version", connection.qemu_version()), ("machines", " and ".join(wanted)))
        return Availability(available=True, facts=facts)
    hint = "apt-get install --no-install-recommends qemu-system-x86"
    return Availability(available=False, reason="QEMU has neither machine type microvm nor q35", hint=hint)


def libvirt(paths: Paths) -> Availability:
    """Open libvirt's embedded QEMU driver and ask it for versions."""
    from lab.vm import connection

    opened = connection.connect(paths)
    return Availability(available=True, facts=(("driver", opened.uri.partition("?")[0]), *opened.versions().items()))


def testbed(paths: Paths) -> Availability:
    """Let QEMU emulate a processor with SVM and a disk that is memory, and see whether there is room for `lab testbed`.

    With "enforce" QEMU refuses to begin where it cannot emulate a feature that is asked for.
    """
    argv = ("-machine", "q35,nvdimm=on", "-accel", "tcg", "-cpu", "max,+svm,enforce", "-nodefaults", "-S")
    try:
        done = command.run(
            ("qemu-system-x86_64", *argv, "-display", "none", "-monitor", "stdio"), stdin=b"quit\n", timeout_s=30
        )
    except FileNotFoundError:
        return Availability(available=False, reason="QEMU is missing", hint="apt-get install qemu-system-x86")
    if done.exit_code:
        reason = f"QEMU emulates no SVM here: {done.error_text.strip() or 'it does not say why'}"
        return Availability(available=False, reason=reason, hint="use QEMU 7.2 or later")
    lacking = [
        f"{kind} of {format_bytes(wanted)}"
        for kind, wanted, there in (
            ("memory", _TESTBED_MEMORY_BYTES, procfs.meminfo()["MemAvailable"]),
            ("disk space", _TESTBED_DISK_BYTES, _free_bytes(paths.cache)),
        )
        if there < wanted
    ]
    if lacking:
        reason = f"the testbed lacks {' and '.join(lacking)}"
        return Availability(
            available=False, reason=reason, hint="free some, or keep the state elsewhere: lab --root DIR"
        )
    return Availability(available=True)


def _free_bytes(directory: str) -> int:
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    return shutil.disk_usage(directory).free


def kvm_device(_paths: Paths) -> Availability:
    """Open /dev/kvm and make an empty virtual machine."""
    from lab.vm import capabilities

    flavour = capabilities.kvm_flavour()
    nested = "nested" if capabilities.host_is_guest() else "on the metal"
    return _as_availability(capabilities.kvm_opens(), (("flavour", flavour), ("host", nested)))


def kvm_boot(_paths: Paths) -> Availability:
    """Run four instructions of a real-mode guest."""
    from lab.vm import capabilities

    return _as_availability(capabilities.kvm_runs_tiny_guest())


def kvm_linux(paths: Paths) -> Availability:
    """Boot the stock Linux guest under KVM, once in each boot of this host."""
    from lab.vm import capabilities
    from lab.vm.domain_spec import Accelerator

    opens = capabilities.kvm_opens()
    return _as_availability(capabilities.boots_linux(paths, Accelerator.KVM) if opens.works else opens)


def _as_availability(answer: Answer, facts: tuple[tuple[str, str], ...] = ()) -> Availability:
    if answer.works:
        return Availability(available=True, facts=facts)
    return Availability(available=False, reason=answer.reason, hint=answer.hint)
