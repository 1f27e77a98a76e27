"""DomainSpec -> libvirt's domain XML; pure, and the only place that knows the format.

Source: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from lab.vm.domain_spec import Accelerator, ChannelName, DomainDisk, DomainNetwork, DomainSpec, MachineType

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
CGROUP_VARIABLE = "LAB_CGROUP_PROCS"
MARKER_IO_PORT = 0xE9  # as in guest/init.c; QEMU's traditional debug port, which no firmware of ours writes to
PORT_NUMBERS = {ChannelName.OUTPUT: 1, ChannelName.ERROR: 2, ChannelName.AGENT: 3}  # as in guest/init.c
_FIRST_SLOT = 2  # of the root bus: 0 is the host bridge, 1 libvirt's own

ET.register_namespace("qemu", QEMU_NAMESPACE)


def build(spec: DomainSpec) -> bytes:
    """Return the XML of a guest, indented, in UTF-8."""
    domain = ET.Element("domain", type=spec.accelerator.to_libvirt())
    _text(domain, "name", spec.name)
    _text(domain, "memory", str(spec.memory_bytes), unit="b")
    _text(domain, "vcpu", str(spec.vcpus), placement="static")
    domain.append(_boot(spec))
    # ACPI is how a microvm's kernel finds its virtio devices: Debian's takes no such addresses on its command line
    ET.SubElement(ET.SubElement(domain, "features"), "acpi")
    _add_cpu(domain, spec)
    ET.SubElement(domain, "clock", offset="utc")
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        _text(domain, event, "destroy")  # init powers off by a reset, and a panic resets as well
    domain.append(_devices(spec))
    if spec.cgroup_procs:
        domain.append(_environment(spec))
    ET.indent(domain)
    document: bytes = ET.tostring(domain, encoding="utf-8") + b"\n"
    return document


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _boot(spec: DomainSpec) -> ET.Element:
    boot = ET.Element("os")
    _text(boot, "type", "hvm", arch="x86_64", machine=str(spec.machine))
    if spec.firmware:
        _text(boot, "loader", spec.firmware, type="rom")
    _text(boot, "kernel", spec.kernel)
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
    slots = iter(range(_FIRST_SLOT, 30))
    for index, disk in enumerate(spec.disks):
        devices.append(_disk(disk, target=f"vd{chr(ord('a') + index)}"))
    if spec.network is not None:
        devices.append(_interface(spec.network))
    ET.SubElement(devices, "controller", type="usb", model="none")
    ET.SubElement(devices, "controller", type="virtio-serial", index="0", ports=str(len(PORT_NUMBERS) + 1))
    for element in devices:
        if element.tag in ("disk", "interface") or element.get("type") == "virtio-serial":
            element.append(_address(spec.machine, slots))
    sockets = dict(spec.channels)
    devices.append(_console(sockets[ChannelName.CONSOLE]))
    devices.append(_marker(sockets[ChannelName.MARKER]))
    for name, number in PORT_NUMBERS.items():
        devices.append(_port(name, number, sockets[name]))
    ET.SubElement(devices, "memballoon", model="none")
    return devices


def _address(machine: MachineType, slots: Iterator[int]) -> ET.Element:
    if machine is MachineType.MICROVM:
        return ET.Element("address", type="virtio-mmio")
    # on the root bus itself: libvirt would give each device a bridge of its own, and the guest would probe them all
    return ET.Element("address", type="pci", domain="0x0000", bus="0x00", slot=f"0x{next(slots):02x}", function="0x0")


def _disk(disk: DomainDisk, *, target: str) -> ET.Element:
    element = ET.Element("disk", type="file", device="disk")
    driver = ET.SubElement(element, "driver", name="qemu", type=str(disk.format), cache=str(disk.cache))
    if disk.cache == "none":
        driver.set("io", "native")  # what O_DIRECT is for; QEMU's threads would cost a switch per request
    ET.SubElement(element, "source", file=disk.path)
    ET.SubElement(element, "target", dev=target, bus="virtio")
    _text(element, "serial", disk.serial)
    if disk.read_only:
        ET.SubElement(element, "readonly")
    return element


def _interface(network: DomainNetwork) -> ET.Element:
    element = ET.Element("interface", type="ethernet")
    ET.SubElement(element, "mac", address=network.mac)
    ET.SubElement(element, "target", dev=network.link)
    ET.SubElement(element, "model", type="virtio")
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


def _environment(spec: DomainSpec) -> ET.Element:
    commandline = ET.Element(f"{{{QEMU_NAMESPACE}}}commandline")
    value = " ".join(spec.cgroup_procs)
    ET.SubElement(commandline, f"{{{QEMU_NAMESPACE}}}env", name=CGROUP_VARIABLE, value=value)
    return commandline
