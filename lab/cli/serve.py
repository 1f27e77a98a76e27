"""`lab serve`: the Docker Engine API on a unix socket, for docker's clients."""

from __future__ import annotations

import argparse
import contextlib
import os

from lab.api import file_works
from lab.api.aside import Aside
from lab.api.call import Surroundings
from lab.api.dispatch import Dispatcher
from lab.api.routes.system import PING_HEADERS
from lab.api.server import Server, listen, stop_signals
from lab.api.terminals import Terminals
from lab.api.waiting import WaitingClients, Witnesses
from lab.cli import output
from lab.errors import EXIT_OK
from lab.paths import Paths

SOCKET_NAME = "docker.sock"
EPILOG = """example:
  sudo lab serve --socket /run/lab/docker.sock --group docker &
  DOCKER_HOST=unix:///run/lab/docker.sock docker run --rm busybox echo hello

The server keeps nothing: it can be ended and started again at any time, and what runs goes on. It ends by SIGTERM."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.epilog = EPILOG
    parser.add_argument(
        "--socket", metavar="PATH", default="", help=f"where (default: {SOCKET_NAME} in the run directory)"
    )
    parser.add_argument("--group", metavar="GROUP", default="", help="who else may connect, by name or number")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    path = os.path.abspath(arguments.socket or os.path.join(paths.run, SOCKET_NAME))
    aside = Aside(file_works.WORKS)  # before there are threads and sockets
    try:
        surroundings = Surroundings(
            paths=paths, waiting=WaitingClients(), witnesses=Witnesses(), terminals=Terminals(), aside=aside
        )
        _serve(path, arguments.group, Dispatcher(surroundings))
    finally:
        aside.close()
    return EXIT_OK


def _serve(path: str, group: str, dispatcher: Dispatcher) -> None:
    with stop_signals() as stopping:
        listener = listen(path, group)
        server = Server(listener, dispatcher.serve, PING_HEADERS)
        try:
            output.note(f"serving the Docker Engine API: DOCKER_HOST=unix://{path}")
            server.run(stopping)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            listener.close()
            server.finish()
