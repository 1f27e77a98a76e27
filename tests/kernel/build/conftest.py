"""Builds made short: a Dockerfile and files in, an image and what was told out."""

from __future__ import annotations

import io
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from lab.container.defaults import ContainerNetwork
from lab.container.engine import Engine
from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.build import BuildRequest, build
from lab.container.image.build_cache import BuildCache
from lab.container.image.build_context import ContextSource
from lab.container.image.build_progress import StepTitle
from lab.container.image.build_run import Surroundings
from lab.container.image.store import ImageStore, StoredImage
from lab.container.storage.snapshots import Overlay, mount_overlay, unmount
from lab.paths import Paths

WITHOUT_NETWORK = Surroundings(network=ContainerNetwork.NONE)


@dataclass(slots=True)
class Seen:
    """All that a build told: which steps were made, which were found, and what commands wrote."""

    made: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    output: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def started(self, step: StepTitle) -> None:
        """Nothing is known yet."""

    def wrote(self, step: StepTitle, data: bytes) -> None:
        del step
        with self.lock:
            self.output += data.decode()

    def finished(self, step: StepTitle, *, cached: bool) -> None:
        with self.lock:
            (self.found if cached else self.made).append(step.text)

    def failed_step(self, step: StepTitle) -> None:
        self.failed.append(step.text)

    def noted(self, text: str) -> None:
        self.notes.append(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file of an image: type and permissions as `ls` shows them, owner, content or target of a link."""

    mode: str
    owner: tuple[int, int]
    content: str
    mtime_s: int


class Yard:
    """A lab root with a base image called busybox, and a directory that is the context."""

    def __init__(self, paths: Paths, engine: Engine, context: str) -> None:
        self.paths, self.engine, self.context = paths, engine, context
        self.store = ImageStore.open(paths)
        self.cache = BuildCache(paths.builds)
        self.seen = Seen()

    def write(self, files: Mapping[str, str]) -> None:
        for name, content in files.items():
            path = os.path.join(self.context, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(content)

    def build(self, dockerfile: str, files: Mapping[str, str] | None = None, **wishes: object) -> StoredImage:
        """Build a Dockerfile, whose first line is FROM busybox unless it says otherwise."""
        text = dockerfile if "FROM " in dockerfile else f"FROM busybox\n{dockerfile}"
        self.write(files or {})
        self.seen = Seen()
        request = BuildRequest(
            context=ContextSource(location=self.context, dockerfile="-", stdin=io.BytesIO(text.encode())),
            surroundings=WITHOUT_NETWORK,
            names=("built:latest",),
        )
        request = replace(request, **wishes)  # type: ignore[arg-type]  # fields of the request
        return build(self.paths, self.engine, request, _Told(self.seen))

    def files(self, image: StoredImage, below: str = "") -> dict[str, File]:
        """Return the files of an image below a directory, by their path in it."""
        with self.root(image) as root:
            top = os.path.join(root, below)
            return {
                os.path.relpath(path, top): _file(path)
                for directory, directories, names in os.walk(top)
                for path in (os.path.join(directory, name) for name in (*directories, *names))
            }

    def read(self, image: StoredImage, path: str) -> str:
        with self.root(image) as root, open(root + path) as file:
            return file.read()

    @staticmethod
    def read_in(root: str, path: str) -> str:
        with open(os.path.join(root, path)) as file:
            return file.read()

    @contextmanager
    def root(self, image: StoredImage) -> Iterator[str]:
        directory = os.path.join(self.paths.root, "looked-at")
        upper, work, root = (os.path.join(directory, name) for name in ("upper", "work", "root"))
        for path in (upper, work, root):
            os.makedirs(path, exist_ok=True)
        mount_overlay(Overlay(lower=self.store.layer_directories(image.manifest_digest), upper=upper, work=work), root)
        try:
            yield root
        finally:
            unmount(root)

    def changed(self, image: StoredImage, layer: int = -1) -> list[str]:
        """Return the paths in one layer of an image, sorted."""
        directory = tuple(reversed(self.store.layer_directories(image.manifest_digest)))[layer]
        return sorted(
            os.path.relpath(os.path.join(parent, name), directory)
            for parent, directories, names in os.walk(directory)
            for name in (*directories, *names)
        )


class _Told:
    """Passes on what is told to ``Seen``."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self.started, self.wrote, self.finished, self.noted = seen.started, seen.wrote, seen.finished, seen.noted

    def failed(self, step: StepTitle, reason: str) -> None:
        del reason
        self._seen.failed_step(step)


def _file(path: str) -> File:
    status = os.lstat(path)
    content = ""
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        with open(path, errors="surrogateescape") as file:
            content = file.read() if status.st_size < 4096 else f"{status.st_size} bytes"
    return File(
        mode=stat.filemode(status.st_mode),
        owner=(status.st_uid, status.st_gid),
        content=content,
        mtime_s=int(status.st_mtime),
    )


@pytest.fixture
def yard(fresh_paths: Paths, tmp_path: object) -> Iterator[Yard]:
    bootstrap(ImageStore.open(fresh_paths), BaseImage.BUSYBOX, progress=lambda _: None)
    with Engine(fresh_paths) as engine:
        yield Yard(fresh_paths, engine, str(tmp_path))
