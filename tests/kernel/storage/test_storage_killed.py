"""Commands that are killed at any instant, or work at once: the store stays whole, and the next command cleans up."""

from __future__ import annotations

import io
import os
import random
import sys
import tarfile
import time
from pathlib import Path

import pytest

from lab.container.image.store import ImageStore
from lab.linux import command
from lab.paths import Paths

pytestmark = pytest.mark.root

KILLS = 25
WORK = """
import sys
from lab.container.image.archive import load
from lab.container.image.importing import ImportWishes, import_image
from lab.container.image.store import ImageStore
from lab.paths import Paths

store = ImageStore.open(Paths.under(sys.argv[1]))
print("ready", flush=True)
while True:
    with open(sys.argv[2], "rb") as file:
        wishes = ImportWishes(name="killed:1", message="", changes=(), created_s=0)
        image = import_image(store, file, "tree", wishes)
    store.tag("killed:1", "killed:2")
    store.layer_directories("killed:1")
    store.remove("killed:2")
    store.remove(image.config_digest)
"""


def make_archive(path: Path, *, seed: int) -> None:
    """Write a tree of many small files, so that unpacking and removing it takes a while."""
    with tarfile.open(path, "w") as tar:
        for number in range(300):
            entry = tarfile.TarInfo(f"d{number % 20}/f{number}")
            content = f"{seed} {number}".encode() * 50
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def test_killed_loads_and_removals_lose_no_finished_image_and_leave_nothing(tmp_path: Path, fresh_paths: Paths) -> None:
    kept, archive = tmp_path / "kept.tar", tmp_path / "tree.tar"
    make_archive(kept, seed=0)
    make_archive(archive, seed=1)
    lab = [sys.executable, "-m", "lab", "--root", fresh_paths.root, "image"]
    kept_id = command.run([*lab, "import", str(kept), "kept:1"]).text
    for _ in range(KILLS):
        worker = command.spawn([sys.executable, "-c", WORK, fresh_paths.root, str(archive)], stdout=command.PIPE)
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        time.sleep(random.uniform(0, 0.25))  # the instant is to be any
        worker.kill()
        worker.wait()
        worker.stdout.close()
        store = ImageStore.open(fresh_paths)
        assert [error for _, error in store.verify() if error] == []
        for image in store.images():
            for directory in store.layer_directories(image.manifest_digest):
                assert len([name for _, _, names in os.walk(directory) for name in names]) == 300
        assert store.resolve("kept:1").config_digest == kept_id
    store = ImageStore.open(fresh_paths)
    store.prune(lambda image: image.config_digest != kept_id, with_names=True)
    store.collect()
    image = store.resolve("kept:1")
    assert set(store.blobs.digests()) == {image.manifest_digest, image.config_digest, image.layers[0].digest}
    assert set(store.layers.chain_ids()) == set(image.chain_ids)
    assert store.layers.leftovers() == ()
    assert os.listdir(store.blobs.ingest) == []


def test_the_same_archive_loaded_many_times_at_once_is_one_image(tmp_path: Path, fresh_paths: Paths) -> None:
    archive = tmp_path / "tree.tar"
    make_archive(archive, seed=1)
    lab = [sys.executable, "-m", "lab", "--root", fresh_paths.root, "image"]
    saved = tmp_path / "saved.tar"
    assert command.run([*lab, "import", str(archive), "it:1"]).exit_code == 0
    assert command.run([*lab, "save", "-o", str(saved), "it:1"]).exit_code == 0
    assert command.run([*lab, "rm", "it:1"]).exit_code == 0
    workers = [command.spawn([*lab, "load", "-q", "-i", str(saved)]) for _ in range(4)]
    assert [worker.wait() for worker in workers] == [0, 0, 0, 0]
    store = ImageStore.open(fresh_paths)
    (image,) = store.images()
    assert len(store.layer_directories(image.name)) == 1
    assert [error for _, error in store.verify() if error] == []


def test_a_disk_that_is_full_while_loading_is_told_and_the_store_is_whole(tmp_path: Path, fresh_paths: Paths) -> None:
    from lab.container.storage.snapshots import unmount
    from lab.linux import mount

    archive = tmp_path / "big.tar"
    with tarfile.open(archive, "w") as tar:
        entry = tarfile.TarInfo("big")
        entry.size = 4 * 1024**2
        tar.addfile(entry, io.BytesIO(random.Random(1).randbytes(entry.size)))
    os.makedirs(fresh_paths.images)
    mount.mount("tmpfs", fresh_paths.images, "tmpfs", 0, "size=1m")
    try:
        done = command.run([sys.executable, "-m", "lab", "--root", fresh_paths.root, "image", "import", str(archive)])
        assert done.exit_code == 1
        assert "No space left on device" in done.error_text
        assert "Traceback" not in done.error_text
        store = ImageStore.open(fresh_paths)
        assert store.blobs.digests() == ()
        assert os.listdir(store.blobs.ingest) == []
    finally:
        unmount(fresh_paths.images)
