"""Pulls and pushes that are killed, interrupted, or run out of disk: nothing is lost, and the next one finishes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kernel.containers.conftest import Lab, wait_until
from unit.registry.scripted import Reply, scripted_registry

from lab.container.image.store import ImageStore

pytestmark = [pytest.mark.root, pytest.mark.needs("docker-registry")]

KILLS = 25
LAYERS, LAYER_BYTES = 4, 3_000_000


@pytest.fixture(scope="module")
def large(shared_root: Lab, open_registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the name of an image of several layers that do not compress, in the registry and in the store."""
    directory = tmp_path_factory.mktemp("context")
    for number in range(LAYERS):
        (directory / f"file{number}").write_bytes(random.Random(number).randbytes(LAYER_BYTES))
    copies = "".join(f"COPY file{number} /\n" for number in range(LAYERS))
    (directory / "Dockerfile").write_text(f"FROM busybox\n{copies}")
    name = f"{open_registry}/large:1"
    shared_root.ok("build", "-q", "-t", name, str(directory))
    shared_root.ok("push", "-q", name)
    yield name
    shared_root.ok("rmi", "-f", name)


def _complete(lab: Lab, name: str) -> bool:
    store = ImageStore.open(lab.paths)
    size = len(store.layer_directories(name))
    return size == LAYERS + 1 and all(error is None for _, error in store.verify())


def _took_s(lab: Lab, *words: str) -> float:
    began = time.monotonic()
    lab.ok(*words)
    return time.monotonic() - began


def _killed(lab: Lab, after_s: float, *words: str) -> None:
    process = lab.begin(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after_s)  # the instant of the kill is what is tried
    process.kill()
    process.communicate()


def test_a_pull_that_is_killed_at_any_instant_is_finished_by_the_next(other: Lab, large: str) -> None:
    whole_s = _took_s(other, "pull", large)
    chance = random.Random(7)
    for _ in range(KILLS):
        other.ok("rmi", "-f", *other.ok("images", "-q").split()) if other.ok("images", "-q") else None
        _killed(other, chance.uniform(0.2, 1.0) * whole_s, "pull", large)
        other.ok("images")
        other.ok("pull", "-q", large)
        assert _complete(other, large)
    other.ok("rmi", "-f", large)
    store = ImageStore.open(other.paths)
    assert store.blobs.digests() == ()
    assert os.listdir(store.blobs.ingest) == []


def test_a_push_that_is_killed_at_any_instant_is_finished_by_the_next(
    shared_root: Lab, other: Lab, large: str, open_registry: str
) -> None:
    whole_s = _took_s(shared_root, "push", large)
    chance = random.Random(8)
    for number in range(KILLS):
        name = f"{open_registry}/killed{number}:1"
        shared_root.ok("tag", large, name)
        _killed(shared_root, chance.uniform(0.3, 1.2) * whole_s, "push", name)
        shared_root.ok("push", "-q", name)
        shared_root.ok("rmi", name)
    other.ok("pull", "-q", f"{open_registry}/killed{KILLS - 1}:1")
    assert _complete(other, f"{open_registry}/killed{KILLS - 1}:1")


def test_an_interrupted_pull_ends_at_once_and_keeps_finished_layers(other: Lab, large: str) -> None:
    process = other.begin("pull", large, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    for line in process.stdout:
        if b"Download complete" in line:
            break
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    process.communicate()
    assert time.monotonic() - began < 10
    assert process.returncode in (0, 130)
    if process.returncode:
        assert "Already exists" in other.ok("pull", large)
    assert _complete(other, large)


@contextmanager
def _small_disk(path: str, size: str) -> Iterator[None]:
    os.makedirs(path, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def test_a_full_disk_is_told_and_what_is_finished_stays(other: Lab, large: str) -> None:
    with _small_disk(other.paths.images, "7m"):
        done = other("pull", large)
        assert done.code == 1
        assert "No space left on device" in done.err
        assert "Traceback" not in done.err
        ingest = os.path.join(other.paths.images, "ingest")
        assert [name for name in os.listdir(ingest) if name.endswith(".part")] == []
        assert other.ok("images", "-q") == ""
        subprocess.run(["mount", "-o", "remount,size=60m", other.paths.images], check=True)
        other.ok("pull", large)
        assert _complete(other, large)


def test_two_pulls_at_once_fetch_each_layer_once(other: Lab, large: str) -> None:
    processes = [other.begin("pull", large, stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [process.communicate() and process.returncode for process in processes] == [0, 0, 0]
    assert _complete(other, large)
    assert os.listdir(os.path.join(other.paths.images, "ingest")) == []


@pytest.mark.parametrize("part", ["/v2/", "/manifests/", "/blobs/sha256:"])
def test_an_interrupted_pull_ends_at_once_whatever_the_registry_does(other: Lab, part: str) -> None:
    with scripted_registry() as registry:
        registry.add_image("1", "a", "b")
        stall = Reply(body=b"x", headers={"Content-Length": "2"}, stall=True)
        registry.fault = lambda seen: stall if part in seen.path else None
        process = other.begin("pull", f"{registry.host}/app:1", stdout=subprocess.DEVNULL)
        wait_until(lambda: registry.asked("GET", part))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, b"lab: interrupted\n")
