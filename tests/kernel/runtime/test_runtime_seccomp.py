"""A container's own filter holds for all of its processes, whoever starts them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lab.container.engine import Engine
from lab.container.spawner_client import StartFailed
from lab.paths import Paths

if TYPE_CHECKING:
    from conftest import Containers

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("root"),
    pytest.mark.needs("overlay"),
    pytest.mark.needs("seccomp"),
]


def _refusing(*names: str) -> str:
    refused = {"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 13}
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]})


def test_a_profile_of_its_own_decides_and_not_the_default_one(containers: Containers) -> None:
    script = "mkdir /a; unshare -U true && echo unshared".replace("mkdir", "/bin/busybox mkdir")
    outcome = containers.shell(script, seccomp=_refusing("mkdir", "mkdirat"))
    assert "can't create directory '/a': Permission denied" in outcome.err
    assert outcome.out == "unshared\n"


def test_another_engine_executes_under_the_profile_kept_with_the_container(
    containers: Containers, fresh_paths: Paths
) -> None:
    container_id, _ = containers.start_sleeping(seccomp=_refusing("mkdir", "mkdirat"))
    with Engine(fresh_paths) as other:
        mine = replace_engine(containers, other)
        assert "Permission denied" in mine.exec(container_id, "/bin/busybox", "mkdir", "/a").err


def test_another_engine_starts_under_the_profile_kept_with_the_container(
    containers: Containers, fresh_paths: Paths
) -> None:
    container_id = containers.create("/bin/busybox", "mkdir", "/a", seccomp=_refusing("mkdir", "mkdirat"))
    with Engine(fresh_paths) as other:
        outcome = replace_engine(containers, other).finish(container_id)
    assert "Permission denied" in outcome.err


def replace_engine(containers: Containers, engine: Engine) -> Containers:
    """Return the same containers as another process would see them."""
    return type(containers)(engine, containers.config.layers[0])


def test_with_no_new_privileges_a_profile_need_not_allow_what_init_does(containers: Containers) -> None:
    refused = ("capset", "setgroups", "setresuid", "setresgid", "prctl", "chdir")
    assert containers.shell("echo up", seccomp=_refusing(*refused), no_new_privileges=True).out == "up\n"
    with pytest.raises(StartFailed):
        containers.shell("echo up", seccomp=_refusing(*refused))


def test_a_profile_that_kills_ends_the_program(containers: Containers) -> None:
    profile = json.loads(_refusing("mkdir", "mkdirat"))
    profile["syscalls"][0] = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"}
    outcome = containers.run("/bin/busybox", "mkdir", "/a", seccomp=json.dumps(profile))
    assert outcome.code == 128 + 31
