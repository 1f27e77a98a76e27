"""Where the guest kernel and its modules come from.

Debian's cloud kernel (or its generic one, for what the other lacks), fetched as a package and unpacked into the cache
without installing it, so that guests on all hosts run the same kernel; else the host's own, where it has modules. The
kernel proper (vmlinux) is taken out of the bzImage: QEMU enters it through its PVH note, and no guest spends its
start-up on decompression.
"""

from __future__ import annotations

import json
import lzma
import os
import platform
import re
import shutil
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lab.errors import UnavailableError
from lab.linux import command
from lab.paths import Paths
from lab.vm import cache
from lab.vm.makeup import KernelFlavour

_IMAGE_PACKAGE = re.compile(r"^Depends:.*?\b(linux-image-\d\S+)", re.MULTILINE)
_DESCRIPTION = "kernel.json"
_NEEDED = ("ext4", "virtio_blk", "virtio_console", "virtio_pci")  # what no guest boots without
_COMPRESSIONS = {  # Source: kernel lib/decompress.c
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x02\x21\x4c\x18": "lz4",
    b"\x5d\x00\x00": "lzma",
    b"\x7fELF": "none",
}
_MODULE_FILE = re.compile(r"(?P<name>[^/]+)\.ko(?P<suffix>\.xz|\.zst|\.gz)?")
_SIGNATURE_MARK = b"~Module signature appended~\n"
_MODULE_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestKernel:
    """A kernel for guests: files and the directory of its modules. ``digest`` is that of ``vmlinux``."""

    version: str
    vmlinux: str
    bzimage: str
    modules: str
    digest: str


def ensure_kernel(paths: Paths, flavour: KernelFlavour = KernelFlavour.CLOUD) -> GuestKernel:
    """Return the guest kernel, fetching it first if none is in the cache; needs no network once it is.

    Raises:
        UnavailableError: none can be had; the hint says how.
    """
    directory = _directory(paths, flavour)
    found = _cached(directory)
    if found is not None:
        return found
    with cache.locked(os.path.join(directory, "lock")):
        return _cached(directory) or _obtain(directory, flavour.package)


def _directory(paths: Paths, flavour: KernelFlavour) -> str:
    return paths.guest_kernels if flavour is KernelFlavour.CLOUD else os.path.join(paths.guest_kernels, str(flavour))


def cached_kernels(paths: Paths) -> tuple[tuple[KernelFlavour, GuestKernel], ...]:
    """Return the kernels in the cache with their flavours, the newest first; imported ones count as cloud kernels."""
    found = []
    for flavour in KernelFlavour:
        directory = _directory(paths, flavour)
        if os.path.isdir(directory):
            versions = sorted((n for n in os.listdir(directory) if _is_complete(directory, n)), key=_version_key)
            found += [(flavour, _load(os.path.join(directory, name))) for name in reversed(versions)]
    return tuple(found)


def import_kernel(paths: Paths, bzimage: str, modules: str) -> GuestKernel:
    """Take a kernel and the directory of its modules, whose name is its version, into the cache.

    Raises:
        UnavailableError: it is no kernel that guests can boot, or has not the drivers that they need.
        OSError: a file cannot be read.
    """
    version = os.path.basename(os.path.normpath(modules))
    with cache.locked(os.path.join(paths.guest_kernels, "lock")):
        kernel = _adopt(paths.guest_kernels, version, bzimage, modules)
        try:
            read_modules(kernel, _NEEDED)
        except UnavailableError:
            cache.remove(os.path.dirname(kernel.vmlinux))
            raise
    return kernel


def _cached(directory: str) -> GuestKernel | None:
    try:
        versions = [name for name in os.listdir(directory) if _is_complete(directory, name)]
    except FileNotFoundError:
        return None
    return _load(os.path.join(directory, max(versions, key=_version_key))) if versions else None


def _is_complete(directory: str, name: str) -> bool:
    return not name.endswith(".new") and os.path.exists(os.path.join(directory, name, _DESCRIPTION))


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _load(directory: str) -> GuestKernel:
    with open(os.path.join(directory, _DESCRIPTION), encoding="utf-8") as file:
        described = json.load(file)
    return GuestKernel(
        version=described["version"],
        vmlinux=os.path.join(directory, "vmlinux"),
        bzimage=os.path.join(directory, "bzimage"),
        modules=os.path.join(directory, "modules"),
        digest=described["digest"],
    )


def _obtain(directory: str, meta_package: str) -> GuestKernel:
    if shutil.which("apt-get"):
        try:
            return _from_package(directory, meta_package)
        except UnavailableError as error:
            if not _host_kernel_usable():
                raise
            del error  # the host's own will do
    if _host_kernel_usable():
        release = platform.release()
        return _adopt(directory, release, f"/boot/vmlinuz-{release}", f"/lib/modules/{release}")
    raise UnavailableError(
        f"no guest kernel: no apt-get, and this host has no /boot/vmlinuz-{platform.release()} with modules",
        hint="use Debian or Ubuntu, or install the distribution's kernel package",
    )


def _host_kernel_usable() -> bool:
    release = platform.release()
    return os.path.exists(f"/boot/vmlinuz-{release}") and os.path.isdir(f"/lib/modules/{release}")


def _from_package(directory: str, meta_package: str) -> GuestKernel:
    scratch = os.path.join(directory, "download")
    cache.remove(scratch)
    os.makedirs(scratch)
    try:
        _fetch(_image_package(meta_package), scratch)
        modules = _modules(os.path.join(scratch, "x"))
        version = os.path.basename(modules)
        return _adopt(directory, version, f"{scratch}/x/boot/vmlinuz-{version}", modules)
    finally:
        cache.remove(scratch)


def _modules(unpacked: str) -> str:
    """Return the one directory of modules in a package: below /usr since Debian 13, below / before."""
    for parent in (os.path.join(unpacked, "usr/lib/modules"), os.path.join(unpacked, "lib/modules")):
        if os.path.isdir(parent) and (names := os.listdir(parent)):
            return os.path.join(parent, names[0])
    raise UnavailableError("the kernel package holds no modules", hint="apt-get update, then try again")


def _image_package(meta_package: str) -> str:
    shown = command.run(("apt-cache", "show", "--no-all-versions", meta_package))
    match = _IMAGE_PACKAGE.search(shown.text)
    if shown.exit_code or match is None:
        raise UnavailableError(f"no package {meta_package} for the guest kernel", hint="apt-get update")
    return match[1]


def _fetch(package: str, directory: str) -> None:
    # as root: the user _apt, to whom apt would change, cannot write below the cache
    fetched = command.run(("apt-get", "-o", "APT::Sandbox::User=root", "-qq", "download", package), cwd=directory)
    archives = [name for name in os.listdir(directory) if name.endswith(".deb")]
    if fetched.exit_code or not archives:
        raise UnavailableError(
            f"cannot fetch the guest kernel {package}: {_last_line(fetched.error_text)}", hint="apt-get update"
        )
    unpacked = command.run(("dpkg-deb", "-x", archives[0], "x"), cwd=directory)
    if unpacked.exit_code:
        raise UnavailableError(f"cannot unpack {archives[0]}: {_last_line(unpacked.error_text)}")


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else "no reason given"


def _adopt(directory: str, version: str, bzimage: str, modules: str) -> GuestKernel:
    final = os.path.join(directory, version)
    building = final + ".new"
    cache.remove(building)
    os.makedirs(building)
    shutil.copyfile(bzimage, os.path.join(building, "bzimage"))
    shutil.copytree(modules, os.path.join(building, "modules"), symlinks=True)
    with open(bzimage, "rb") as file:
        vmlinux = extract_vmlinux(file.read(), bzimage)
    cache.write_file(os.path.join(building, "vmlinux"), vmlinux)
    digest = cache.digest_of_file(os.path.join(building, "vmlinux"))
    description = json.dumps({"version": version, "digest": digest}, indent=2)
    cache.write_file(os.path.join(building, _DESCRIPTION), description.encode())
    cache.remove(final)
    os.rename(building, final)
    return _load(final)


def bzimage_payload(bzimage: bytes) -> bytes:
    """Return the compressed kernel inside a bzImage, without the size that most compressions carry at the end.

    Source: kernel Documentation/arch/x86/boot.rst, fields setup_sects, payload_offset and payload_length.

    Raises:
        ValueError: it is not a bzImage of boot protocol 2.08 or later.
    """
    if len(bzimage) < 0x250 or bzimage[0x202:0x206] != b"HdrS":
        raise ValueError("not a Linux bzImage")
    (protocol,) = struct.unpack_from("<H", bzimage, 0x206)
    if protocol < 0x208:
        raise ValueError(f"boot protocol {protocol >> 8}.{protocol & 255:02} is too old")
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    return bzimage[start : start + length]


def compression_of(payload: bytes) -> str:
    """Return "gzip", "xz", "zstd", "lz4", "lzma" or "none".

    Raises:
        ValueError: it is none of these.
    """
    for magic, name in _COMPRESSIONS.items():
        if payload.startswith(magic):
            return name
    raise ValueError(f"unknown kernel compression (begins with {payload[:4].hex()})")


def extract_vmlinux(bzimage: bytes, subject: str) -> bytes:
    """Return the ELF kernel inside a bzImage; ``subject`` names it in errors.

    Raises:
        UnavailableError: it cannot be taken out; a tool is missing, or it is no such kernel.
    """
    try:
        payload = bzimage_payload(bzimage)
        vmlinux = _decompress(payload, compression_of(payload))
    except (ValueError, zlib.error, lzma.LZMAError) as error:
        raise UnavailableError(f"cannot take vmlinux out of {subject}: {error}") from error
    if not vmlinux.startswith(b"\x7fELF"):
        raise UnavailableError(f"cannot take vmlinux out of {subject}: the payload is not an ELF file")
    return vmlinux


def _decompress(payload: bytes, compression: str) -> bytes:
    if compression == "none":
        return payload
    if compression == "gzip":
        return zlib.decompressobj(wbits=31).decompress(payload)
    if compression in ("xz", "lzma"):
        return lzma.LZMADecompressor().decompress(payload)
    # Python 3.11 has neither; the last four bytes are the size, which would be taken for one more frame
    return _by_program(compression, payload[:-4])


def _by_program(program: str, data: bytes) -> bytes:
    try:
        done = command.run((program, "-d", "-c"), stdin=data)
    except FileNotFoundError as error:
        raise UnavailableError(
            f"{program} is missing, needed to unpack the kernel", hint=f"apt install {program}"
        ) from (error)
    if done.exit_code:
        raise ValueError(f"{program}: {_last_line(done.error_text)}")
    return done.stdout


def module_order(wanted: Iterable[str], depends: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return ``wanted`` and all that they depend on, each once, every module after those that it needs.

    ``depends`` says what each module needs directly; names that it lacks are left out: they are built in.
    """
    ordered: list[str] = []

    def visit(name: str) -> None:
        if name in depends and name not in ordered:
            for needed in depends[name]:
                visit(needed)
            ordered.append(name)

    for name in wanted:
        visit(name)
    return tuple(ordered)


def read_modules(kernel: GuestKernel, wanted: Iterable[str]) -> tuple[tuple[str, bytes], ...]:
    """Return name and plain content of the modules ``wanted`` and all that they need, in loading order.

    Raises:
        UnavailableError: one is neither a module nor built in.
    """
    files = _module_files(kernel.modules)
    builtin = _builtin_modules(kernel.modules)
    contents: dict[str, bytes] = {}
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name in contents or name in builtin:
            continue
        if name not in files:
            raise UnavailableError(f"guest kernel {kernel.version} has no module {name}")
        contents[name] = without_signature(_plain_module(files[name]))
        waiting += module_depends(contents[name])
    depends = {name: module_depends(content) for name, content in contents.items()}
    return tuple((name, contents[name]) for name in module_order(sorted(contents), depends))


def module_depends(module: bytes) -> tuple[str, ...]:
    """Return the names of the modules that a module says it needs.

    A package that was only unpacked has no modules.dep, which depmod would make; the modules say it themselves.
    """
    match = _MODULE_DEPENDS.search(module)
    return tuple(_module_name(name) for name in match[1].decode().split(",") if name) if match else ()


def without_signature(module: bytes) -> bytes:
    """Return a module without the signature at its end.

    Our kernels do not load the certificates that it would be checked against, and a signature that cannot be checked
    costs a digest of the whole module for nothing.
    Source: kernel include/linux/module_signature.h: signature, 12 bytes of which the last four are its length, mark.
    """
    if not module.endswith(_SIGNATURE_MARK):
        return module
    end = len(module) - len(_SIGNATURE_MARK)
    (length,) = struct.unpack_from(">I", module, end - 4)
    return module[: end - 12 - length]


def _module_name(text: str) -> str:
    return text.replace("-", "_")


def _module_files(directory: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for parent, _, names in os.walk(directory):
        for name in names:
            match = _MODULE_FILE.fullmatch(name)
            if match:
                found[_module_name(match["name"])] = os.path.join(parent, name)
    return found


def _builtin_modules(directory: str) -> frozenset[str]:
    with open(os.path.join(directory, "modules.builtin"), encoding="utf-8") as file:
        return frozenset(_module_name(os.path.basename(line.strip()).removesuffix(".ko")) for line in file)


def _plain_module(path: str) -> bytes:
    with open(path, "rb") as file:
        content = file.read()
    if path.endswith(".xz"):
        return lzma.decompress(content)
    if path.endswith(".gz"):
        return zlib.decompress(content, wbits=31)
    return _by_program("zstd", content) if path.endswith(".zst") else content
