"""What guests can be made up of, what they cannot, and what the kernel then needs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.target.backends import domain_options
from lab.target.spec import OptionValue
from lab.vm.domain_spec import CacheMode, DiskFormat, FileSystem, IoMode, MachineType
from lab.vm.makeup import PLAIN, Carrier, Firmware, KernelFlavour, Makeup, describe_root, refusal
from lab.vm.platform import firmware_file


def test_what_is_not_said_is_as_in_the_plain_guest() -> None:
    assert domain_options.makeup({}) == PLAIN
    assert refusal(PLAIN) == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"root": "9p"}, "the cloud kernel has no 9p"),
        ({"volumes": "9p"}, "the cloud kernel has no 9p"),
        ({"root": "virtiofs", "machine": "microvm"}, "no PCI"),
        ({"root": "virtiofs", "root_fs": "erofs"}, "cannot be erofs"),
        ({"root": "virtiofs", "cache": "none"}, "is no disk"),
        ({"root_fs": "erofs"}, 'add disk_format = "raw"'),
        ({"root_fs": "squashfs"}, 'add disk_format = "raw"'),
        ({"io": "native"}, 'add cache = "none"'),
        ({"firmware": "none"}, "nothing enters a kernel"),
        ({"free_page_reporting": True}, "add balloon = true"),
        ({"volumes": "virtiofs", "huge_pages": True}, "leave huge_pages or virtiofs out"),
    ],
)
def test_what_cannot_go_together_is_refused_with_what_would_do(options: dict[str, OptionValue], words: str) -> None:
    assert words in domain_options.check(options)


@pytest.mark.parametrize(
    "options",
    [
        {"root": "9p", "volumes": "9p", "kernel": "generic"},
        {"root": "virtiofs", "machine": "pc"},
        {"root_fs": "erofs", "disk_format": "raw", "cache": "none", "io": "native"},
        {"io": "io_uring"},
        {"balloon": True, "free_page_reporting": True, "ksm": False, "huge_pages": True},
        {"without": "quiet, lsm"},
    ],
)
def test_what_goes_together_is_not(options: dict[str, OptionValue]) -> None:
    assert domain_options.check(options) == ""


def _any_options() -> st.SearchStrategy[dict[str, OptionValue]]:
    values = {option.name: st.sampled_from(option.choices or (True, False)) for option in domain_options.OPTIONS[:-1]}
    return st.fixed_dictionaries({}, optional=values)


@given(_any_options())
def test_a_guest_that_is_not_refused_has_all_that_its_files_come_by(options: dict[str, OptionValue]) -> None:
    makeup = domain_options.makeup(options)
    if domain_options.check(options):
        return
    assert (Carrier.VIRTIOFS in makeup.carriers) == ("virtiofs" in makeup.modules)
    assert (Carrier.NINEP in makeup.carriers) == ("9p" in makeup.modules)
    assert makeup.root_file_system.is_writable or "overlay" in makeup.modules
    if "9p" in makeup.modules:
        assert makeup.kernel is KernelFlavour.GENERIC


def test_a_report_is_told_what_the_root_lies_on() -> None:
    covered = Makeup(
        root_file_system=FileSystem.EROFS, disk_format=DiskFormat.RAW, cache=CacheMode.NONE, io=IoMode.NATIVE
    )
    assert describe_root(PLAIN) == "ext4 on a qcow2 virtio disk, cache writeback"
    assert describe_root(Makeup(root=Carrier.VIRTIOFS)) == "the host's overlay, shared by virtiofs"
    assert describe_root(covered) == (
        "erofs on a raw virtio disk, cache none, io native, covered by an overlay in the guest's memory"
    )


def test_seabios_is_what_a_pc_has_by_itself() -> None:
    assert firmware_file(Firmware.SEABIOS, MachineType.Q35) == ""
    assert [firmware_file(Firmware.AUTO, machine) for machine in (MachineType.MICROVM,)] == [""]


def test_every_option_has_a_default_that_it_can_have() -> None:
    for option in domain_options.OPTIONS:
        assert not option.choices or option.default in option.choices
    names = [option.name for option in domain_options.OPTIONS]
    assert all(first != second for first, second in itertools.combinations(names, 2))
