"""Disks of guests: a read-only template for each image, a disk above or of it for each guest, scratch disks.

ext4 unless one asks for another file system, because that is what lies under the other arms' files on most hosts.
Templates are made once for each image digest and never written again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from lab.errors import DomainError, UnavailableError
from lab.linux import command
from lab.paths import Paths
from lab.units import format_bytes
from lab.vm import cache
from lab.vm.domain_spec import FileSystem

_MIB = 1024 * 1024
_BLOCK_BYTES = 4096
_INODE_BYTES = 256
_FREE_BYTES = 1024 * _MIB  # for the guest to write into; the file is sparse, so it costs nothing until then
_LABEL = "lab"
# Everything is initialised now: a guest that mounts a lazily made file system spends its first minutes writing tables.
_NOW = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"


def template_size_bytes(content_bytes: int, files: int) -> int:
    """Return the size of a disk for so much content: with tables, journal and free space, in whole MiB."""
    tables = files * (_INODE_BYTES + _BLOCK_BYTES)  # a file's last block is half empty on average; directories are not
    needed = content_bytes + content_bytes // 10 + tables + 64 * _MIB + _FREE_BYTES
    return -(-needed // _MIB) * _MIB


def ensure_template(paths: Paths, *, key: str, root_directory: str, file_system: FileSystem = FileSystem.EXT4) -> str:
    """Return the path of a read-only raw disk with the content of ``root_directory``; made once for ``key``.

    ``key`` is the image's digest ("sha256:…"); ``root_directory`` is read only if the template is not there yet.

    Raises:
        UnavailableError: the program that makes such file systems is missing.
        DomainError: it failed, for instance because the disk is full.
    """
    path = template_path(paths, key, file_system)

    def build(temporary: str) -> None:
        _MAKERS[file_system](temporary, root_directory)
        os.chmod(temporary, 0o444)

    return cache.make_once(path, build)


def template_path(paths: Paths, key: str, file_system: FileSystem = FileSystem.EXT4) -> str:
    """Return where the template for an image digest lies, whether it exists or not."""
    return os.path.join(paths.disk_templates, f"{key.replace(':', '-')}.{file_system}")


def _make_ext4_template(path: str, directory: str) -> None:
    content_bytes, files = measure(directory)
    size_bytes = template_size_bytes(content_bytes, files)
    _make_ext4(path, size_bytes, options=("-d", directory), inodes=max(files * 2, 65536))


def _make_erofs(path: str, directory: str) -> None:
    # uncompressed: nothing is unpacked by an emulated processor
    _run(("mkfs.erofs", "--quiet", path, directory), "make an erofs disk", package="erofs-utils")


def _make_squashfs(path: str, directory: str) -> None:
    argv = ("mksquashfs", directory, path, "-comp", "lz4", "-noappend", "-quiet", "-no-progress")
    _run(argv, "make a squashfs disk", package="squashfs-tools")


_MAKERS = {
    FileSystem.EXT4: _make_ext4_template,
    FileSystem.EROFS: _make_erofs,
    FileSystem.SQUASHFS: _make_squashfs,
}


def measure(directory: str) -> tuple[int, int]:
    """Return the bytes that a tree's files take on a disk, and how many files and directories it has."""
    content_bytes = files = 0
    for entry in _entries(directory):
        files += 1
        if entry.is_file(follow_symlinks=False):
            content_bytes += -(-entry.stat(follow_symlinks=False).st_size // _BLOCK_BYTES) * _BLOCK_BYTES
    return content_bytes, files


def _entries(directory: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(directory) as listing:
        for entry in listing:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)


def _make_ext4(path: str, size_bytes: int, *, options: tuple[str, ...] = (), inodes: int = 65536) -> None:
    with open(path, "wb") as file:
        file.truncate(size_bytes)
    argv = ("mkfs.ext4", "-q", "-F", "-L", _LABEL, "-m", "0", "-N", str(inodes), "-E", _NOW, *options, path)
    _run(argv, f"make an ext4 disk of {format_bytes(size_bytes)}", package="e2fsprogs")


def create_overlay(template: str, path: str) -> None:
    """Make a qcow2 disk that holds what a guest writes, above a template that it shares.

    Raises:
        UnavailableError: qemu-img is missing.
        DomainError: it failed.
    """
    argv = ("qemu-img", "create", "-q", "-f", "qcow2", "-b", template, "-F", "raw", path)
    _run(argv, f"make the disk {path}", package="qemu-utils")


def create_copy(template: str, path: str) -> None:
    """Make a raw disk of a guest's own with a template's content; sparse, and shared where the file system can.

    Raises:
        DomainError: it failed, for instance because the disk is full.
    """
    _run(("cp", "--reflink=auto", "--sparse=always", template, path), f"make the disk {path}", package="coreutils")
    os.chmod(path, 0o600)


def create_from_directory(path: str, directory: str) -> None:
    """Make a raw ext4 disk with the content of a directory as it is now.

    Raises:
        UnavailableError: mkfs.ext4 is missing.
        DomainError: it failed.
    """
    content_bytes, files = measure(directory)
    size_bytes = template_size_bytes(content_bytes, files)
    _make_ext4(path, size_bytes, options=("-d", directory), inodes=max(files * 2, 1024))


def create_scratch(path: str, size_bytes: int, *, allocate: bool = False) -> None:
    """Make an empty raw ext4 disk; ``allocate`` reserves its blocks, so that none is allocated while measuring.

    Raises:
        UnavailableError: mkfs.ext4 is missing.
        DomainError: it failed.
        OSError: the host's disk is full.
    """
    _make_ext4(path, size_bytes, inodes=max(1024, size_bytes // (64 * 1024)))
    if allocate:
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size_bytes)


def _run(argv: tuple[str, ...], what: str, *, package: str) -> None:
    try:
        done = command.run(argv)
    except FileNotFoundError as error:
        raise UnavailableError(f"{argv[0]} is missing", hint=f"apt install {package}") from error
    if done.exit_code:
        lines = done.error_text.strip().splitlines()
        raise DomainError(f"cannot {what}: {lines[-1] if lines else f'exit code {done.exit_code}'}")
