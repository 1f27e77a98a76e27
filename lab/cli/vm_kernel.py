"""`lab vm kernel`: the kernels that guests boot, and the initramfs that comes with them."""

from __future__ import annotations

import argparse
import os

from lab.cli import gotemplate, output
from lab.cli.list_flags import FORMAT_HELP
from lab.cli.template_values import Value
from lab.errors import EXIT_OK
from lab.paths import Paths
from lab.units import format_bytes

_COLUMNS = ("{{.Version}}", "{{.Flavour}}", "{{.Digest}}", "{{.Size}}")
_HEADINGS = {"Version": "VERSION", "Flavour": "FLAVOUR", "Digest": "DIGEST", "Size": "SIZE", "Path": "PATH"}
_SHORT = len("sha256:") + 12
_MODULES = ("ext4", "virtio_blk", "virtio_console", "virtio_mmio", "virtio_net")


def add_ls(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `ls`."""
    parser.add_argument("--format", metavar="FORMAT", default="", help=FORMAT_HELP)
    parser.add_argument("-q", "--quiet", action="store_true", help="show versions only")


def ls(arguments: argparse.Namespace, paths: Paths) -> int:
    """List the guest kernels that are there; of one flavour guests boot the newest."""
    from lab.vm.kernel import cached_kernels  # loads no libvirt, but more than --help needs

    rows: list[dict[str, Value]] = [
        {
            "Version": kernel.version,
            "Flavour": str(flavour),
            "Digest": kernel.digest[:_SHORT],
            "Size": format_bytes(os.path.getsize(kernel.vmlinux)),
            "Path": os.path.dirname(kernel.vmlinux),
        }
        for flavour, kernel in cached_kernels(paths)
    ]
    default = "{{.Version}}" if arguments.quiet else gotemplate.table(_COLUMNS)
    output.text(gotemplate.render_rows(arguments.format, rows, _HEADINGS, default=default))
    return EXIT_OK


def add_fetch(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fetch`."""
    parser.add_argument(
        "flavour",
        metavar="FLAVOUR",
        nargs="?",
        choices=("cloud", "generic"),
        default="cloud",
        help="Debian's kernel for virtual machines (cloud), or that for any hardware (generic), which has 9p",
    )


def fetch(arguments: argparse.Namespace, paths: Paths) -> int:
    """Fetch a guest kernel as a package, if none of its flavour is there, and print its version."""
    from lab.vm.kernel import ensure_kernel
    from lab.vm.makeup import KernelFlavour

    output.line(ensure_kernel(paths, KernelFlavour(arguments.flavour)).version)
    return EXIT_OK


def add_import_(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `import`."""
    parser.add_argument("bzimage", metavar="BZIMAGE", help="a kernel, such as /boot/vmlinuz-VERSION")
    parser.add_argument("modules", metavar="MODULES", help="the directory of its modules, such as /lib/modules/VERSION")


def import_(arguments: argparse.Namespace, paths: Paths) -> int:
    """Take a kernel and its modules from files, and print its version; guests boot the newest that is there."""
    from lab.vm.kernel import import_kernel

    output.line(import_kernel(paths, arguments.bzimage, arguments.modules).version)
    return EXIT_OK


def add_build_initramfs(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `build-initramfs`."""
    parser.add_argument("--module", metavar="NAME", action="append", default=[], help="one more module; repeatable")


def build_initramfs(arguments: argparse.Namespace, paths: Paths) -> int:
    """Make the initramfs of guests from the guest's init and the kernel's modules, and print where it lies."""
    from lab.vm.initramfs import ensure_initramfs
    from lab.vm.kernel import ensure_kernel

    output.line(ensure_initramfs(paths, ensure_kernel(paths), {*_MODULES, *arguments.module}))
    return EXIT_OK
