"""What guests need of this host: QEMU, libvirt, and the three answers about /dev/kvm.

``lab.vm`` is imported when a check is made: without libvirt's Python package the other checks must still work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.paths import Paths
from lab.target.spec import Availability

if TYPE_CHECKING:
    from lab.vm.capabilities import Answer


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
