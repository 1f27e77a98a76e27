"""What all guests of this host have in common, and a guest's DomainSpec from what one asks for."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass

from lab.errors import UnavailableError
from lab.linux import command
from lab.paths import Paths
from lab.vm.connection import Connection, connect
from lab.vm.domain_spec import (
    Accelerator,
    DomainDisk,
    DomainNetwork,
    DomainShare,
    DomainSpec,
    MachineType,
    UserNetwork,
)
from lab.vm.guest import channel_paths
from lab.vm.initramfs import ensure_initramfs
from lab.vm.kernel import GuestKernel, ensure_kernel
from lab.vm.kernel_options import host_tsc_khz, kernel_options
from lab.vm.makeup import PLAIN, Firmware, KernelFlavour, KernelImage, Makeup

_QBOOT = "/usr/share/qemu/qboot.rom"
STARTED_FILE = "vmm-started"
"""In a guest's directory: when QEMU's program was entered, in nanoseconds of CLOCK_MONOTONIC."""

_SEABIOS_MICROVM = "/usr/share/seabios/bios-microvm.bin"
_TCG_CPU = "EPYC"  # of all models the fewest features that the emulator must announce and Linux then tries out
_MODULES = ("ext4", "virtio_blk", "virtio_console")
_QUERY_MACHINES = b'{"execute":"qmp_capabilities"}{"execute":"query-machines"}{"execute":"quit"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """libvirt's connection, the guest kernel, QEMU's machine types, and the host's TSC frequency if it is known."""

    paths: Paths
    connection: Connection
    kernel: GuestKernel
    machines: tuple[str, ...]
    tsc_khz: int | None

    def machine_for(self, vcpus: int, makeup: Makeup = PLAIN) -> MachineType:
        """Return the board to use unless ``makeup`` says which: microvm for one vCPU, since it boots faster.

        With more it is unreliable, and it has no place for shared directories. Without a known TSC frequency microvm's
        kernel would hang while it calibrates.

        Raises:
            UnavailableError: QEMU lacks the board that is asked for, or it takes no more than one vCPU.
        """
        wanted = makeup.machine.type
        if wanted is not None:
            return self._require_machine(wanted, vcpus)
        if makeup.shares_directories:
            return MachineType.Q35
        if vcpus == 1 and MachineType.MICROVM in self.machines and self.tsc_khz is not None:
            return MachineType.MICROVM
        return MachineType.Q35

    def _require_machine(self, machine: MachineType, vcpus: int) -> MachineType:
        if machine not in self.machines:
            raise UnavailableError(f"QEMU has no machine type {machine}", hint="apt install qemu-system-x86")
        if machine is MachineType.MICROVM and (vcpus > 1 or self.tsc_khz is None):
            reason = f"{vcpus} processors" if vcpus > 1 else "an unknown TSC frequency"
            raise UnavailableError(f"a microvm with {reason} does not boot reliably", hint='machine = "q35"')
        return machine

    def domain_spec(
        self,
        *,
        name: str,
        directory: str,
        accelerator: Accelerator,
        machine: MachineType,
        vcpus: int,
        memory_bytes: int,
        disks: tuple[DomainDisk, ...] = (),
        shares: tuple[DomainShare, ...] = (),
        network: DomainNetwork | UserNetwork | None = None,
        cgroup_procs: tuple[str, ...] = (),
        makeup: Makeup = PLAIN,
    ) -> DomainSpec:
        """Return the whole description of a guest whose sockets lie in ``directory``; makes its initramfs if need be.

        Raises:
            UnavailableError: the initramfs cannot be made, or the kernel or firmware of this make-up is not there.
        """
        kernel = self.kernel_of(makeup)
        own = (*_MODULES, *(("virtio_net",) if network else ()), machine.transport_module)
        options = kernel_options(
            vcpus=vcpus, tsc_khz=self.tsc_khz, network=network is not None, without=makeup.without_options
        )
        return DomainSpec(
            name=name,
            accelerator=accelerator,
            machine=machine,
            vcpus=vcpus,
            memory_bytes=memory_bytes,
            emulator=self.connection.emulator,
            kernel=kernel.vmlinux if makeup.kernel_image is KernelImage.VMLINUX else kernel.bzimage,
            initramfs=ensure_initramfs(self.paths, kernel, {*own, *makeup.modules}),
            kernel_options=options,
            channels=channel_paths(directory),
            disks=disks,
            shares=shares,
            covered=not makeup.root_file_system.is_writable,
            network=network,
            memory=makeup.memory,
            cpu_model=_TCG_CPU if accelerator is Accelerator.TCG else "",
            firmware=firmware_file(makeup.firmware, machine),
            cgroup_procs=cgroup_procs,
            started_file=os.path.join(directory, STARTED_FILE),
        )

    def kernel_of(self, makeup: Makeup) -> GuestKernel:
        """Return the kernel of such a guest, fetching it first if it is another one than most guests have.

        Raises:
            UnavailableError: it cannot be had.
        """
        return self.kernel if makeup.kernel is KernelFlavour.CLOUD else ensure_kernel(self.paths, makeup.kernel)


def firmware_file(firmware: Firmware, machine: MachineType) -> str:
    """Return the file of a guest's firmware, "" for that which QEMU gives the board by itself.

    Raises:
        UnavailableError: it is not installed.
    """
    is_microvm = machine is MachineType.MICROVM
    if firmware is Firmware.SEABIOS:
        return _installed(_SEABIOS_MICROVM) if is_microvm else ""  # PCs have it by themselves
    if firmware is Firmware.QBOOT:
        return _installed(_QBOOT)
    # SeaBIOS takes 50 ms more under TCG, and seconds where KVM emulates real mode
    return _QBOOT if not is_microvm and os.path.exists(_QBOOT) else ""


def _installed(path: str) -> str:
    if not os.path.exists(path):
        raise UnavailableError(f"the firmware {path} is missing", hint="apt install qemu-system-data seabios")
    return path


def prepare(paths: Paths, uri: str = "") -> Platform:
    """Return this host's platform; the first call may take long (kernel package, QEMU's capabilities).

    ``uri`` is libvirt's, "" for the embedded driver.

    Raises:
        UnavailableError: something is missing; the hint says how to get it.
    """
    return _prepare(paths.root, paths.cache, paths.run, uri)


@functools.cache
def _prepare(root: str, cache: str, run: str, uri: str) -> Platform:
    paths = Paths(root=root, cache=cache, run=run)
    connection = connect(paths, uri)
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        tsc_khz = host_tsc_khz(file.read())
    return Platform(
        paths=paths,
        connection=connection,
        kernel=ensure_kernel(paths),
        machines=machine_types(),
        tsc_khz=tsc_khz,
    )


def machine_types() -> tuple[str, ...]:
    """Return the boards that QEMU has, aliases included, sorted.

    Raises:
        UnavailableError: QEMU is missing or does not answer.
    """
    argv = ("qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none", "-qmp", "stdio")
    try:
        answer = command.run(argv, stdin=_QUERY_MACHINES)
    except FileNotFoundError as error:
        raise UnavailableError("qemu-system-x86_64 is missing", hint="apt install qemu-system-x86") from error
    return parse_machines(answer.text)


def parse_machines(replies: str) -> tuple[str, ...]:
    """Return the names and aliases in QMP's answer to query-machines, one JSON document a line, sorted.

    Raises:
        UnavailableError: there is no such answer.
    """
    for line in replies.splitlines():
        returned = json.loads(line).get("return")
        if isinstance(returned, list):
            names = {machine["name"] for machine in returned}
            return tuple(sorted(names | {machine["alias"] for machine in returned if "alias" in machine}))
    raise UnavailableError("QEMU does not list its machine types", hint="apt install --reinstall qemu-system-x86")
