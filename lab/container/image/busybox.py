"""The ``busybox`` image: one static program, links of its applets' names, and the files that every root needs.

The plan of the tree is pure; the same package gives the same image, byte for byte, on every machine.
"""

from __future__ import annotations

import glob
import io
import os
import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory

from lab.container.image.packages import debian_architecture, download, field_of, installed_version, run_tool
from lab.container.storage.blobs import BlobStore
from lab.container.storage.pack import Layer, writing_layer
from lab.errors import UnavailableError

PACKAGE = "busybox-static"
_INSTALLED = "/bin/busybox"
_DIRECTORIES = (
    "bin", "dev", "etc", "home", "lib", "mnt", "opt", "proc", "root", "run", "sbin", "srv", "sys", "usr", "usr/bin",
    "usr/lib", "usr/local", "usr/local/bin", "usr/sbin", "usr/share", "var", "var/lib", "var/log", "var/spool",
    "var/www",
)  # fmt: skip
_STICKY = ("tmp", "var/tmp")
_FILES = {
    "etc/group": "root:x:0:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\n",
    "etc/hostname": "busybox\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/profile": "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
    "etc/resolv.conf": "",
    "etc/shells": "/bin/sh\n/bin/ash\n",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Busybox:
    """The program with what is known of it; ``mtime_s`` is the package's, in seconds since the epoch."""

    program: bytes
    applets: tuple[str, ...]
    version: str
    mtime_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEntry:
    """A directory (neither content nor link), a file, or a symbolic link of the image."""

    name: str
    mode: int
    content: bytes | None = None
    link: str = ""


def find_busybox(work: str) -> Busybox:
    """Return the installed busybox of the package busybox-static, else that of the package, downloaded below ``work``.

    Raises:
        UnavailableError: it is not installed and cannot be downloaded.
    """
    version = installed_version(PACKAGE)
    if version and os.path.exists(_INSTALLED):
        return _read(_INSTALLED, version)
    with TemporaryDirectory(dir=work) as directory:
        package = download(PACKAGE, directory)
        run_tool(("dpkg-deb", "--extract", package, directory), package="dpkg")
        found = glob.glob(f"{directory}/bin/busybox") + glob.glob(f"{directory}/usr/bin/busybox")
        if not found:
            raise UnavailableError(f"{package} has no busybox", hint=f"apt install {PACKAGE}")
        return _read(found[0], field_of(package, "Version"))


def plan(busybox: Busybox) -> tuple[TreeEntry, ...]:
    """Return the image's entries, each directory before what is in it, sorted by name."""
    entries = {name: TreeEntry(name=name, mode=0o755) for name in _DIRECTORIES}
    entries |= {name: TreeEntry(name=name, mode=0o1777) for name in _STICKY}
    entries["root"] = TreeEntry(name="root", mode=0o700)
    entries |= {name: TreeEntry(name=name, mode=0o644, content=text.encode()) for name, text in _FILES.items()}
    entries |= {entry.name: entry for entry in _applet_links(busybox.applets)}
    entries["bin/busybox"] = TreeEntry(name="bin/busybox", mode=0o755, content=busybox.program)
    return tuple(entries[name] for name in sorted(entries))


def pack(blobs: BlobStore, entries: Sequence[TreeEntry], *, mtime_s: int) -> Layer:
    """Store the entries as a layer; everything belongs to root and has the time ``mtime_s``."""
    with writing_layer(blobs) as writer:
        for entry in entries:
            writer.add(_header(entry, mtime_s), io.BytesIO(entry.content or b""))
    return writer.finished()


def labels(busybox: Busybox) -> dict[str, str]:
    """Return the image's labels: which package in which version it was made from."""
    return {"lab.package.busybox-static": busybox.version, "lab.architecture": debian_architecture()}


def _read(path: str, version: str) -> Busybox:
    with open(path, "rb") as file:
        program = file.read()
    listed = run_tool((path, "--list-full"), package=PACKAGE).text.split()
    return Busybox(program=program, applets=tuple(sorted(listed)), version=version, mtime_s=int(os.stat(path).st_mtime))


def _applet_links(applets: Sequence[str]) -> Iterator[TreeEntry]:
    for applet in applets:
        directory = posixpath.dirname(applet)
        if directory in _DIRECTORIES and applet != "bin/busybox":
            yield TreeEntry(name=applet, mode=0o777, link=posixpath.relpath("bin/busybox", directory))


def _header(entry: TreeEntry, mtime_s: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(entry.name)
    header.mode, header.mtime = entry.mode, mtime_s
    if entry.link:
        header.type, header.linkname = tarfile.SYMTYPE, entry.link
    elif entry.content is None:
        header.type = tarfile.DIRTYPE
    else:
        header.size = len(entry.content)
    return header
