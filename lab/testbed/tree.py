"""The working tree that the testbed's machine works on: what belongs to it, and what has changed since it was sent."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import lab
from lab.errors import UnavailableError
from lab.linux import command

_NOT_SENT = ("reports/",)  # published runs: large, and nothing of them is run

Manifest = Mapping[str, str]
"""Each file of the tree, by its path below it, and what changes with it: mode, size, time of change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What brings a copy of the tree up to date."""

    send: tuple[str, ...]
    remove: tuple[str, ...]


def find() -> str:
    """Return the checkout in which this code lies.

    Raises:
        UnavailableError: it lies in none.
    """
    tree = os.path.dirname(os.path.dirname(os.path.abspath(lab.__file__)))
    if not os.path.exists(os.path.join(tree, ".git")):
        raise UnavailableError(f"the testbed works on a checkout of the lab, and {tree} is none", hint="git clone")
    return tree


def manifest(tree: str) -> dict[str, str]:
    """Return the files that git knows, or would take, as they are now.

    Raises:
        UnavailableError: git is missing, or refuses.
    """
    argv = (
        "git",
        "-c",
        f"safe.directory={tree}",
        "-C",
        tree,
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    )
    listed = command.run(argv)
    if listed.exit_code:
        raise UnavailableError(f"git cannot list {tree}: {listed.error_text}", hint=f"git -C {tree} status")
    found = {}
    for name in filter(None, listed.stdout.decode().split("\0")):
        if name.startswith(_NOT_SENT):
            continue
        try:
            status = os.lstat(os.path.join(tree, name))
        except FileNotFoundError:  # deleted, and git has not been told
            continue
        found[name] = f"{status.st_mode:o} {status.st_size} {status.st_mtime_ns}"
    return found


def delta(before: Manifest, now: Manifest) -> Delta:
    """Return what has to be sent and removed to come from one state of the tree to another."""
    return Delta(
        send=tuple(sorted(name for name, stamp in now.items() if before.get(name) != stamp)),
        remove=tuple(sorted(set(before) - set(now))),
    )


def pack(tree: str, names: Iterable[str]) -> bytes:
    """Return an archive of these files; one that has gone meanwhile is left out."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in names:
            if os.path.lexists(os.path.join(tree, name)):
                archive.add(os.path.join(tree, name), arcname=name, recursive=False)
    return buffer.getvalue()
