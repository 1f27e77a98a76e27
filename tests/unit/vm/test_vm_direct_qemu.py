"""DomainSpec -> QEMU's command line without libvirt, and what makes templates alike."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import pytest

from lab.vm.direct_qemu import Memory, arguments, ensure_template, for_clones, template_key
from lab.vm.domain_spec import (
    Accelerator,
    CacheMode,
    ChannelName,
    DiskFormat,
    DomainDisk,
    DomainNetwork,
    DomainSpec,
    MachineType,
)
from lab.vm.guest import channel_paths
from lab.vm.network import link_at, user_network

SPEC = DomainSpec(
    name="lab-test-1",
    accelerator=Accelerator.TCG,
    machine=MachineType.MICROVM,
    vcpus=1,
    memory_bytes=256 << 20,
    emulator="/emulator",
    kernel="/cache/vmlinux",
    initramfs="/cache/initramfs.cpio",
    kernel_options=("console=ttyS0", "quiet"),
    channels=channel_paths("/run/g"),
    disks=(
        DomainDisk(serial="root", path="/g/root.qcow2", format=DiskFormat.QCOW2, mount_point="/"),
        DomainDisk(serial="scratch", path="/g/s.raw", format=DiskFormat.RAW, mount_point="/data", cache=CacheMode.NONE),
    ),
    network=link_at(0),
    cpu_model="EPYC",
)
PAIRS = list(itertools.pairwise(arguments(SPEC)))


@pytest.mark.parametrize(
    "pair",
    [
        ("-machine", "microvm,accel=tcg"),
        ("-cpu", "EPYC"),
        ("-m", "256M"),
        ("-append", "console=ttyS0 quiet"),
        ("-drive", "if=none,id=disk0,file=/g/root.qcow2,format=qcow2,cache=writeback,readonly=off,aio=threads"),
        ("-drive", "if=none,id=disk1,file=/g/s.raw,format=raw,cache=none,readonly=off,aio=native"),
        ("-device", "virtio-blk-device,drive=disk1,serial=scratch"),
        ("-device", "virtserialport,chardev=agent,name=lab.agent,nr=3"),
        ("-device", "isa-debugcon,iobase=0xe9,chardev=marker"),
        ("-netdev", "tap,id=lab,ifname=labvm0,script=no,downscript=no"),
    ],
)
def test_the_command_line_says(pair: tuple[str, str]) -> None:
    assert pair in PAIRS


def test_every_channel_is_connected_to() -> None:
    assert all(("-chardev", f"socket,id={name},path=/run/g/{name}.sock") in PAIRS for name in ChannelName)


def test_nothing_waits_and_nobody_is_asked_unless_one_wants_it() -> None:
    assert not {"-S", "-qmp", "-incoming", "-object"} & set(arguments(SPEC))


def test_a_pc_has_its_devices_on_pci_and_its_own_firmware() -> None:
    spec = replace(SPEC, machine=MachineType.Q35, firmware="/qboot.rom", network=user_network(((20_001, 80),)))
    pairs = list(itertools.pairwise(arguments(spec)))
    assert ("-bios", "/qboot.rom") in pairs
    assert ("-device", "virtio-blk-pci,drive=disk0,serial=root") in pairs
    assert ("-netdev", "user,id=lab,hostfwd=tcp:127.0.0.1:20001-:80") in pairs


def test_a_clone_reads_the_memory_that_its_template_has_written() -> None:
    template = arguments(SPEC, monitor="/m.sock", memory=Memory(path="/t/memory", shared=True))
    clone = arguments(SPEC, monitor="/m.sock", memory=Memory(path="/t/memory", shared=False), incoming=True)
    assert "memory-backend-file,id=ram,size=256M,mem-path=/t/memory,share=on" in template
    assert "memory-backend-file,id=ram,size=256M,mem-path=/t/memory,share=off" in clone
    assert set(clone) - set(template) == {
        "memory-backend-file,id=ram,size=256M,mem-path=/t/memory,share=off",
        "-incoming",
        "defer",
    }


def test_clones_have_one_hardware_address_whatever_their_link() -> None:
    first, second = (for_clones(replace(SPEC, network=link_at(index))).network for index in (0, 1))
    assert isinstance(first, DomainNetwork)
    assert isinstance(second, DomainNetwork)
    assert first.mac == second.mac != link_at(0).mac
    assert first.link != second.link


def test_templates_are_told_apart_by_what_a_guest_can_see_and_by_nothing_else() -> None:
    another_place = replace(SPEC, name="lab-test-2", channels=channel_paths("/run/h"), network=link_at(7))
    assert template_key(SPEC, "sha256:1") == template_key(another_place, "sha256:1")
    different = (
        template_key(SPEC, "sha256:2"),
        template_key(replace(SPEC, memory_bytes=512 << 20), "sha256:1"),
        template_key(replace(SPEC, network=None), "sha256:1"),
        template_key(replace(SPEC, disks=SPEC.disks[:1]), "sha256:1"),
        template_key(replace(SPEC, kernel_options=("quiet",)), "sha256:1"),
    )
    assert len({template_key(SPEC, "sha256:1"), *different}) == 1 + len(different)


def test_a_template_is_made_once_and_those_unused_for_longest_go(tmp_path: Path) -> None:
    made: list[str] = []
    for number in (*range(9), 0, 9):
        ensure_template(str(tmp_path), f"key{number}", made.append)
        os.utime(tmp_path / f"key{number}", ns=(0, len(made) * 1000 + number))
    assert len(made) == 11  # the first one had to make room, and was made again
    left = {entry.name for entry in tmp_path.iterdir() if entry.is_dir()}
    assert left == {f"key{number}" for number in (0, 3, 4, 5, 6, 7, 8, 9)}
