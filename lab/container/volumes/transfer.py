"""A volume's content as a tar, in and out, and from one volume to another: owner, mode, attributes, links and holes.

What is filled is filled under another name, in a process that dies with its parent: who is killed leaves nothing that
could be taken for a volume, and the next command removes it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from functools import partial
from typing import BinaryIO, cast

from lab.container import inside
from lab.container.storage.compression import Readable, decompressed
from lab.container.storage.pack import pack_tree
from lab.container.storage.unpack import UnpackLimits, unpack
from lab.container.volumes import driver, mounting
from lab.container.volumes.model import Volume
from lab.container.volumes.store import DATA, VolumeStore
from lab.errors import StateConflict
from lab.linux import filesystem, mount, prctl
from lab.linux import namespaces as ns
from lab.paths import Paths

_SIGKILL = 9
_OWN_CONTENT = UnpackLimits(entries=1 << 60, size_bytes=1 << 60)  # it has fitted on this host already


def clone(paths: Paths, name: str, new: str) -> Volume:
    """Make a volume with the content and the labels of another one, and with its size if it has one.

    Raises:
        NoSuchVolume: there is none.
        SpecError: the new name cannot be one.
        StateConflict: there is a volume of the new name.
        ContainerError: a file could not be read or written; there is no new volume.
    """
    store = VolumeStore(paths)
    source = store.get(name)
    options = {"size": source.options["size"]} if driver.size_bytes(source.options) else {}
    labels = {} if source.is_anonymous else source.labels
    _require_free(store, new)
    with mounting.in_use(paths, (name,)):

        def fill(directory: str) -> None:
            with inside.packing_here(partial(_pack, store.source(source))) as content:
                _unpack(directory, content, _OWN_CONTENT, f"volume {name}", new, options)

        return store.add(new, fill, labels=labels, options=options)


def export(paths: Paths, name: str, target: BinaryIO) -> None:
    """Write a volume's content as a tar, its directory as the first entry.

    Raises:
        NoSuchVolume: there is none.
        ContainerError: a file could not be read; what has been written is not whole.
        OSError: the target does not take what is written.
    """
    store = VolumeStore(paths)
    source = store.get(name)
    with mounting.in_use(paths, (name,)), inside.packing_here(partial(_pack, store.source(source))) as content:
        while data := content.read(io.DEFAULT_BUFFER_SIZE * 16):
            target.write(data)


def import_tar(
    paths: Paths, name: str, archive: BinaryIO, *, labels: Mapping[str, str], options: Mapping[str, str]
) -> Volume:
    """Make a volume of a tar, compressed or not.

    Raises:
        SpecError: the name or an option is wrong.
        StateConflict: there is a volume of this name.
        ContainerError: the archive is none, or over the limits, or a file could not be written; there is no volume.
    """
    store = VolumeStore(paths)
    _require_free(store, name)

    def fill(directory: str) -> None:
        _unpack(directory, archive, UnpackLimits.of_the_user(), "the archive", name, options)

    return store.add(name, fill, labels=labels, options=options)


def _require_free(store: VolumeStore, name: str) -> None:
    if os.path.lexists(store.path(name)):  # else that is found out when all is copied
        raise StateConflict(f"there is a volume '{name}' already", hint="choose another name")


def _pack(directory: str, target: BinaryIO) -> None:
    prctl.prctl(prctl.PR_SET_PDEATHSIG, _SIGKILL)
    pack_tree(directory, target)


def _unpack(
    directory: str, source: BinaryIO, limits: UnpackLimits, subject: str, name: str, options: Mapping[str, str]
) -> None:
    """Unpack a tar into a volume that is being made; one with a size is mounted for this process alone."""
    volume = Volume(name=name, created_ns=0, options=options)
    data = os.path.join(directory, DATA)

    def make(_: BinaryIO) -> None:
        prctl.prctl(prctl.PR_SET_PDEATHSIG, _SIGKILL)
        if driver.is_mounted(options):
            ns.unshare(ns.CLONE_NEWNS)
            mount.mount("", "/", "", mount.MS_REC | mount.MS_PRIVATE, "")
            mounting.mount_at(directory, volume)
        readable = decompressed(cast(Readable, source))  # cast: a BinaryIO reads; its parameter has another name
        unpack(readable, data, limits, subject=subject, whiteouts=False)
        filesystem.syncfs(data)

    with inside.packing_here(make) as nothing:
        nothing.read()
