"""A real service: nginx, from nothing running to its first HTTP answer as the host sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lab.bench.model import Sample
from lab.bench.workloads.protocol import Context, Needs, Parameter, Parameters
from lab.target.spec import Command, NetworkMode

ANSWER = b"ready"
"""The body of every answer."""

_CONFIGURATION = """\
user root;
pid /tmp/nginx.pid;
error_log stderr warn;
worker_processes 1;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path /tmp/nginx-body;
    proxy_temp_path /tmp/nginx-proxy;
    fastcgi_temp_path /tmp/nginx-fastcgi;
    uwsgi_temp_path /tmp/nginx-uwsgi;
    scgi_temp_path /tmp/nginx-scgi;
    server { listen PORT; location / { return 200 "ANSWER"; } }
}
"""
# -e: nginx opens its built-in log path before it reads the file, and the image may not have that directory
_SHELL = """printf %s "$CONFIGURATION" >/tmp/nginx.conf && exec nginx -e stderr -c /tmp/nginx.conf -g 'daemon off;'"""


WEB_SERVER = "/usr/sbin/nginx"
"""What ``web_server`` runs."""


def web_server(port: int) -> Command:
    """Return the command that serves HTTP on ``port``, on every address, in the foreground."""
    return Command(
        argv=("/bin/sh", "-c", _SHELL),
        env=(
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            ("CONFIGURATION", _CONFIGURATION.replace("PORT", str(port)).replace("ANSWER", ANSWER.decode())),
        ),
    )


class Service:
    """Starts nginx; ready is the first byte of its answer to a GET."""

    name = "service"
    title = "start-up of a web server until its first answer"
    parameters = (Parameter(name="memory", default=True, doc="read the memory views once the service has answered"),)
    metrics = ()

    def primary(self, parameters: Parameters) -> tuple[str, Mapping[str, str]]:  # noqa: ARG002 - the protocol's
        """Return the wall time from request to the first answer."""
        return "startup_wall", {}

    def needs(self, parameters: Parameters, port: int) -> Needs:  # noqa: ARG002 - the protocol's
        """Return nginx on ``port``, reachable from the host."""
        return Needs(command=web_server(port), network=NetworkMode.BRIDGE, serves=True, programs=(WEB_SERVER,))

    def run(self, context: Context) -> Iterable[Sample]:
        """Read the memory of the target with its service up, if asked."""
        return context.memory("service") if context.parameters["memory"] else ()


WORKLOAD = Service()
