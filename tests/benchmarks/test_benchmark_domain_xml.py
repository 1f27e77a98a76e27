"""How long we take to turn a guest's description into XML, of what libvirt takes 300 ms for afterwards."""

from __future__ import annotations

from pytest_benchmark.fixture import BenchmarkFixture

from lab.vm.domain_spec import Accelerator, DiskFormat, DomainDisk, DomainSpec, MachineType
from lab.vm.domain_xml import build
from lab.vm.guest import channel_paths
from lab.vm.kernel_options import kernel_options
from lab.vm.network import link_at


def test_building_the_xml_of_a_guest_is_no_part_of_its_start_up_time(benchmark: BenchmarkFixture) -> None:
    disk = DomainDisk(serial="root", path="/guests/g/root.qcow2", format=DiskFormat.QCOW2, mount_point="/")
    spec = DomainSpec(
        name="lab-benchmark",
        accelerator=Accelerator.TCG,
        machine=MachineType.Q35,
        vcpus=2,
        memory_bytes=256 * 1024 * 1024,
        emulator="/cache/qemu",
        kernel="/cache/vmlinux",
        initramfs="/cache/initramfs.cpio",
        kernel_options=kernel_options(vcpus=2, tsc_khz=2_400_000, network=True),
        channels=channel_paths("/run/g"),
        disks=(disk,),
        network=link_at(0),
        cpu_model="EPYC",
    )
    assert benchmark(build, spec).startswith(b"<domain")
