"""The options of the guest arms, as suite files write them -> a ``Makeup``; pure, and does not load libvirt."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from lab.target.spec import Option, Options, OptionValue
from lab.vm.domain_spec import CacheMode, DiskFormat, DomainMemory, FileSystem, IoMode
from lab.vm.kernel_options import option_names
from lab.vm.makeup import (
    PLAIN,
    Carrier,
    Firmware,
    KernelFlavour,
    KernelImage,
    Machine,
    Makeup,
    NetworkKind,
    refusal,
)

_Choice = TypeVar("_Choice", bound=StrEnum)
_AUTO = "auto"
_DISK_FILE_SYSTEMS = tuple(str(kind) for kind in FileSystem if not kind.is_share)


def _choice(name: str, default: StrEnum, doc: str) -> Option:
    return Option(name=name, default=str(default), doc=doc, choices=tuple(str(choice) for choice in type(default)))


def _switch(name: str, doc: str, *, default: bool = False) -> Option:
    return Option(name=name, default=default, doc=doc)


OPTIONS = (
    _choice("machine", PLAIN.machine, "the board; auto is a microvm where it can be had"),
    _choice("kernel", PLAIN.kernel, "Debian's kernel for clouds, or its generic one, which has 9p"),
    _choice("kernel_image", PLAIN.kernel_image, "entered through its PVH note, or unpacking itself"),
    _choice("firmware", PLAIN.firmware, "auto is qboot where it is installed, on a microvm the board's own"),
    _choice("root", PLAIN.root, "the root as a disk, or as a directory of the host"),
    Option(
        name="root_fs",
        default=str(PLAIN.root_file_system),
        doc="of a root disk; the read-only ones are covered by an overlay in the guest's memory",
        choices=_DISK_FILE_SYSTEMS,
    ),
    _choice("disk_format", PLAIN.disk_format, "of the root disk"),
    _choice("cache", PLAIN.cache, "what QEMU does with the root disk's data on the host"),
    Option(
        name="io",
        default=_AUTO,
        doc='how QEMU reads and writes the root disk; auto is native with cache = "none", else threads',
        choices=(_AUTO, *(str(mode) for mode in IoMode)),
    ),
    _choice("volumes", PLAIN.volumes, "as disks, which are copies and read-only, or as directories of the host"),
    _choice("network", PLAIN.network, "a link to the host, our containers' bridge, or QEMU itself"),
    _switch("balloon", "a balloon, by which the host can take memory back"),
    _switch("free_page_reporting", "give memory back by itself that the guest has freed; needs the balloon"),
    _switch("huge_pages", "take the guest's memory from the host's pool of huge pages"),
    _switch("ksm", "let the host merge equal pages, if it does so at all", default=PLAIN.memory.mergeable),
    Option(
        name="without",
        default="",
        doc=f"kernel options to leave out, with commas: {', '.join(option_names())}",
    ),
)


def check(options: Options) -> str:
    """Return why no guest can have these options together, a sentence; "" if one can.

    Names and types are those of ``OPTIONS``, which the caller has checked.
    """
    unknown = [name for name in _names(options.get("without", "")) if name not in option_names()]
    if unknown:
        return f"no guest is started with the kernel option '{unknown[0]}'; one of {', '.join(option_names())}"
    return refusal(makeup(options))


def makeup(options: Options) -> Makeup:
    """Return the make-up that options ask for; what they do not say is as in ``PLAIN``."""
    values = {option.name: options.get(option.name, option.default) for option in OPTIONS}
    return Makeup(
        machine=_of(Machine, values["machine"]),
        kernel=_of(KernelFlavour, values["kernel"]),
        kernel_image=_of(KernelImage, values["kernel_image"]),
        firmware=_of(Firmware, values["firmware"]),
        root=_of(Carrier, values["root"]),
        root_file_system=_of(FileSystem, values["root_fs"]),
        disk_format=_of(DiskFormat, values["disk_format"]),
        cache=_of(CacheMode, values["cache"]),
        io=None if values["io"] == _AUTO else _of(IoMode, values["io"]),
        volumes=_of(Carrier, values["volumes"]),
        network=_of(NetworkKind, values["network"]),
        memory=DomainMemory(
            balloon=bool(values["balloon"]),
            reports_free_pages=bool(values["free_page_reporting"]),
            huge_pages=bool(values["huge_pages"]),
            mergeable=bool(values["ksm"]),
        ),
        without_options=_names(values["without"]),
    )


def _of(kind: type[_Choice], value: OptionValue) -> _Choice:
    return kind(str(value))


def _names(value: OptionValue) -> tuple[str, ...]:
    return tuple(name.strip() for name in str(value).split(",") if name.strip())
