"""What a machine needs of the host while it runs: libvirt, its cgroup, its network, servers of shared directories."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lab.container.volumes.model import MountPoint
from lab.errors import UnavailableError
from lab.linux.cgroup import layout as cgroups
from lab.machine import directories
from lab.machine.record import Forward, MachineNetwork, MachineRecord
from lab.machine.root_disk import require_root
from lab.paths import Paths
from lab.vm import capabilities, network, shares
from lab.vm.domain_spec import (
    Accelerator,
    DiskFormat,
    DomainDisk,
    DomainNetwork,
    DomainShare,
    DomainSpec,
    FileSystem,
    UserNetwork,
)
from lab.vm.makeup import Carrier, Machine, Makeup
from lab.vm.platform import Platform, prepare

_LOOPBACK = "127.0.0.1"
_KEPT_ON = ("ipv6.disable",)  # also without a network a container has [::], on which services listen by default


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What one running machine has of the host; ``cgroup_procs`` is empty where a daemon starts QEMU."""

    host: Platform
    makeup: Makeup
    accelerator: Accelerator
    network: DomainNetwork | UserNetwork | None
    shares: tuple[DomainShare, ...]
    cgroup_procs: tuple[str, ...]

    @classmethod
    @contextmanager
    def of(cls, paths: Paths, record: MachineRecord, run_directory: str) -> Iterator[Hardware]:
        """Have it for the length of the block.

        Raises:
            UnavailableError: this host cannot; the hint says what is missing.
            OSError: the kernel refused.
        """
        with ExitStack() as stack:
            host = prepare(paths, record.spec.connect)
            procs = _cgroup(stack, record) if host.connection.embedded else ()
            yield cls(
                host=host,
                makeup=makeup_of(record),
                accelerator=_accelerator(paths, record),
                network=_network(stack, record),
                shares=tuple(_served(stack, record, run_directory, procs)),
                cgroup_procs=procs,
            )


def makeup_of(record: MachineRecord) -> Makeup:
    """Return how a machine is made up: as targets are, with shared directories where it has volumes."""
    carrier = Carrier.VIRTIOFS if record.volumes else Carrier.DISK
    return Makeup(machine=Machine(record.spec.board), volumes=carrier, without_options=_KEPT_ON)


def domain_spec(hardware: Hardware, record: MachineRecord, disk: str, run_directory: str) -> DomainSpec:
    """Return what QEMU and libvirt are asked for.

    Raises:
        UnavailableError: QEMU lacks the board, or the initramfs cannot be made.
        DomainError: the machine's disk is gone.
    """
    require_root(disk)
    return hardware.host.domain_spec(
        name=record.domain,
        directory=run_directory,
        accelerator=hardware.accelerator,
        machine=hardware.host.machine_for(record.spec.vcpus, hardware.makeup),
        vcpus=record.spec.vcpus,
        memory_bytes=record.spec.memory_bytes,
        disks=(DomainDisk(serial="root", path=disk, format=DiskFormat.QCOW2, mount_point="/"),),
        shares=hardware.shares,
        network=hardware.network,
        cgroup_procs=hardware.cgroup_procs,
        makeup=hardware.makeup,
    )


def _accelerator(paths: Paths, record: MachineRecord) -> Accelerator:
    if record.spec.accelerator:
        return Accelerator(record.spec.accelerator)
    opens = capabilities.kvm_opens()
    if record.spec.connect or not opens.works:
        return Accelerator.TCG
    works = capabilities.boots_linux(paths, Accelerator.KVM).works  # tried once for each boot of the host
    return Accelerator.KVM if works else Accelerator.TCG


def _cgroup(stack: ExitStack, record: MachineRecord) -> tuple[str, ...]:
    found = cgroups.create(cgroups.detect(), directories.cgroup(record.id))
    stack.callback(directories.kill_cgroup, record.id)
    return tuple(os.path.join(directory, "cgroup.procs") for directory in found)


def _network(stack: ExitStack, record: MachineRecord) -> DomainNetwork | UserNetwork | None:
    if record.spec.network is MachineNetwork.NONE:
        return None
    if record.spec.network is MachineNetwork.USER:
        return network.user_network(tuple((port.host, port.guest) for port in record.forwards))
    if not os.path.exists("/dev/net/tun"):
        raise UnavailableError(
            "/dev/net/tun is missing, which a link to the guest needs",
            hint="modprobe tun; or --network user, which needs no device",
        )
    lease = network.lease()
    stack.callback(lease.release)
    return lease.network


def _served(
    stack: ExitStack, record: MachineRecord, run_directory: str, procs: tuple[str, ...]
) -> Iterator[DomainShare]:
    for index, point in enumerate(record.volumes):
        tag = f"volume{index}"
        server = shares.serve(_source(point), os.path.join(run_directory, f"{tag}.sock"), cgroup_procs=procs)
        stack.callback(server.stop)
        yield DomainShare(
            tag=tag,
            directory=point.source,
            file_system=FileSystem.VIRTIOFS,
            mount_point=point.destination,
            socket=server.socket,
            read_only=not point.writable,
        )


def _source(point: MountPoint) -> str:
    return os.path.join(point.source, point.subpath) if point.subpath else point.source


def with_free_ports(forwards: tuple[Forward, ...]) -> tuple[Forward, ...]:
    """Return published ports with free ones of the host in place of 0.

    Raises:
        UnavailableError: a port is taken.
    """
    return tuple(Forward(host=_bindable(port.host), guest=port.guest) for port in forwards)


def _bindable(number: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, number))
        except OSError as error:
            raise UnavailableError(
                f"port {number} of {_LOOPBACK} cannot be published: {error.strerror}", hint="choose another port"
            ) from error
        found: int = probe.getsockname()[1]
        return found
