"""Errors of the engine in docker's status codes and words."""

from __future__ import annotations

import errno
import json
import stat

import pytest

from lab.api.file_works import go_mode
from lab.api.refusals import refusal
from lab.container.spawner_client import StartFailed
from lab.errors import ImageNotFound, KernelError, NoSuchContainer, RegistryError, SpecError, StateConflict


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NoSuchContainer("No such container: x"), 404),
        (ImageNotFound("No such image: x:latest"), 404),
        (StateConflict("it runs"), 409),
        (SpecError("bad"), 400),
        (RegistryError("denied", status=403), 404),
        (RegistryError("no basic auth credentials", status=401), 500),
        (RegistryError("broken", status=502), 500),
        (KernelError("mount", "/x", "no"), 500),
        (ValueError("a bug"), 500),
    ],
)
def test_each_error_has_dockers_status_and_its_own_words(error: Exception, status: int) -> None:
    answer = refusal(error)
    assert answer.status == status
    assert json.loads(answer.body) == {"message": str(error)}


@pytest.mark.parametrize(
    ("number", "path", "words"),
    [
        (errno.ENOENT, "nosuch", "executable file not found in $PATH"),
        (errno.ENOENT, "/no/such", "no such file or directory"),
        (errno.EACCES, "/etc", "permission denied"),
    ],
)
def test_a_program_that_cannot_run_is_told_in_the_words_that_clients_look_for(
    number: int, path: str, words: str
) -> None:
    answer = refusal(StartFailed("execute", number, "reason", path))
    assert answer.status == 400
    assert words in json.loads(answer.body)["message"]


def test_modes_are_those_of_go() -> None:
    assert go_mode(stat.S_IFREG | 0o644) == 0o644
    assert go_mode(stat.S_IFDIR | stat.S_ISVTX | 0o777) == (1 << 31) | (1 << 20) | 0o777
    assert go_mode(stat.S_IFLNK | 0o777) == (1 << 27) | 0o777
