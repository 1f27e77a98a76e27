"""DomainSpec -> XML, against files that a person has read."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from lab.vm.domain_spec import (
    Accelerator,
    CacheMode,
    ChannelName,
    DiskFormat,
    DomainDisk,
    DomainMemory,
    DomainShare,
    DomainSpec,
    FileSystem,
    IoMode,
    MachineType,
)
from lab.vm.domain_xml import build
from lab.vm.guest import channel_paths, settings
from lab.vm.kernel_options import kernel_options
from lab.vm.network import link_at, user_network

GOLDEN = Path(__file__).parents[2] / "golden" / "vm"
ROOT = DomainDisk(serial="root", path="/guests/g/root.qcow2", format=DiskFormat.QCOW2, mount_point="/")
SCRATCH = DomainDisk(
    serial="scratch", path="/guests/g/scratch.raw", format=DiskFormat.RAW, mount_point="/data", cache=CacheMode.NONE
)


def make_spec(machine: MachineType, accelerator: Accelerator, *, network: bool, scratch: bool) -> DomainSpec:
    vcpus = 1 if machine is MachineType.MICROVM else 2
    return DomainSpec(
        name="lab-test-1",
        accelerator=accelerator,
        machine=machine,
        vcpus=vcpus,
        memory_bytes=256 * 1024 * 1024,
        emulator="/cache/libvirt/emulator/qemu-system-x86_64-0",
        kernel="/cache/vmlinux",
        initramfs="/cache/initramfs.cpio",
        kernel_options=kernel_options(vcpus=vcpus, tsc_khz=2_400_000, network=network),
        channels=channel_paths("/run/g"),
        disks=(ROOT, SCRATCH) if scratch else (ROOT,),
        network=link_at(0) if network else None,
        cpu_model="EPYC" if accelerator is Accelerator.TCG else "",
        firmware="/usr/share/qemu/qboot.rom" if machine is MachineType.Q35 else "",
        cgroup_procs=("/sys/fs/cgroup/cpu/lab/g/cgroup.procs", "/sys/fs/cgroup/memory/lab/g/cgroup.procs"),
        started_file="/run/g/vmm-started",
    )


CASES = list(itertools.product((MachineType.MICROVM, MachineType.Q35), Accelerator, (False, True), (False, True)))
PC = make_spec(MachineType.PC, Accelerator.TCG, network=False, scratch=False)
MICROVM = make_spec(MachineType.MICROVM, Accelerator.TCG, network=False, scratch=False)
VIRTIOFS = DomainShare(
    tag="root", directory="/guests/g/root", file_system=FileSystem.VIRTIOFS, mount_point="/", socket="/run/g/fs.sock"
)
NINEP = DomainShare(
    tag="volume0", directory="/srv/data", file_system=FileSystem.NINEP, mount_point="/bind", read_only=True
)
MAKEUPS = {
    "pc": PC,
    "pc-shares": replace(PC, disks=(), shares=(VIRTIOFS, NINEP)),
    "pc-user-network": replace(PC, network=user_network(((20_001, 80),))),
    "pc-bridge": replace(PC, network=replace(link_at(0), bridge="lab0")),
    "pc-memory": replace(
        PC, memory=DomainMemory(balloon=True, reports_free_pages=True, huge_pages=True, mergeable=False)
    ),
    "microvm-squashfs": replace(
        MICROVM,
        covered=True,
        disks=(
            replace(
                ROOT,
                format=DiskFormat.RAW,
                read_only=True,
                cache=CacheMode.UNSAFE,
                io=IoMode.IO_URING,
                file_system=FileSystem.SQUASHFS,
            ),
        ),
    ),
    "microvm-user-network": replace(MICROVM, network=user_network()),
}
"""Guests that are made up in another way than the plain ones, by the names of their golden files."""


@pytest.mark.parametrize(("machine", "accelerator", "network", "scratch"), CASES)
def test_a_guest_becomes_the_xml_in_its_golden_file(
    machine: MachineType, accelerator: Accelerator, network: bool, scratch: bool
) -> None:
    name = f"{machine}-{accelerator}{'-network' if network else ''}{'-scratch' if scratch else ''}.xml"
    assert build(make_spec(machine, accelerator, network=network, scratch=scratch)) == (GOLDEN / name).read_bytes()


@pytest.mark.parametrize("name", MAKEUPS)
def test_a_guest_that_is_made_up_otherwise_becomes_the_xml_in_its_golden_file(name: str) -> None:
    assert build(MAKEUPS[name]) == (GOLDEN / f"makeup-{name}.xml").read_bytes()


def test_every_golden_file_belongs_to_a_case() -> None:
    assert len(list(GOLDEN.glob("*.xml"))) == len(CASES) + len(MAKEUPS)


def parsed(spec: DomainSpec) -> ET.Element:
    return ET.fromstring(build(spec))


def plain_spec() -> DomainSpec:
    return make_spec(MachineType.MICROVM, Accelerator.TCG, network=False, scratch=False)


def test_text_that_means_something_to_xml_arrives_unchanged() -> None:
    spec = replace(plain_spec(), kernel_options=('name="<&>"',), name="a&b")
    assert parsed(spec).findtext("os/cmdline") == 'name="<&>"'
    assert parsed(spec).findtext("name") == "a&b"


def test_a_microvm_has_no_pci_addresses() -> None:
    spec = make_spec(MachineType.MICROVM, Accelerator.TCG, network=True, scratch=True)
    kinds = [address.get("type") for address in parsed(spec).iter("address")]
    assert kinds.count("virtio-mmio") == 4
    assert "pci" not in kinds


def test_devices_of_a_q35_have_slots_of_their_own_on_the_root_bus() -> None:
    spec = make_spec(MachineType.Q35, Accelerator.TCG, network=True, scratch=True)
    slots = [address.get("slot") for address in parsed(spec).iter("address") if address.get("type") == "pci"]
    assert len(slots) == len(set(slots)) == 4


def test_a_read_only_disk_says_so() -> None:
    disk = replace(ROOT, read_only=True)
    assert parsed(replace(plain_spec(), disks=(disk,))).find("devices/disk/readonly") is not None


def test_qemu_connects_to_every_channel() -> None:
    sources = list(parsed(plain_spec()).iter("source"))
    connecting = {source.get("path") for source in sources if source.get("mode") == "connect"}
    assert connecting == {f"/run/g/{name}.sock" for name in ChannelName}


def test_init_is_told_to_mount_the_root_before_what_lies_below_it() -> None:
    spec = replace(plain_spec(), disks=(SCRATCH, replace(ROOT, read_only=True)), network=link_at(1))
    assert settings(spec) == (
        "disk=root:ro:/:ext4",
        "disk=scratch:rw:/data:ext4",
        "network=198.19.0.6:255.255.255.252:198.19.0.5",
        "hostname=lab-test-1",
    )


def test_init_is_told_to_cover_a_root_that_cannot_be_written_to_before_anything_is_mounted_on_it() -> None:
    spec = replace(MAKEUPS["microvm-squashfs"], shares=(NINEP,))
    assert settings(spec) == (
        "disk=root:ro:/:squashfs",
        "cover=memory",
        "share=volume0:ro:/bind:9p",
        "hostname=lab-test-1",
    )


def test_init_is_told_the_address_that_qemu_gives_every_guest_on_a_network_of_its_own() -> None:
    assert "network=10.0.2.15:255.255.255.0:10.0.2.2" in settings(MAKEUPS["pc-user-network"])
