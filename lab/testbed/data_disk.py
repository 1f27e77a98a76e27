"""The testbed's disk for what the lab keeps: base images, unpacked, and the guest kernel with what is made of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile

from lab.container.image import archive
from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.store import ImageStore
from lab.container.image.work import work_directory
from lab.paths import Paths
from lab.testbed.root_disk import Progress
from lab.vm import cache, disk_image
from lab.vm.kernel import GuestKernel

_ALIGNMENT = 2 * 1024 * 1024


def ensure(paths: Paths, kernel: GuestKernel, progress: Progress) -> str:
    """Return the path of the disk, a raw ext4 that is never written to; made once for the base images and the kernel.

    Raises:
        UnavailableError: a tool is missing.
        ContainerError: a base image could not be made.
        DomainError: the disk could not be made, for instance because the host's is full.
    """
    store = ImageStore.open(paths)
    images = {base: bootstrap(store, base, progress=progress).image.manifest_digest for base in BaseImage}
    found = hashlib.sha256("\0".join((kernel.digest, *images.values())).encode()).hexdigest()[:16]

    def build(temporary: str) -> None:
        progress("testbed: packing the base images and the guest kernel")
        with work_directory(os.path.join(paths.testbed_cache, "data-work")) as work:
            _fill(store, work, paths)
            disk_image.create_from_directory(temporary, work)
        os.truncate(temporary, -(-os.path.getsize(temporary) // _ALIGNMENT) * _ALIGNMENT)
        os.chmod(temporary, 0o444)

    os.makedirs(paths.testbed_cache, exist_ok=True)
    return cache.make_once(os.path.join(paths.testbed_cache, f"data-{found}.ext4"), build)


def _fill(store: ImageStore, work: str, paths: Paths) -> None:
    """Lay out /var/lib/lab and /var/cache/lab of the machine below ``work``: ``lib`` and ``cache``."""
    inside = ImageStore.open(Paths.under(os.path.join(work, "lib")))
    for base in BaseImage:
        with tempfile.NamedTemporaryFile(dir=paths.testbed_cache, suffix=".tar") as file:
            store.export_docker_archive(base, base, file.name)
            with open(file.name, "rb") as source:
                archive.load(inside, source, base, unpack=True)
    kernels = os.path.join(work, "cache", os.path.basename(paths.guest_kernels))
    shutil.copytree(paths.guest_kernels, kernels, symlinks=True, ignore=shutil.ignore_patterns("initramfs", "*.lock"))
