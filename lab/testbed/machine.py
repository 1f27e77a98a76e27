"""What the testbed's machine is: QEMU's command line and the kernel's, from a ``Machine``; pure.

Processor and SVM are emulated, so that kvm-amd finds what it needs on any host. The root is an NVDIMM whose memory is
a file: to the guest it is memory, so that reading it is a matter of the processor alone, and is the same to the
nanosecond where instructions are counted. A Type I hypervisor would be the ``-kernel`` here, with Linux and its options
as first module of ``-initrd`` and ``-cpu max,-smap,-smep``: a field of ``Machine`` beside ``counted``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from lab.vm.kernel_options import kernel_options

PORTS = 4  # commands at one time
_MIB = 1024 * 1024
_COUNTED_TSC_KHZ = 1_000_000  # with -icount, QEMU's TSC counts virtual nanoseconds
_SHIFT = 3  # an instruction takes 2**3 ns
_HOTPLUG_SLOTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A file that is memory of the guest; ``size_bytes`` is the file's. A private one keeps its writes."""

    path: str
    size_bytes: int
    private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine. ``directory`` has its sockets, ``disk`` is qcow2 or "" for none; ``counted`` means -icount."""

    directory: str
    vmlinux: str
    initramfs: str
    regions: tuple[Region, ...]
    disk: str
    vcpus: int
    memory_bytes: int
    tsc_khz: int | None
    counted: bool = False

    @property
    def console(self) -> str:
        """The file with what the kernel says."""
        return os.path.join(self.directory, "console.log")

    @property
    def monitor(self) -> str:
        """QEMU's own socket (QMP)."""
        return os.path.join(self.directory, "qmp.sock")

    @property
    def pid_file(self) -> str:
        """The file in which QEMU writes its pid once it runs."""
        return os.path.join(self.directory, "qemu.pid")

    def port(self, number: int) -> str:
        """Return the socket of one of the ports for commands."""
        return port_path(self.directory, number)


def port_path(directory: str, number: int) -> str:
    """Return the socket of a port of the machine in ``directory``."""
    return os.path.join(directory, f"port-{number}.sock")


def append(machine: Machine) -> tuple[str, ...]:
    """Return the kernel's options."""
    tsc_khz = _COUNTED_TSC_KHZ if machine.counted else machine.tsc_khz
    options = kernel_options(vcpus=machine.vcpus, tsc_khz=tsc_khz, network=True)
    return (*options, "cgroup_no_v1=all", *(("nokaslr",) if machine.counted else ()))


def argv(machine: Machine, *, arriving: bool = False) -> tuple[str, ...]:
    """Return QEMU's command line; ``arriving`` waits for a state that comes by migration instead of booting."""
    most_bytes = machine.memory_bytes + sum(region.size_bytes for region in machine.regions)
    memory = f"{machine.memory_bytes // _MIB}M,slots={_HOTPLUG_SLOTS},maxmem={most_bytes // _MIB}M"
    return (
        "qemu-system-x86_64", "-name", "lab-testbed", "-machine", "q35,nvdimm=on", *_processor(machine),
        "-smp", str(machine.vcpus), "-m", memory,
        "-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{machine.console}",
        "-kernel", machine.vmlinux, "-initrd", machine.initramfs, "-append", " ".join(append(machine)),
        *(word for number, region in enumerate(machine.regions) for word in _region(number, region)),
        *_disk(machine.disk), "-device", "virtio-serial-pci",
        *(word for number in range(PORTS) for word in _port(machine, number)),
        "-qmp", f"unix:{machine.monitor},server=on,wait=off", "-pidfile", machine.pid_file, "-daemonize",
        *(("-incoming", "defer") if arriving else ()),
    )  # fmt: skip


def _processor(machine: Machine) -> tuple[str, ...]:
    if not machine.counted:
        return ("-accel", "tcg,thread=multi", "-cpu", "max")
    # nothing of the host gets in: neither its clock, nor its random numbers, nor what real time idle guests wait
    return (
        "-accel", "tcg", "-cpu", "max,-rdrand,-rdseed", "-icount", f"shift={_SHIFT},sleep=off",
        "-rtc", "base=2024-01-01T00:00:00,clock=vm", "-seed", "42",
    )  # fmt: skip


def _region(number: int, region: Region) -> tuple[str, ...]:
    backend = f"memory-backend-file,id=region{number},mem-path={region.path},size={region.size_bytes}"
    access, device = ("share=off", "") if region.private else ("share=on,readonly=on", ",unarmed=on")
    return ("-object", f"{backend},{access}", "-device", f"nvdimm,id=nvdimm{number},memdev=region{number}{device}")


def _disk(path: str) -> tuple[str, ...]:
    if not path:
        return ()
    # flushes are ignored: after a crash of the host the machine is made anew anyway
    return ("-drive", f"file={path},if=none,id=data,format=qcow2,cache=unsafe", "-device", "virtio-blk-pci,drive=data")


def _port(machine: Machine, number: int) -> tuple[str, ...]:
    name = f"port{number}"
    socket = f"socket,id={name},path={machine.port(number)},server=on,wait=off"
    return ("-chardev", socket, "-device", f"virtserialport,chardev={name},name=testbed.{number}")
