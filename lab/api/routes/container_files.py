"""/containers/…/archive and export: a container's files, to and fro; the work is done in the process aside."""

from __future__ import annotations

import base64
import json
import os
from http import HTTPStatus

from lab.api import file_works
from lab.api.aside import Pending
from lab.api.call import Call, Routes
from lab.api.http import Answer, nothing
from lab.container import events
from lab.errors import SpecError

_TAR = "application/x-tar"
_CHUNK_BYTES = 1 << 16


def _arguments(call: Call) -> dict[str, str]:
    """Return what works are told; a container that is not there is refused here already."""
    path = call.query.text("path")
    if not path:
        raise SpecError("bad parameter: missing path")
    with call.containers() as containers:
        return file_works.arguments(call.paths, containers.find(call.name), path)


def _stat_header(found: object) -> tuple[str, str]:
    return "X-Docker-Container-Path-Stat", base64.b64encode(json.dumps(found).encode()).decode()


def look(call: Call) -> Answer:
    """Tell what is at a path."""
    found = call.surroundings.aside.call("look", _arguments(call))
    return Answer(headers=(_stat_header(found),))


def get(call: Call) -> None:
    """Send what is at a path as a tar.

    Raises:
        ClientGone: the client has gone.
    """
    given = _arguments(call)
    found = call.surroundings.aside.call("look", given)
    _send(call, "pack", given, _stat_header(found))


def _send(call: Call, work: str, given: dict[str, str], *headers: tuple[str, str]) -> None:
    """Send what some work writes; if it fails, the answer breaks off."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(reading, "rb", buffering=0) as source:
        try:
            pending = call.surroundings.aside.begin(work, given, writing)
        finally:
            os.close(writing)
        with pending:
            call.connection.begin(_TAR, headers=headers)
            while data := source.read(_CHUNK_BYTES):
                call.connection.write(data)
            pending.result()
        call.connection.end()


def put(call: Call) -> Answer:
    """Unpack the tar that is the request's body into a directory.

    Raises:
        ClientGone: the client has gone.
    """
    given = _arguments(call)
    if call.query.truth("noOverwriteDirNonDir"):
        given[file_works.KEEPS_KINDS] = "yes"
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        pending = call.surroundings.aside.begin("extract", given, reading)
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    with pending:
        _pour(call, writing, pending)
    return nothing(HTTPStatus.OK)


def _pour(call: Call, writing: int, pending: Pending) -> None:
    with os.fdopen(writing, "wb", buffering=0) as target:
        try:
            for data in call.connection.body():
                view = memoryview(data)
                while view:
                    view = view[target.write(view) :]
        except BrokenPipeError:  # it has failed, and says why below
            pass
    pending.result()


def export(call: Call) -> None:
    """Send a container's whole root as a tar.

    Raises:
        ClientGone: the client has gone.
    """
    with call.containers() as containers:
        container = containers.get(call.name)
    _send(call, "export", file_works.arguments(call.paths, container.id))
    events.note(container.state.bundle, "export")


ROUTES: Routes = {
    ("HEAD", "/containers/{name}/archive"): look,
    ("GET", "/containers/{name}/archive"): get,
    ("PUT", "/containers/{name}/archive"): put,
    ("GET", "/containers/{name}/export"): export,
}
