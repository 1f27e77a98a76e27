"""The power goes: what is on the disk at that moment, taken from a file system's own device, is all that is left."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.container.image.archive import load
from lab.container.image.assemble import Assembly, Step, assemble
from lab.container.image.store import ImageStore
from lab.container.storage.pack import pack_directory
from lab.container.storage.walk import walk
from lab.linux import command, mount

pytestmark = [pytest.mark.root, pytest.mark.needs("root")]


class Machine:
    """A file system on a disk of its own, and what a machine would find there that lost its power now."""

    def __init__(self, base: Path) -> None:
        self.disk, self.root = base / "disk", base / "root"
        self._found = base / "found"
        with open(self.disk, "wb") as file:
            file.truncate(64 * 1024 * 1024)
        _done("mkfs.ext4", "-q", "-F", str(self.disk))
        for directory in (self.root, self._found):
            directory.mkdir()
        _done("mount", "-o", "loop", str(self.disk), str(self.root))

    def left_by_a_power_loss(self) -> Path:
        """Return the root directory as it is after the journal was replayed."""
        copy = self.disk.with_name("copy")
        shutil.copyfile(self.disk, copy)
        _done("mount", "-o", "loop", str(copy), str(self._found))
        return self._found

    def end(self) -> None:
        for directory in (self.root, self._found):
            if os.path.ismount(directory):
                mount.umount2(str(directory), 0)


def _done(*argv: str) -> None:
    done = command.run(argv)
    assert done.exit_code == 0, done.error_text


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.end()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a directory with files, small ones too, whose bytes are nowhere else."""
    for number in range(100):
        path = tmp_path / "tree" / str(number % 7) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(1 + number * 300))
    return tmp_path / "tree"


@pytest.fixture
def archive(tmp_path: Path, tree: Path) -> Path:
    """Return an archive with an image called "made" of those files."""
    store = ImageStore(str(tmp_path / "source"))
    step = Step(layer=pack_directory(store.blobs, str(tree)), created_by="a test", created_s=0)
    assemble(store, Assembly(name="made", steps=(step,), cmd=("true",)))
    store.export_docker_archive("made", "made", str(tmp_path / "archive"))
    return tmp_path / "archive"


def contents(root: Path) -> dict[str, bytes]:
    return {found.path: (root / found.path).read_bytes() for found in walk(str(root)) if not found.is_directory}


@pytest.mark.parametrize("unpack", [True, False])
def test_an_image_that_was_loaded_is_whole_after_the_power_was_lost(
    machine: Machine, archive: Path, tree: Path, unpack: bool
) -> None:
    store = ImageStore(str(machine.root / "images"))
    with open(archive, "rb") as source:
        load(store, source, "it", unpack=unpack)
    if not unpack:
        store.layer_directories("made")
    left = ImageStore(str(machine.left_by_a_power_loss() / "images"))
    assert [error for _, error in left.verify()] == [None] * 3
    (layer,) = left.resolve("made").chain_ids
    assert contents(Path(left.layers.path(layer))) == contents(tree)


def test_a_layer_that_was_taken_over_is_whole_after_the_power_was_lost(machine: Machine, tree: Path) -> None:
    def make(target: str) -> bool:
        shutil.copytree(tree, target)
        return True

    chain = f"sha256:{'a' * 64}"
    store = ImageStore(str(machine.root / "images"))
    store.layers.adopt({chain: make, f"sha256:{'b' * 64}": lambda _: False})
    left = ImageStore(str(machine.left_by_a_power_loss() / "images"))
    assert left.layers.chain_ids() == (chain,)
    assert contents(Path(left.layers.path(chain))) == contents(tree)
