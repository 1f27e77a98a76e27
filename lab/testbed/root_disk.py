"""The testbed's root: Debian packages by the lab's own image maker, this very virtual environment, the guest kernel.

The packages become an image like any other (``testbed`` in the store), so that what is known about mirrors, keys and
proxies is known in one place. On its layers are laid the interpreter and the environment that run this code, at the
same paths, and the kernel's modules; the whole becomes one read-only file, made once for each combination of these.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable

from lab.container.image.bootstrap import bootstrap_with_packages
from lab.container.image.store import ImageStore
from lab.container.image.work import work_directory
from lab.container.storage.snapshots import Overlay, mount_overlay, unmount, unmount_below
from lab.errors import ImageNotFound, LabError, UnavailableError
from lab.linux import command
from lab.paths import Paths
from lab.vm import cache
from lab.vm.kernel import GuestKernel

PACKAGES = (
    "busybox-static", "cpio", "crun", "e2fsprogs", "erofs-utils", "fio", "gcc", "git", "iperf3", "iproute2", "kmod",
    "libc6-dev", "libseccomp2", "libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt0", "lz4", "nftables", "procps",
    "python3", "qemu-system-x86", "qemu-utils", "runc", "squashfs-tools", "xz-utils", "zstd",
)  # fmt: skip
IMAGE = f"testbed:{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:8]}"  # another list, another image
USERS = ("libvirt-qemu",)  # whom libvirt's driver looks up, as lab.sh knows
_ALIGNMENT = 2 * 1024 * 1024  # of memory that the kernel adds while it runs. Source: kernel mm/sparse.c, subsections
_LEFT_OUT = shutil.ignore_patterns("site-packages", "test", "tests", "idlelib", "*.a", "share", "include")

Progress = Callable[[str], None]
"""Called with one line about what begins."""


def key(image_digest: str, kernel: GuestKernel, environment: str) -> str:
    """Return what a root disk is made of, as the hexadecimal part of its file's name."""
    parts = (image_digest, kernel.digest, sys.version, sys.base_prefix, sys.prefix, environment, *USERS)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def environment_fingerprint(site_packages: str) -> str:
    """Return a digest of which packages of which versions an environment has."""
    names = sorted(name for name in os.listdir(site_packages) if name.endswith((".dist-info", ".pth")))
    return hashlib.sha256("\0".join(names).encode()).hexdigest()


def ensure(paths: Paths, kernel: GuestKernel, progress: Progress) -> str:
    """Return the path of the root disk, a read-only erofs file; the first time it takes two minutes and a network.

    Raises:
        UnavailableError: the lab does not run in a virtual environment, or one that does not run on these packages.
        ContainerError: the packages could not be had; nothing half-made is left.
        KernelError: the layers could not be stacked.
    """
    if sys.prefix == sys.base_prefix:
        raise UnavailableError(
            "the testbed takes the lab's virtual environment along, and this is none", hint="./lab.sh"
        )
    store = ImageStore.open(paths)
    image = bootstrap_with_packages(store, IMAGE, PACKAGES, progress=progress).image
    found = key(image.manifest_digest, kernel, environment_fingerprint(_site_packages()))
    os.makedirs(paths.testbed_cache, exist_ok=True)

    def build(temporary: str) -> None:
        with store.content_shared(), work_directory(os.path.join(paths.testbed_cache, "work")) as work:
            _build(temporary, store.layer_directories(image.manifest_digest), kernel, work, progress)

    return cache.make_once(os.path.join(paths.testbed_cache, f"root-{found}.erofs"), build)


def purge(paths: Paths) -> None:
    """Remove everything that the testbed is made of: its cache, what a killed builder left there, and its image.

    Raises:
        KernelError: a mount of a killed builder cannot be undone.
        StateConflict: a container uses the image.
    """
    unmount_below(paths.testbed_cache)
    cache.remove(paths.testbed_cache)
    with contextlib.suppress(ImageNotFound):
        ImageStore.open(paths).remove(IMAGE)


def _site_packages() -> str:
    return os.path.join(sys.prefix, "lib", f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages")


def _build(target: str, layers: tuple[str, ...], kernel: GuestKernel, work: str, progress: Progress) -> None:
    upper, overlay_work, root = (os.path.join(work, name) for name in ("upper", "overlay", "root"))
    for directory in (upper, overlay_work, root):
        os.mkdir(directory, 0o755)
    mount_overlay(Overlay(lower=layers, upper=upper, work=overlay_work, volatile=True), root)
    try:
        progress("testbed: taking along the virtual environment and the kernel's modules")
        _lay_over(root, kernel)
        progress("testbed: packing the root disk")
        # with times, since compiled Python is taken only if it is as old as its source says
        _run(("mkfs.erofs", "--quiet", target, root), "pack the root disk", package="erofs-utils")
    finally:
        unmount(root)
    size_bytes = os.path.getsize(target)
    os.truncate(target, -(-size_bytes // _ALIGNMENT) * _ALIGNMENT)
    os.chmod(target, 0o444)


def _lay_over(root: str, kernel: GuestKernel) -> None:
    if not sys.base_prefix.startswith("/usr"):
        _copy(sys.base_prefix, root, ignore=_LEFT_OUT)
    _copy(sys.prefix, root)
    shutil.copytree(kernel.modules, os.path.join(root, "usr/lib/modules", kernel.version), symlinks=True)
    for directory in ("data", "below", os.path.dirname(sys.prefix).lstrip("/")):
        os.makedirs(os.path.join(root, directory), exist_ok=True)
    _inside(root, ("depmod", kernel.version), "list the kernel's modules")
    for user in USERS:
        account = ("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", user)
        _inside(root, account, f"add the user {user}")
    _inside(root, (sys.executable, "-c", "import numpy, libvirt"), "run the lab's environment on Debian's packages")


def _copy(directory: str, root: str, ignore: Callable[[str, list[str]], Iterable[str]] | None = None) -> None:
    target = os.path.join(root, directory.lstrip("/"))
    shutil.copytree(directory, target, symlinks=True, ignore=ignore, dirs_exist_ok=True)


def _inside(root: str, argv: tuple[str, ...], what: str) -> None:
    _run(("chroot", root, *argv), what, package="coreutils")


def _run(argv: tuple[str, ...], what: str, *, package: str) -> None:
    try:
        done = command.run(argv)
    except FileNotFoundError as error:
        raise UnavailableError(f"{argv[0]} is missing", hint=f"apt install {package}") from error
    if done.exit_code:
        lines = done.error_text.strip().splitlines()
        raise LabError(f"testbed: cannot {what}: {lines[-1] if lines else f'exit code {done.exit_code}'}")
