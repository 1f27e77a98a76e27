"""`lab vm image`: the disks that guests boot from, made from the engine's images."""

from __future__ import annotations

import argparse

from lab.cli import gotemplate, output
from lab.cli.list_flags import FORMAT_HELP
from lab.cli.template_values import Value
from lab.container.image.store import ImageStore
from lab.errors import EXIT_OK, NoSuchMachine, StateConflict
from lab.machine import root_disk
from lab.machine.machines import Machines
from lab.paths import Paths
from lab.units import format_bytes

_COLUMNS = ("{{.Image}}", "{{.Digest}}", "{{.FileSystem}}", "{{.Size}}", "{{.Allocated}}")
_HEADINGS = {
    "Image": "IMAGE",
    "Digest": "DIGEST",
    "FileSystem": "FILE SYSTEM",
    "Size": "SIZE",
    "Allocated": "ALLOCATED",
    "Path": "PATH",
}
_SHORT = len("sha256:") + 12


def add_ls(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `ls`."""
    parser.add_argument("--format", metavar="FORMAT", default="", help=FORMAT_HELP)
    parser.add_argument("--no-trunc", action="store_true", help="show digests whole")
    parser.add_argument("-q", "--quiet", action="store_true", help="show digests only")


def ls(arguments: argparse.Namespace, paths: Paths) -> int:
    """List the disks that have been made from images; "<none>" is one whose image is gone."""
    names = {image.manifest_digest: image.name for image in ImageStore.open(paths).readable()}
    rows: list[dict[str, Value]] = [
        {
            "Image": names.get(each.digest) or "<none>",
            "Digest": each.digest if arguments.no_trunc else each.digest[:_SHORT],
            "FileSystem": str(each.file_system),
            "Size": format_bytes(each.size_bytes),
            "Allocated": format_bytes(each.allocated_bytes),
            "Path": each.path,
        }
        for each in root_disk.templates(paths)
    ]
    default = "{{.Digest}}" if arguments.quiet else gotemplate.table(_COLUMNS)
    output.text(gotemplate.render_rows(arguments.format, rows, _HEADINGS, default=default))
    return EXIT_OK


def add_build(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `build`."""
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="name, id, or the beginning of an id")


def build(arguments: argparse.Namespace, paths: Paths) -> int:
    """Make the disks of images now; `lab vm run` would make them when they are first needed."""
    store = ImageStore.open(paths)
    return output.each(
        arguments.images, lambda name: root_disk.ensure_template(paths, store.resolve(name).manifest_digest)
    )


def add_rm(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `rm`."""
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="an image, or a disk's digest or its beginning")


def rm(arguments: argparse.Namespace, paths: Paths) -> int:
    """Remove disks made from images, but for those that machines stand on."""
    used = {machine.record.digest: machine.name for machine in Machines(paths).all()}

    def remove(reference: str) -> None:
        for template in _find(paths, reference):
            if template.digest in used:
                name = used[template.digest]
                raise StateConflict(
                    f"the disk of machine {name} stands on that of {reference}", hint=f"lab vm rm {name}"
                )
            root_disk.remove_template(template)

    return output.each(arguments.images, remove)


def _find(paths: Paths, reference: str) -> list[root_disk.Template]:
    """Return the disks of one image, which may be of several file systems."""
    store = ImageStore.open(paths)
    by_name = {each.manifest_digest for each in store.readable() if reference in (each.name, each.name.split(":")[0])}
    found = [
        each
        for each in root_disk.templates(paths)
        if each.digest in by_name or each.digest.removeprefix("sha256:").startswith(reference.removeprefix("sha256:"))
    ]
    if len({each.digest for each in found}) != 1:
        what = "disks of several images are meant by" if found else "no disk has been made of"
        raise NoSuchMachine(f"{what} {reference}", hint="lab vm image ls")
    return found
