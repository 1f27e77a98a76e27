"""`lab serve`: the Docker Engine API on a unix socket, and on TCP for clients with certificates."""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
from collections.abc import Iterator

from lab.api import file_works
from lab.api.aside import Aside
from lab.api.call import Surroundings
from lab.api.server import Listener, Server, listen, stop_signals
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
    parser.add_argument("--host", metavar="tcp://ADDRESS:PORT", default="", help="where besides, to clients over TLS")
    parser.add_argument("--tlsverify", action="store_true", help="ask each client of --host for its certificate")
    parser.add_argument("--tlscacert", metavar="FILE", default="", help="the authority of clients' certificates")
    parser.add_argument("--tlscert", metavar="FILE", default="", help="the server's own certificate")
    parser.add_argument("--tlskey", metavar="FILE", default="", help="the key of --tlscert")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    path = os.path.abspath(arguments.socket or os.path.join(paths.run, SOCKET_NAME))
    aside = Aside(file_works.WORKS)  # before there are threads and sockets, and what it would only have copies of
    try:
        from lab.api.dispatch import Dispatcher
        from lab.api.routes.system import PING_HEADERS

        surroundings = Surroundings(
            paths=paths, waiting=WaitingClients(), witnesses=Witnesses(), terminals=Terminals(), aside=aside
        )
        with stop_signals() as stopping, contextlib.ExitStack() as stack:
            server = Server(Dispatcher(surroundings).serve, PING_HEADERS)
            stack.callback(server.finish)  # once nobody can connect any more
            listeners = []
            if arguments.host:
                listeners.append(_tcp(arguments))
                tcp = stack.enter_context(listeners[-1].listening)
                where = "tcp://{}:{}".format(*tcp.getsockname())
                output.note(f"serving the Docker Engine API over TLS: DOCKER_TLS_VERIFY=1 DOCKER_HOST={where}")
            listeners.append(Listener(listening=stack.enter_context(_unix(path, arguments.group))))
            output.note(f"serving the Docker Engine API: DOCKER_HOST=unix://{path}")
            server.run(listeners, stopping)
    finally:
        aside.close()
    return EXIT_OK


@contextlib.contextmanager
def _unix(path: str, group: str) -> Iterator[socket.socket]:
    """Give the socket at a path, and remove it at the end."""
    with listen(path, group) as listener:
        try:
            yield listener
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _tcp(arguments: argparse.Namespace) -> Listener:
    from lab.api import tls  # which few need, and which is large

    files = (arguments.tlscacert, arguments.tlscert, arguments.tlskey)
    certificates = None
    if arguments.tlsverify and all(files):
        certificates = tls.Certificates(authority=files[0], certificate=files[1], key=files[2])
    return tls.listen(arguments.host, certificates)
