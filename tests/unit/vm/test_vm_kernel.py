"""Taking vmlinux out of a bzImage, ordering modules, and the kernel's command line."""

from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import UnavailableError
from lab.vm import kernel
from lab.vm.initramfs import CpioEntry, clear_of_tables, cpio, guest_entries
from lab.vm.kernel import (
    bzimage_payload,
    compression_of,
    extract_vmlinux,
    module_depends,
    module_order,
    without_signature,
)
from lab.vm.kernel_options import host_tsc_khz, kernel_options

ELF = b"\x7fELF" + bytes(range(200))


def make_bzimage(payload: bytes, *, setup_sectors: int = 2, protocol: int = 0x20F, offset: int = 16) -> bytes:
    image = bytearray((setup_sectors + 1) * 512 + offset) + payload + b"tail"
    image[0x1F1] = setup_sectors
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, protocol)
    struct.pack_into("<II", image, 0x248, offset, len(payload))
    return bytes(image)


@pytest.mark.parametrize(
    "payload",
    [gzip.compress(ELF), lzma.compress(ELF) + struct.pack("<I", len(ELF)), ELF],
    ids=["gzip", "xz with its size behind it", "not compressed"],
)
def test_the_kernel_comes_out_of_a_bzimage(payload: bytes) -> None:
    assert extract_vmlinux(make_bzimage(payload), "vmlinuz") == ELF


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "not a Linux bzImage"),
        (make_bzimage(ELF, protocol=0x207), "boot protocol 2.07 is too old"),
        (make_bzimage(b"????"), "unknown kernel compression"),
        (make_bzimage(gzip.compress(b"no kernel")), "not an ELF file"),
        (make_bzimage(gzip.compress(ELF)[:4] + bytes(40)), "cannot take vmlinux out of"),
    ],
)
def test_what_is_no_kernel_is_refused_with_the_reason(image: bytes, reason: str) -> None:
    with pytest.raises(UnavailableError, match=reason):
        extract_vmlinux(image, "vmlinuz")


def test_zero_setup_sectors_mean_four() -> None:
    image = bytearray(make_bzimage(ELF, setup_sectors=4))
    image[0x1F1] = 0
    assert bzimage_payload(bytes(image)) == ELF


@pytest.mark.parametrize("parent", ["usr/lib/modules", "lib/modules"], ids=["Debian 13", "Debian 12"])
def test_modules_are_found_where_the_package_of_either_release_has_them(parent: str, tmp_path: Path) -> None:
    (tmp_path / parent / "6.12.9-cloud-amd64" / "kernel").mkdir(parents=True)
    found = kernel._modules(str(tmp_path))
    assert found == str(tmp_path / parent / "6.12.9-cloud-amd64")


@pytest.mark.parametrize("content", ["usr/share/doc", "usr/lib/modules"], ids=["no directory", "an empty one"])
def test_a_package_without_modules_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / content).mkdir(parents=True)
    with pytest.raises(UnavailableError, match="no modules"):
        kernel._modules(str(tmp_path))


def test_compressions_are_told_apart_by_their_first_bytes() -> None:
    assert compression_of(b"\x02\x21\x4c\x18rest") == "lz4"
    assert compression_of(b"\x28\xb5\x2f\xfdrest") == "zstd"


def test_a_module_names_what_it_needs() -> None:
    assert module_depends(b"\0license=GPL\0depends=virtio,virtio-ring\0name=x\0") == ("virtio", "virtio_ring")
    assert module_depends(b"\0depends=\0") == ()
    assert module_depends(b"nothing") == ()


@given(st.dictionaries(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=4), max_size=10))
def test_every_module_is_loaded_after_those_that_it_needs(graph: dict[int, list[int]]) -> None:
    depends = {f"m{name}": tuple(f"m{need}" for need in needs if need < name) for name, needs in graph.items()}
    order = module_order(sorted(depends), depends)
    assert sorted(order) == sorted(depends)
    for name in order:
        assert all(order.index(need) < order.index(name) for need in depends[name] if need in depends)


def test_a_signature_is_cut_off_and_nothing_else() -> None:
    signed = b"code" + b"S" * 5 + bytes(8) + struct.pack(">I", 5) + b"~Module signature appended~\n"
    assert without_signature(signed) == b"code"
    assert without_signature(b"code") == b"code"


def test_an_archive_ends_with_its_trailer_and_is_aligned() -> None:
    archive = cpio([CpioEntry(name="a", mode=0o100644, data=b"xyz")])
    assert len(archive) % 4 == 0
    assert archive.count(b"070701") == 2
    assert b"TRAILER!!!\0" in archive
    size, name_size = int(archive[54:62], 16), int(archive[94:102], 16)
    assert (size, name_size, archive[110:112]) == (3, 2, b"a\0")
    assert archive[112:115] == b"xyz"


def test_equal_content_gives_equal_archives() -> None:
    entries = guest_entries(b"init", [("virtio", b"ko")])
    assert cpio(entries) == cpio(guest_entries(b"init", [("virtio", b"ko")]))
    assert next(entry.data for entry in entries if entry.name == "modules/order") == b"virtio.ko\n"


def test_the_counters_frequency_is_half_the_bogomips() -> None:
    assert host_tsc_khz("model name : x\nbogomips\t: 4890.81\n") == 2_445_405
    assert host_tsc_khz("") is None


def test_a_known_frequency_saves_the_calibration_that_hangs() -> None:
    options = kernel_options(vcpus=1, tsc_khz=2_400_000, network=False)
    assert {"tsc_early_khz=2400000", "lpj=9600000", "noreplace-smp", "ipv6.disable=1"} <= set(options)
    assert not any(option.startswith("tsc_early") for option in kernel_options(vcpus=1, tsc_khz=None, network=True))


def test_with_a_network_tcp_and_ipv6_stay_as_they_are() -> None:
    text = " ".join(kernel_options(vcpus=2, tsc_khz=None, network=True))
    assert "cubictcp" not in text
    assert "ipv6" not in text
    assert "noreplace-smp" not in text


@pytest.mark.parametrize("network", [True, False])
def test_the_command_line_fits_into_the_kernels_buffer(network: bool) -> None:
    assert len(" ".join(kernel_options(vcpus=1, tsc_khz=9_999_999, network=network))) < 1900


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 4095, 4096, 4097, 933096])
def test_an_initramfs_leaves_the_end_of_memory_to_the_firmwares_tables(size: int) -> None:
    padded = clear_of_tables(b"x" * size)
    last_page_left = -len(padded) % 4096
    assert last_page_left == 4092
    assert padded.rstrip(b"\0") == b"x" * size
    assert len(padded) - size <= 4096
