"""`lab setup`: make what every suite needs and no package brings: the base images and the guest kernel."""

from __future__ import annotations

import argparse

from lab.cli import output
from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.store import ImageStore
from lab.errors import EXIT_OK
from lab.paths import Paths
from lab.vm.kernel import ensure_kernel

EPILOG = """example:
  sudo lab setup           make what is missing; a second time it finds everything there

The same as `lab image bootstrap all`, and fetching the kernel that guests boot."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing but the example: there is nothing to choose."""
    parser.epilog = EPILOG


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Make what is missing, with one line about each thing, and return 0."""
    del arguments
    store = ImageStore.open(paths)
    for base in BaseImage:
        done = bootstrap(store, base, progress=output.note)
        output.note(f"image {base}: {'made' if done.made else 'there'}, {done.image.manifest_digest}")
    output.note("guest kernel: looking for it")
    kernel = ensure_kernel(paths)
    output.note(f"guest kernel: {kernel.version}, {kernel.digest}")
    return EXIT_OK
