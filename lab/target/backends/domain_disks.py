"""The files of a guest target: the image as root, a scratch disk, volumes; each as a disk or as a shared directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from lab.container.image.store import ImageStore
from lab.container.storage.snapshots import Overlay, mount_overlay, unmount
from lab.errors import DomainError
from lab.machine.root_disk import ensure_template
from lab.paths import Paths
from lab.target.spec import TargetSpec, Volume
from lab.vm import disk_image
from lab.vm.domain_spec import CacheMode, DiskFormat, DomainDisk, DomainShare
from lab.vm.makeup import PLAIN, Carrier, Makeup

_SCRATCH_PATH = "/data"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDisks:
    """Disks and shares, and the directory in which what is the guest's own lies; ``merged`` is a mount in it, or ""."""

    disks: tuple[DomainDisk, ...]
    shares: tuple[DomainShare, ...]
    directory: str
    merged: str = ""

    def remove(self) -> None:
        """Remove what is the guest's own; safe to call twice."""
        if self.merged and os.path.ismount(self.merged):
            unmount(self.merged)
        shutil.rmtree(self.directory, ignore_errors=True)


def lay_out_disks(paths: Paths, spec: TargetSpec, makeup: Makeup = PLAIN, *, sockets: str = "") -> GuestDisks:
    """Make the disks of one guest, and mount what it is to share; ``sockets`` is where those of shares will lie.

    Raises:
        ImageNotFound: the store has no such image.
        UnavailableError: a tool is missing.
        DomainError: a disk could not be made, or a volume is of a kind that guests cannot have; nothing is left.
    """
    writable = [volume.path for volume in spec.volumes if not volume.read_only]
    if writable and makeup.volumes is Carrier.DISK:
        raise DomainError(
            f"a guest cannot share the writable volume {writable[0]} with the host as a disk",
            hint='make it read-only, ask for scratch space, or use a suite\'s arm with volumes = "virtiofs"',
        )
    directory = os.path.join(paths.guests, spec.name)
    os.makedirs(directory)
    merged = os.path.join(directory, "merged") if makeup.root is not Carrier.DISK else ""
    try:
        disks, shares = [], list(_volume_shares(spec, makeup, sockets))
        if merged:
            _mount_root(paths, spec.image, directory, merged)
            shares.append(_share("root", merged, "/", makeup.root, sockets))
        else:
            disks.append(_root_disk(paths, spec.image, directory, makeup))
        if spec.scratch_bytes:
            disks.append(_scratch(os.path.join(directory, "scratch.raw"), spec.scratch_bytes))
        disks.extend(_volume_disks(spec, makeup, directory))
    except BaseException:
        GuestDisks(disks=(), shares=(), directory=directory, merged=merged).remove()
        raise
    return GuestDisks(disks=tuple(disks), shares=tuple(shares), directory=directory, merged=merged)


def _root_disk(paths: Paths, image: str, directory: str, makeup: Makeup) -> DomainDisk:
    digest = ImageStore.open(paths).resolve(image).manifest_digest
    template = ensure_template(paths, digest, makeup.root_file_system)
    read_only = not makeup.root_file_system.is_writable
    if read_only:
        path = template
    elif makeup.disk_format is DiskFormat.QCOW2:
        path = os.path.join(directory, "root.qcow2")
        disk_image.create_overlay(template, path)
    else:
        path = os.path.join(directory, "root.raw")
        disk_image.create_copy(template, path)
    return DomainDisk(
        serial="root",
        path=path,
        format=makeup.disk_format,
        mount_point="/",
        read_only=read_only,
        cache=makeup.cache,
        io=makeup.io,
        file_system=makeup.root_file_system,
    )


def _scratch(path: str, size_bytes: int) -> DomainDisk:
    disk_image.create_scratch(path, size_bytes, allocate=True)
    # past the host's page cache: the other arms' data is cached once as well, not twice
    return DomainDisk(
        serial="scratch", path=path, format=DiskFormat.RAW, mount_point=_SCRATCH_PATH, cache=CacheMode.NONE
    )


def _volume_disks(spec: TargetSpec, makeup: Makeup, directory: str) -> Iterator[DomainDisk]:
    for index, volume in enumerate(spec.volumes if makeup.volumes is Carrier.DISK else ()):
        path = os.path.join(directory, f"volume{index}.raw")
        disk_image.create_from_directory(path, volume.source)
        yield DomainDisk(
            serial=f"volume{index}", path=path, format=DiskFormat.RAW, mount_point=volume.path, read_only=True
        )


def _volume_shares(spec: TargetSpec, makeup: Makeup, sockets: str) -> Iterator[DomainShare]:
    for index, volume in enumerate(spec.volumes if makeup.volumes is not Carrier.DISK else ()):
        yield _share(f"volume{index}", volume.source, volume.path, makeup.volumes, sockets, volume)


def _share(
    tag: str, directory: str, path: str, carrier: Carrier, sockets: str, volume: Volume | None = None
) -> DomainShare:
    return DomainShare(
        tag=tag,
        directory=directory,
        file_system=carrier.file_system,
        mount_point=path,
        socket=os.path.join(sockets, f"{tag}.sock") if carrier is Carrier.VIRTIOFS else "",
        read_only=volume is not None and volume.read_only,
    )


def _mount_root(paths: Paths, image: str, directory: str, merged: str) -> None:
    """Mount the image with a writable layer of the guest's own above it: the very root that a container would have."""
    store = ImageStore.open(paths)
    layers = store.layer_directories(store.resolve(image).manifest_digest)
    _mount_layers(layers, directory, merged)


def _mount_layers(layers: tuple[str, ...], directory: str, merged: str) -> None:
    upper, work = (os.path.join(directory, name) for name in ("upper", "work"))
    for made in (upper, work, merged):
        os.mkdir(made)
    mount_overlay(Overlay(lower=layers, upper=upper, work=work), merged)
