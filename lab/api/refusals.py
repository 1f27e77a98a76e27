"""Errors of the engine -> docker's status codes and words; pure.

Source: github.com/moby/moby, errdefs and api/server/httpstatus; docker's clients match some of the texts.
"""

from __future__ import annotations

import errno
from http import HTTPStatus

from lab.api.http import Answer, document
from lab.container.inside import FileError
from lab.container.spawner_client import StartFailed
from lab.errors import (
    DockerfileError,
    ImageNotFound,
    LabError,
    NoSuchContainer,
    NoSuchNetwork,
    NoSuchVolume,
    RegistryError,
    SpecError,
    StateConflict,
)

_STATUSES: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (ImageNotFound, HTTPStatus.NOT_FOUND),
    (NoSuchContainer, HTTPStatus.NOT_FOUND),
    (NoSuchNetwork, HTTPStatus.NOT_FOUND),
    (NoSuchVolume, HTTPStatus.NOT_FOUND),
    (StateConflict, HTTPStatus.CONFLICT),
    (DockerfileError, HTTPStatus.INTERNAL_SERVER_ERROR),
    (SpecError, HTTPStatus.BAD_REQUEST),
    (StartFailed, HTTPStatus.BAD_REQUEST),
)
_NOT_THERE = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)  # of a registry, which need not tell the one from the other
_PROGRAM_STEP = "execute"


class NoSuchPath(LabError):  # noqa: N818 - docker speaks of what is not there
    """There is no such file in the container, or no such object of the API's own."""


def refusal(error: Exception) -> Answer:
    """Return the answer that tells of an error."""
    return refused(status_of(error), words_of(error))


def refused(status: HTTPStatus, message: str) -> Answer:
    """Return the answer that tells what is wrong, as docker tells it."""
    return document({"message": message}, status=status)


def status_of(error: Exception) -> HTTPStatus:
    """Return docker's status code for an error."""
    if isinstance(error, NoSuchPath):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, RegistryError) and error.status in _NOT_THERE:
        return HTTPStatus.NOT_FOUND
    if isinstance(error, FileError) and "o such file or directory" in str(error):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, StartFailed) and error.step != _PROGRAM_STEP:
        return HTTPStatus.INTERNAL_SERVER_ERROR
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)


def words_of(error: Exception) -> str:
    """Return the sentence for an error: the engine's own, but for a start, whose words clients look into."""
    if isinstance(error, StartFailed) and error.step == _PROGRAM_STEP:
        return _cannot_execute(error)
    return "; ".join((str(error), *getattr(error, "__notes__", ())))


def _cannot_execute(error: StartFailed) -> str:
    """Return runc's words for a program that cannot be executed, from which clients make exit codes 126 and 127."""
    if error.errno == errno.ENOENT and "/" not in error.path:
        reason = f'exec: "{error.path}": executable file not found in $PATH'
    elif error.errno == errno.ENOENT:
        reason = f'exec: "{error.path}": stat {error.path}: no such file or directory'
    elif error.errno == errno.EACCES:
        reason = f'exec: "{error.path}": permission denied'
    else:
        reason = f"exec {error.path}: {str(error).rpartition(': ')[2]}"
    return f"failed to create task for container: OCI runtime create failed: {reason}: unknown"
