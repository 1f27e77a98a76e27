"""DomainSpec -> libvirt's domain XML; pure, and the only place that knows the format.

Source: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from lab.vm.domain_spec import (
    Accelerator,
    CacheMode,
    ChannelName,
    DomainDisk,
    DomainMemory,
    DomainNetwork,
    DomainShare,
    DomainSpec,
    FileSystem,
    IoMode,
    MachineType,
    UserNetwork,
)

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
CGROUP_VARIABLE = "LAB_CGROUP_PROCS"  # both for guest/emulator.c
STARTED_VARIABLE = "LAB_STARTED"
MARKER_IO_PORT = 0xE9  # as in guest/init.c; QEMU's traditional debug port, which no firmware of ours writes to
PORT_NUMBERS = {ChannelName.OUTPUT: 1, ChannelName.ERROR: 2, ChannelName.AGENT: 3}  # as in guest/init.c
_VIRTIO = ("disk", "filesystem", "interface")  # elements that are always such a device
_FIRST_SLOT = 2  # of the root bus: 0 is the host bridge, 1 libvirt's own
_LAST_SLOT = 30  # of a PC; a q35 has its own bridge in the one above

ET.register_namespace("qemu", QEMU_NAMESPACE)


def build(spec: DomainSpec) -> bytes:
    """Return the XML of a guest, indented, in UTF-8."""
    domain = ET.Element("domain", type=spec.accelerator.to_libvirt())
    _text(domain, "name", spec.name)
    _text(domain, "memory", str(spec.memory_bytes), unit="b")
    _add_memory_backing(domain, spec)
    _text(domain, "vcpu", str(spec.vcpus), placement="static")
    domain.append(_boot(spec))
    # ACPI is how a microvm's kernel finds its virtio devices: Debian's takes no such addresses on its command line
    ET.SubElement(ET.SubElement(domain, "features"), "acpi")
    _add_cpu(domain, spec)
    ET.SubElement(domain, "clock", offset="utc")
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        _text(domain, event, "destroy")  # init powers off by a reset, and a panic resets as well
    domain.append(_devices(spec))
    domain.append(_command_line(spec))
    domain.append(_capabilities())
    ET.indent(domain)
    document: bytes = ET.tostring(domain, encoding="utf-8") + b"\n"
    return document


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _add_memory_backing(domain: ET.Element, spec: DomainSpec) -> None:
    backing = ET.Element("memoryBacking")
    if spec.memory.huge_pages:
        ET.SubElement(backing, "hugepages")
    if not spec.memory.mergeable:
        ET.SubElement(backing, "nosharepages")
    if any(share.file_system is FileSystem.VIRTIOFS for share in spec.shares):
        # virtiofsd reads and writes the guest's memory itself, so it must be able to map it
        ET.SubElement(backing, "source", type="memfd")
        ET.SubElement(backing, "access", mode="shared")
    if len(backing):
        domain.append(backing)


def _boot(spec: DomainSpec) -> ET.Element:
    boot = ET.Element("os")
    _text(boot, "type", "hvm", arch="x86_64", machine=str(spec.machine))
    if spec.firmware:
        _text(boot, "loader", spec.firmware, type="rom")
    _text(boot, "kernel", spec.kernel)
    if spec.initramfs:
        _text(boot, "initrd", spec.initramfs)
    _text(boot, "cmdline", " ".join(spec.kernel_options))
    return boot


def _add_cpu(domain: ET.Element, spec: DomainSpec) -> None:
    if spec.accelerator is Accelerator.KVM:
        cpu = ET.SubElement(domain, "cpu", mode="host-passthrough", check="none")
        # some hosts refuse the register behind it, and QEMU aborts ("failed to set MSR 0x10a")
        ET.SubElement(cpu, "feature", policy="disable", name="arch-capabilities")
    elif spec.cpu_model:
        cpu = ET.SubElement(domain, "cpu", mode="custom", match="exact", check="none")
        _text(cpu, "model", spec.cpu_model, fallback="forbid")


def _devices(spec: DomainSpec) -> ET.Element:
    devices = ET.Element("devices")
    _text(devices, "emulator", spec.emulator)
    slots = iter(range(_FIRST_SLOT, _LAST_SLOT))
    for index, disk in enumerate(spec.disks):
        devices.append(_disk(disk, target=f"vd{chr(ord('a') + index)}"))
    for share in spec.shares:
        devices.append(_share(share))
    if isinstance(spec.network, DomainNetwork):
        devices.append(_interface(spec.network))
    ET.SubElement(devices, "controller", type="usb", model="none")
    ET.SubElement(devices, "controller", type="virtio-serial", index="0", ports=str(len(PORT_NUMBERS) + 1))
    balloon = _balloon(spec.memory)
    for element in (*devices, balloon):
        if element.tag in _VIRTIO or element.get("type") == "virtio-serial" or element.get("model") == "virtio":
            element.append(_address(spec.machine, slots))
    sockets = dict(spec.channels)
    devices.append(_console(sockets[ChannelName.CONSOLE]))
    devices.append(_marker(sockets[ChannelName.MARKER]))
    for name, number in PORT_NUMBERS.items():
        devices.append(_port(name, number, sockets[name]))
    devices.append(balloon)
    return devices


def _address(machine: MachineType, slots: Iterator[int]) -> ET.Element:
    if machine is MachineType.MICROVM:
        return ET.Element("address", type="virtio-mmio")
    # on the root bus itself: libvirt would give each device a bridge of its own, and the guest would probe them all
    return ET.Element("address", type="pci", domain="0x0000", bus="0x00", slot=f"0x{next(slots):02x}", function="0x0")


def _disk(disk: DomainDisk, *, target: str) -> ET.Element:
    element = ET.Element("disk", type="file", device="disk")
    driver = ET.SubElement(element, "driver", name="qemu", type=str(disk.format), cache=str(disk.cache))
    # native is what O_DIRECT is for; QEMU's threads, its own choice otherwise, would cost a switch per request
    mode = disk.io or (IoMode.NATIVE if disk.cache is CacheMode.NONE else None)
    if mode is not None:
        driver.set("io", str(mode))
    ET.SubElement(element, "source", file=disk.path)
    ET.SubElement(element, "target", dev=target, bus="virtio")
    _text(element, "serial", disk.serial)
    if disk.read_only:
        ET.SubElement(element, "readonly")
    return element


def _share(share: DomainShare) -> ET.Element:
    element = ET.Element("filesystem", type="mount", accessmode="passthrough")
    if share.file_system is FileSystem.VIRTIOFS:
        ET.SubElement(element, "driver", type="virtiofs")
        ET.SubElement(element, "source", socket=share.socket)
    else:
        ET.SubElement(element, "driver", type="path")
        ET.SubElement(element, "source", dir=share.directory)
    ET.SubElement(element, "target", dir=share.tag)
    if share.read_only and share.file_system is FileSystem.NINEP:
        ET.SubElement(element, "readonly")  # with virtiofs it is the guest's mount that is read-only
    return element


def _interface(network: DomainNetwork) -> ET.Element:
    element = ET.Element("interface", type="bridge" if network.bridge else "ethernet")
    ET.SubElement(element, "mac", address=network.mac)
    if network.bridge:
        ET.SubElement(element, "source", bridge=network.bridge)
    ET.SubElement(element, "target", dev=network.link)
    ET.SubElement(element, "model", type="virtio")
    return element


def _balloon(memory: DomainMemory) -> ET.Element:
    if not memory.balloon:
        return ET.Element("memballoon", model="none")
    element = ET.Element("memballoon", model="virtio")
    if memory.reports_free_pages:
        element.set("freePageReporting", "on")
    ET.SubElement(element, "stats", period="1")  # seconds; without one the guest is never asked
    return element


def _socket(parent: ET.Element, path: str) -> None:
    # QEMU connects to our listener, which is there before it: nothing to wait for, nothing to poll
    ET.SubElement(parent, "source", mode="connect", path=path)


def _console(path: str) -> ET.Element:
    element = ET.Element("serial", type="unix")
    _socket(element, path)
    ET.SubElement(ET.SubElement(element, "target", type="isa-serial", port="0"), "model", name="isa-serial")
    return element


def _marker(path: str) -> ET.Element:
    element = ET.Element("serial", type="unix")
    _socket(element, path)
    ET.SubElement(ET.SubElement(element, "target", type="isa-debug", port="1"), "model", name="isa-debugcon")
    ET.SubElement(element, "address", type="isa", iobase=hex(MARKER_IO_PORT))
    return element


def _port(name: ChannelName, number: int, path: str) -> ET.Element:
    element = ET.Element("channel", type="unix")
    _socket(element, path)
    ET.SubElement(element, "target", type="virtio", name=f"lab.{name}")
    ET.SubElement(element, "address", type="virtio-serial", controller="0", bus="0", port=str(number))
    return element


def _command_line(spec: DomainSpec) -> ET.Element:
    """Return what libvirt has no words for, for QEMU and for the program that becomes it."""
    commandline = ET.Element(f"{{{QEMU_NAMESPACE}}}commandline")
    if isinstance(spec.network, UserNetwork):
        # libvirt forwards ports of such a network by passt only, which few hosts have
        for value in user_network_arguments(spec.network, spec.machine):
            _qemu(commandline, "arg", value=value)
    if spec.cgroup_procs:
        # libvirt would put QEMU into cgroups of its own naming, and below its own parent
        _qemu(commandline, "env", name=CGROUP_VARIABLE, value=" ".join(spec.cgroup_procs))
    if spec.started_file:
        _qemu(commandline, "env", name=STARTED_VARIABLE, value=spec.started_file)
    return commandline


def user_network_arguments(network: UserNetwork, machine: MachineType) -> tuple[str, ...]:
    """Return QEMU's arguments for a network in user space, and the guest's card on it."""
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{host}-:{guest}" for host, guest in network.forwards)
    # on PC boards the last slot, which no device of libvirt's gets
    card = "virtio-net-device" if machine is MachineType.MICROVM else f"virtio-net-pci,addr={_LAST_SLOT:#x}"
    return ("-netdev", f"user,id=lab{forwards}", "-device", f"{card},netdev=lab,mac={network.mac}")


def _capabilities() -> ET.Element:
    capabilities = ET.Element(f"{{{QEMU_NAMESPACE}}}capabilities")
    # With it libvirt reads the processor that QEMU has made feature by feature, 400 questions that take 0.3 s before
    # each start; without it, two questions. What it finds out is for migration, and no guest of ours migrates.
    _qemu(capabilities, "del", capability="cpu-unavailable-features")
    return capabilities


def _qemu(parent: ET.Element, tag: str, **attributes: str) -> None:
    ET.SubElement(parent, f"{{{QEMU_NAMESPACE}}}{tag}", attributes)
