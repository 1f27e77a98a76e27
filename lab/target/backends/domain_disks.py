"""The disks of a guest target: the image as root, a scratch disk, a disk for each read-only volume."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass

from lab.container.image.store import ImageStore
from lab.container.storage.snapshots import Overlay, mount_overlay, unmount
from lab.errors import DomainError
from lab.paths import Paths
from lab.target.spec import TargetSpec
from lab.vm import disk_image
from lab.vm.domain_spec import CacheMode, DiskFormat, DomainDisk

_SCRATCH_PATH = "/data"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDisks:
    """The disks, and the directory in which those that are the guest's own lie."""

    disks: tuple[DomainDisk, ...]
    directory: str

    def remove(self) -> None:
        """Remove the guest's own disks; safe to call twice."""
        shutil.rmtree(self.directory, ignore_errors=True)


def lay_out_disks(paths: Paths, spec: TargetSpec) -> GuestDisks:
    """Make the disks of one guest.

    Raises:
        ImageNotFound: the store has no such image.
        UnavailableError: a tool is missing.
        DomainError: a disk could not be made, or a volume is of a kind that guests cannot have; nothing is left.
    """
    writable = [volume.path for volume in spec.volumes if not volume.read_only]
    if writable:
        raise DomainError(
            f"a guest cannot share the writable volume {writable[0]} with the host",
            hint="make it read-only, or ask for scratch space",
        )
    template = _ensure_template(paths, spec.image)
    directory = os.path.join(paths.guests, spec.name)
    os.makedirs(directory)
    try:
        return GuestDisks(disks=_make_disks(spec, template, directory), directory=directory)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _make_disks(spec: TargetSpec, template: str, directory: str) -> tuple[DomainDisk, ...]:
    root = os.path.join(directory, "root.qcow2")
    disk_image.create_overlay(template, root)
    disks = [DomainDisk(serial="root", path=root, format=DiskFormat.QCOW2, mount_point="/")]
    if spec.scratch_bytes:
        disks.append(_scratch(os.path.join(directory, "scratch.raw"), spec.scratch_bytes))
    for index, volume in enumerate(spec.volumes):
        path = os.path.join(directory, f"volume{index}.raw")
        disk_image.create_from_directory(path, volume.source)
        disks.append(
            DomainDisk(
                serial=f"volume{index}", path=path, format=DiskFormat.RAW, mount_point=volume.path, read_only=True
            )
        )
    return tuple(disks)


def _scratch(path: str, size_bytes: int) -> DomainDisk:
    disk_image.create_scratch(path, size_bytes, allocate=True)
    # past the host's page cache: the other arms' data is cached once as well, not twice
    return DomainDisk(
        serial="scratch", path=path, format=DiskFormat.RAW, mount_point=_SCRATCH_PATH, cache=CacheMode.NONE
    )


def _ensure_template(paths: Paths, image: str) -> str:
    store = ImageStore.open(paths)
    digest = store.resolve(image).manifest_digest
    path = disk_image.template_path(paths, digest)
    if os.path.exists(path):
        return path
    layers = store.layer_directories(digest)
    if len(layers) == 1:
        return disk_image.ensure_template(paths, key=digest, root_directory=layers[0])
    os.makedirs(paths.disk_templates, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="merge-", dir=paths.disk_templates) as scratch:
        upper, work, merged = (os.path.join(scratch, name) for name in ("upper", "work", "merged"))
        for directory in (upper, work, merged):
            os.mkdir(directory)
        mount_overlay(Overlay(lower=layers, upper=upper, work=work), merged)
        try:
            return disk_image.ensure_template(paths, key=digest, root_directory=merged)
        finally:
            unmount(merged)
