"""A lab root whose bridge is removed afterwards, and programs that work on it at the same time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from lab.container.network import apply, ipam, namespace
from lab.container.network.model import Attachment, Bridge
from lab.linux import command
from lab.paths import Paths

from ..containers.conftest import Lab, lab_root, remove_containers

__all__ = ["lab_root"]

PROGRAM = """
import os, sys
from lab.container.network import apply, ipam, namespace
from lab.paths import Paths
paths = Paths.under(sys.argv[1])
"""

Attach = Callable[[str], tuple[str, Attachment]]
Programs = Callable[..., list[str]]


@pytest.fixture
def root(fresh_paths: Paths) -> Iterator[Paths]:
    yield fresh_paths
    apply.remove_bridge(fresh_paths)


@pytest.fixture
def lab(lab_root: Lab) -> Iterator[Lab]:
    """Return the command line; every container of the test is removed, and all that its networks have made."""
    yield lab_root
    remove_containers(lab_root)
    apply.remove_bridge(lab_root.paths)


@pytest.fixture
def bridge(root: Paths) -> Bridge:
    return apply.ensure_bridge(root)


@pytest.fixture
def attach(root: Paths, bridge: Bridge) -> Iterator[Attach]:
    """Return a function that makes a namespace on the bridge, and gives its path and place."""
    with ExitStack() as undo:

        def make(owner: str) -> tuple[str, Attachment]:
            path = os.path.join(root.run, "netns", owner)
            namespace.create(path)
            undo.callback(namespace.remove, path)
            attachment = ipam.lease(root.networks, bridge, owner)
            undo.callback(ipam.release, root.networks, attachment)
            namespace.connect(path, attachment)
            return path, attachment

        yield make


@pytest.fixture
def at_once() -> Iterator[Programs]:
    """Return a function that runs Python at the same time in several processes, and gives what each says first.

    They live until the test's end: so do their leases.
    """
    with ExitStack() as undo:

        def run(script: str, roots: list[Paths]) -> list[str]:
            text = f"{PROGRAM}\nsys.stdin.readline()\n{script}\nsys.stdout.flush()\nsys.stdin.readline()\n"
            argv = [[sys.executable, "-c", text, paths.root] for paths in roots]
            processes = [command.spawn(words, stdin=command.PIPE, stdout=command.PIPE, stderr=None) for words in argv]
            for process in processes:
                undo.callback(process.wait)
                undo.callback(lambda process=process: (process.stdin.close(), process.stdout.close()))
            for process in processes:
                process.stdin.write(b"go\n")
            return [process.stdout.readline().decode().strip() for process in processes]

        yield run
