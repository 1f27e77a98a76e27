"""A step is made again when what it is made from has changed, and only then."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from lab.errors import BuildFailed, StateConflict

if TYPE_CHECKING:
    from conftest import Yard

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

APP = "COPY deps /app/deps\nRUN cat /app/deps > /installed\nCOPY . /app\nRUN cat /app/code > /compiled\nCMD x"
FILES = {"deps": "1", "code": "2"}


def test_the_same_again_is_the_same_image_and_makes_nothing(yard: Yard) -> None:
    first = yard.build(APP, FILES)
    second = yard.build(APP)
    assert second == first
    assert yard.seen.found[-5:] == ["COPY deps /app/deps", "RUN cat /app/deps > /installed", "COPY . /app",
                                    "RUN cat /app/code > /compiled", "CMD x"]  # fmt: skip


def test_changed_code_keeps_the_dependencies(yard: Yard) -> None:
    yard.build(APP, FILES)
    image = yard.build(APP, {"code": "3"})
    assert yard.seen.found == ["COPY deps /app/deps", "RUN cat /app/deps > /installed"]
    assert yard.read(image, "/compiled") == "3"
    yard.build(APP.replace("COPY deps", "COPY . /app\nCOPY deps"), {"code": "4"})
    yard.build(APP.replace("COPY deps", "COPY . /app\nCOPY deps"), {"code": "5"})
    assert yard.seen.found == []  # in this order everything depends on the code


def test_a_touched_file_is_the_same_and_a_changed_mode_is_not(yard: Yard) -> None:
    yard.build(APP, FILES)
    os.utime(os.path.join(yard.context, "deps"), (5, 5))
    yard.build(APP)
    assert "COPY deps /app/deps" in yard.seen.found
    os.chmod(os.path.join(yard.context, "deps"), 0o755)
    yard.build(APP)
    assert yard.seen.found == []


def test_a_file_that_is_ignored_does_not_count(yard: Yard) -> None:
    yard.build("COPY . /app", {".dockerignore": "log", "log": "1"})
    yard.build("COPY . /app", {"log": "2"})
    assert yard.seen.found == ["COPY . /app"]


def test_a_build_argument_counts_from_where_it_is_declared(yard: Yard) -> None:
    text = "FROM busybox\nRUN echo 1\nARG v=0\nRUN echo 2\nFROM busybox\nRUN echo 3"
    yard.build(text, target="0", build_args={"v": "1"})
    yard.build(text, target="0", build_args={"v": "2"})
    assert yard.seen.found == ["RUN echo 1", "ARG v=0"]
    yard.build(text, target="0", build_args={"v": "2", "HTTP_PROXY": "http://nowhere"})
    assert yard.seen.found == ["RUN echo 1", "ARG v=0", "RUN echo 2"]


def test_what_is_only_configuration_does_not_undo_commands(yard: Yard) -> None:
    yard.build("LABEL a=1\nRUN echo x")
    yard.build("LABEL a=2\nCMD y\nRUN echo x")
    assert yard.seen.found == ["RUN echo x"]
    yard.build("ENV a=2\nRUN echo x")
    assert yard.seen.found == []


def test_what_a_stage_gives_on_counts_not_how_it_was_made(yard: Yard) -> None:
    make = "FROM busybox AS make\nCOPY code /code\nRUN head -c1 /code > /out\n"
    text = f"{make}FROM busybox\nCOPY --from=make /out /\nRUN echo x"
    yard.build(text, {"code": "2a"})
    yard.build(text, {"code": "2b"})
    assert yard.seen.found == ["COPY --from=make /out /", "RUN echo x"]
    yard.build(text, {"code": "3"})
    assert yard.seen.found == []


def test_no_cache_makes_everything_and_is_found_afterwards(yard: Yard) -> None:
    first = yard.build(APP, FILES)
    second = yard.build(APP, use_cache=False)
    assert yard.seen.found == []
    third = yard.build(APP)
    assert second == third
    assert [first.config.rootfs.diff_ids[0]] == [second.config.rootfs.diff_ids[0]]


def test_what_was_made_before_a_failure_is_kept(yard: Yard) -> None:
    with pytest.raises(BuildFailed):
        yard.build("RUN echo 1\nRUN false")
    yard.build("RUN echo 1\nRUN true")
    assert yard.seen.found == ["RUN echo 1"]


def test_files_that_are_gone_are_made_again_or_unpacked_again(yard: Yard) -> None:
    first = yard.build(APP, FILES)
    layers = os.path.join(yard.paths.builds, "layers")
    for name in os.listdir(layers):
        shutil.rmtree(os.path.join(layers, name))
    assert yard.build(APP) == first  # out of the packed layers
    assert len(yard.seen.found) == 5
    yard.store.remove("built:latest")
    yard.build(APP)  # the layers' blobs are gone, their files are not
    assert len(yard.seen.found) == 5


def test_documents_that_a_crash_cut_off_are_not_believed(yard: Yard) -> None:
    yard.build(APP, FILES)
    steps = os.path.join(yard.paths.builds, "steps")
    for number, name in enumerate(os.listdir(steps)):
        with open(os.path.join(steps, name), "r+") as file:
            file.truncate(number % 2 * 7)
    yard.build(APP)
    assert yard.seen.found == []


def test_what_killed_builds_left_half_done_is_removed(yard: Yard) -> None:
    yard.build(APP, FILES)
    with open(os.path.join(yard.paths.builds, "steps", "0" * 64 + ".half"), "w") as file:
        file.write("{")
    os.mkdir(os.path.join(yard.paths.builds, "work", "1-1-dead"))  # process 1 was not started at tick 1
    yard.build(APP)
    assert not [name for name in os.listdir(os.path.join(yard.paths.builds, "steps")) if "." in name]
    assert os.listdir(os.path.join(yard.paths.builds, "work")) == []


def test_files_from_before_a_reboot_are_trusted_once_they_are_on_the_disk(yard: Yard) -> None:
    text = "FROM busybox AS make\nRUN echo 1 > /out\nFROM busybox\nCOPY --from=make /out /"
    yard.build(text)
    yard.cache = type(yard.cache)(yard.paths.builds)
    for name in os.listdir(os.path.join(yard.paths.builds, "steps")):
        path = os.path.join(yard.paths.builds, "steps", name)
        with open(path) as file:
            content = file.read()
        with open(path, "w") as file:
            file.write(content.replace(_boot_id(), "another-boot"))
    yard.build(text)
    assert yard.seen.found == ["RUN echo 1 > /out", "COPY --from=make /out /"]


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def test_pruning_removes_all_that_builds_keep(yard: Yard) -> None:
    image = yard.build(APP, FILES)
    assert yard.cache.size_bytes() > 0
    assert yard.cache.prune() > 0
    assert yard.cache.size_bytes() == 0
    assert yard.read(image, "/compiled") == "2"
    with yard.cache.building(), pytest.raises(StateConflict, match="a build is running"):
        yard.cache.prune()
