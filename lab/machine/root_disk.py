"""The disk of a machine's root: its image's content as a template, which many share, and what the machine writes above.

Here the engine's images and the guests' disks meet; neither knows the other.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.container.image.store import ImageStore
from lab.container.storage.snapshots import Overlay, mount_overlay, unmount
from lab.errors import DomainError
from lab.paths import Paths
from lab.vm import disk_image
from lab.vm.domain_spec import FileSystem

_QCOW2_MAGIC = b"QFI\xfb"  # Source: QEMU docs/interop/qcow2.txt


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A disk made from an image: ``digest`` is the image's manifest; ``allocated_bytes`` is what its file takes."""

    digest: str
    file_system: FileSystem
    path: str
    size_bytes: int
    allocated_bytes: int


def ensure_template(paths: Paths, digest: str, file_system: FileSystem = FileSystem.EXT4) -> str:
    """Return the path of the disk with an image's content, made once for each image and file system.

    Raises:
        ImageNotFound: the store has no such image.
        UnavailableError: a tool is missing.
        DomainError: it could not be made, for instance because the disk is full.
    """
    path = disk_image.template_path(paths, digest, file_system)
    if os.path.exists(path):
        return path
    with _merged(paths, ImageStore.open(paths).layer_directories(digest)) as root:
        return disk_image.ensure_template(paths, key=digest, root_directory=root, file_system=file_system)


@contextmanager
def _merged(paths: Paths, layers: tuple[str, ...]) -> Iterator[str]:
    if len(layers) == 1:
        yield layers[0]
        return
    os.makedirs(paths.disk_templates, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="merge-", dir=paths.disk_templates) as scratch:
        upper, work, merged = (os.path.join(scratch, name) for name in ("upper", "work", "merged"))
        for directory in (upper, work, merged):
            os.mkdir(directory)
        mount_overlay(Overlay(lower=layers, upper=upper, work=work), merged)
        try:
            yield merged
        finally:
            unmount(merged)


def templates(paths: Paths) -> tuple[Template, ...]:
    """Return the disks that have been made from images, by digest and file system."""
    try:
        names = sorted(os.listdir(paths.disk_templates))
    except FileNotFoundError:
        return ()
    kinds = tuple(f".{kind}" for kind in FileSystem)
    return tuple(_template(paths, name) for name in names if name.startswith("sha256-") and name.endswith(kinds))


def _template(paths: Paths, name: str) -> Template:
    path = os.path.join(paths.disk_templates, name)
    status = os.stat(path)
    digest, _, kind = name.rpartition(".")
    return Template(
        digest=digest.replace("-", ":", 1),
        file_system=FileSystem(kind),
        path=path,
        size_bytes=status.st_size,
        allocated_bytes=status.st_blocks * 512,
    )


def remove_template(template: Template) -> None:
    """Remove a disk that no machine stands on, and its lock."""
    for path in (template.path, f"{template.path}.lock"):
        if os.path.lexists(path):
            os.unlink(path)


def file_in_layers(layers: tuple[str, ...], path: str) -> str:
    """Return the text of a file of an image, "" where there is none; ``layers`` are directories, topmost first.

    Only a plain file counts: what an image links elsewhere is not followed out of it.
    """
    for layer in layers:
        try:
            status = os.lstat(os.path.join(layer, path))
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISREG(status.st_mode):  # a whiteout, or a link
            return ""
        with open(os.path.join(layer, path), encoding="utf-8", errors="replace") as file:
            return file.read()
    return ""


def make_root(template: str, path: str) -> None:
    """Make a machine's own disk above the template.

    Raises:
        UnavailableError: qemu-img is missing.
        DomainError: it failed, for instance because the disk is full.
    """
    disk_image.create_overlay(template, path)


def require_root(path: str) -> None:
    """See that a machine's disk is there and begins like one; whether all of it can be read is found out by QEMU.

    Raises:
        DomainError: it is gone, or is damaged.
    """
    hint = "lab vm snapshot revert, if there is one; else lab vm rm it, and run the image again"
    try:
        with open(path, "rb") as file:
            magic = file.read(len(_QCOW2_MAGIC))
    except FileNotFoundError as error:
        raise DomainError(f"the disk {path} is gone", hint=hint) from error
    if magic != _QCOW2_MAGIC:
        raise DomainError(f"the disk {path} is damaged: it does not begin like a qcow2 disk", hint=hint)


def copy_root(source: str, target: str) -> None:
    """Copy a disk, or a saved memory; sparse, and shared where the file system can.

    Raises:
        DomainError: it failed, for instance because the disk is full.
    """
    disk_image.create_copy(source, target)
