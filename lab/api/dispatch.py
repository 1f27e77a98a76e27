"""A request -> the route that answers it: paths, versions, and what becomes of errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import unquote

from lab.api.call import API_VERSION, MAX_ASKED_VERSION, MIN_API_VERSION, Call, Route, Routes, Surroundings
from lab.api.http import Answer, ClientGone, Connection, Request
from lab.api.query import Query
from lab.api.refusals import refusal, refused
from lab.api.routes import (
    build,
    container_files,
    container_streams,
    containers,
    elsewhere,
    execs,
    image_transfers,
    images,
    networks,
    system,
    volumes,
)
from lab.errors import LabError, SpecError

_log = logging.getLogger(__name__)
_VERSION = re.compile(r"/v(\d+)\.(\d+)(?=/)")
_PART = re.compile(r"\{(\w+)(\*?)\}")
_PACKAGES = (
    system, containers, container_streams, container_files, execs, images, image_transfers, build, networks, volumes,
    elsewhere,
)  # fmt: skip


class Dispatcher:
    """All routes, and what one call after the other needs."""

    def __init__(self, surroundings: Surroundings) -> None:
        """Know all routes."""
        self._surroundings = surroundings
        self._routes = tuple(_compiled(package.ROUTES) for package in _PACKAGES)

    def serve(self, connection: Connection) -> None:
        """Answer the requests of one client until it goes."""
        try:
            while (request := connection.next_request()) is not None:
                answer = self._answer(connection, request)
                if answer is not None:
                    connection.answer(answer)
                if not connection.goes_on():
                    return
        except ClientGone:
            return

    def _answer(self, connection: Connection, request: Request) -> Answer | None:
        """Return the answer to a request; None where it has been sent, as far as it could be."""
        try:
            return self._call(connection, request)
        except ClientGone:
            raise
        except Exception as error:  # one of the four places: here an exception becomes an answer
            if not isinstance(error, LabError | OSError):
                _log.exception("%s %s", request.method, request.target)
            if connection.has_answered:  # amid a stream there is no other way to say so
                raise ClientGone from error
            return refusal(error)

    def _call(self, connection: Connection, request: Request) -> Answer | None:
        target, _, parameters = request.target.partition("?")
        path = _without_version(target)
        for method, pattern, route in self._matching(path):
            if request.method == method or (request.method, method) == ("HEAD", "GET"):
                found = pattern.fullmatch(path)
                assert found is not None, "it is matching"
                names = {name: unquote(text) for name, text in found.groupdict().items()}
                return route(
                    Call(
                        surroundings=self._surroundings,
                        connection=connection,
                        headers=request.headers,
                        query=Query(parameters),
                        names=names,
                    )
                )
        return refused(HTTPStatus.NOT_FOUND, "page not found")

    def _matching(self, path: str) -> Iterator[tuple[str, re.Pattern[str], Route]]:
        for routes in self._routes:
            for method, pattern, route in routes:
                if pattern.fullmatch(path):
                    yield method, pattern, route


def _without_version(path: str) -> str:
    """Return a path without the version that it may begin with.

    Raises:
        SpecError: nobody speaks that version.
    """
    match = _VERSION.match(path)
    if match is None:
        return path
    asked = (int(match[1]), int(match[2]))
    text = f"client version {asked[0]}.{asked[1]}"
    if asked > MAX_ASKED_VERSION:
        raise SpecError(f"{text} is too new. Maximum supported API version is {API_VERSION}")
    if asked < tuple(map(int, MIN_API_VERSION.split("."))):
        raise SpecError(
            f"{text} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade your client"
            " to a newer version"
        )
    return path[match.end() :]


def _compiled(routes: Routes) -> tuple[tuple[str, re.Pattern[str], Route], ...]:
    return tuple((method, _pattern(path), route) for (method, path), route in routes.items())


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(_PART.sub(lambda part: f"(?P<{part[1]}>{'.+' if part[2] else '[^/]+'})", path))
