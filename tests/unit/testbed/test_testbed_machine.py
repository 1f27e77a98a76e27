"""The command lines of the testbed's machines."""

from __future__ import annotations

from dataclasses import replace

from lab.testbed.machine import PORTS, Machine, Region, append, argv

STAYING = Machine(
    directory="/run/lab/testbed",
    vmlinux="/kernels/vmlinux",
    initramfs="/cache/initramfs.cpio",
    regions=(Region(path="/cache/root.erofs", size_bytes=1 << 30),),
    disk="/lab/testbed/disk.qcow2",
    vcpus=2,
    memory_bytes=3 << 30,
    tsc_khz=2_000_000,
)
COUNTED = replace(
    STAYING,
    regions=(*STAYING.regions, Region(path="/cache/data.ext4", size_bytes=1 << 29, private=True)),
    disk="",
    vcpus=1,
    counted=True,
)


def value_of(flag: str, words: tuple[str, ...]) -> str:
    return words[words.index(flag) + 1]


def test_a_machine_has_svm_to_offer_and_several_threads_to_do_it() -> None:
    words = argv(STAYING)
    assert (value_of("-accel", words), value_of("-cpu", words)) == ("tcg,thread=multi", "max")
    assert "-icount" not in words


def test_nothing_of_the_host_gets_into_a_machine_that_counts() -> None:
    words = argv(COUNTED)
    assert value_of("-icount", words) == "shift=3,sleep=off"
    assert value_of("-rtc", words) == "base=2024-01-01T00:00:00,clock=vm"
    assert value_of("-cpu", words) == "max,-rdrand,-rdseed"
    assert "-seed" in words
    assert "-drive" not in words
    assert {"nokaslr", "tsc_early_khz=1000000"} <= set(append(COUNTED))


def test_the_root_is_read_only_and_a_private_region_never_reaches_its_file() -> None:
    objects = [word for word in argv(COUNTED) if word.startswith("memory-backend-file")]
    assert [word.split(",", 4)[-1] for word in objects] == ["share=on,readonly=on", "share=off"]


def test_there_is_room_for_every_region_beside_the_memory() -> None:
    assert value_of("-m", argv(COUNTED)) == "3072M,slots=2,maxmem=4608M"


def test_every_port_has_a_socket_of_its_own() -> None:
    sockets = [word for word in argv(STAYING) if word.startswith("socket,")]
    assert len(set(sockets)) == PORTS


def test_cgroup_v1_is_nowhere() -> None:
    assert "cgroup_no_v1=all" in append(STAYING)
    assert "cgroup_no_v1=all" in append(COUNTED)


def test_a_machine_that_arrives_boots_nothing_by_itself() -> None:
    assert argv(STAYING, arriving=True)[-2:] == ("-incoming", "defer")
