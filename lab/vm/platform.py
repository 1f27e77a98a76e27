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
from lab.vm.domain_spec import Accelerator, DomainDisk, DomainNetwork, DomainSpec, MachineType
from lab.vm.guest import channel_paths
from lab.vm.initramfs import ensure_initramfs
from lab.vm.kernel import GuestKernel, ensure_kernel
from lab.vm.kernel_options import host_tsc_khz, kernel_options

_QBOOT = "/usr/share/qemu/qboot.rom"
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

    def machine_for(self, vcpus: int) -> MachineType:
        """Return the board to use: microvm for one vCPU, since it boots faster; it is unreliable with more.

        Without a known TSC frequency microvm's kernel would hang while it calibrates.
        """
        if vcpus == 1 and MachineType.MICROVM in self.machines and self.tsc_khz is not None:
            return MachineType.MICROVM
        return MachineType.Q35

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
        network: DomainNetwork | None = None,
        cgroup_procs: tuple[str, ...] = (),
    ) -> DomainSpec:
        """Return the whole description of a guest whose sockets lie in ``directory``; makes its initramfs if need be.

        Raises:
            UnavailableError: the initramfs cannot be made.
        """
        modules = (*_MODULES, *(("virtio_net",) if network else ()), machine.transport_module)
        options = kernel_options(vcpus=vcpus, tsc_khz=self.tsc_khz, network=network is not None)
        return DomainSpec(
            name=name,
            accelerator=accelerator,
            machine=machine,
            vcpus=vcpus,
            memory_bytes=memory_bytes,
            emulator=self.connection.emulator,
            kernel=self.kernel.vmlinux,
            initramfs=ensure_initramfs(self.paths, self.kernel, modules),
            kernel_options=options,
            channels=channel_paths(directory),
            disks=disks,
            network=network,
            cpu_model=_TCG_CPU if accelerator is Accelerator.TCG else "",
            # SeaBIOS takes 50 ms more under TCG, and seconds where KVM emulates real mode
            firmware=_QBOOT if machine is MachineType.Q35 and os.path.exists(_QBOOT) else "",
            cgroup_procs=cgroup_procs,
        )


def prepare(paths: Paths) -> Platform:
    """Return this host's platform; the first call may take long (kernel package, QEMU's capabilities).

    Raises:
        UnavailableError: something is missing; the hint says how to get it.
    """
    return _prepare(paths.root, paths.cache, paths.run)


@functools.cache
def _prepare(root: str, cache: str, run: str) -> Platform:
    paths = Paths(root=root, cache=cache, run=run)
    connection = connect(paths)
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
