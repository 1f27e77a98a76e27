"""Debian's docker-registry, run by the tests: with a password, with TLS of a test's own authority, with tokens."""

from __future__ import annotations

import base64
import json
import re
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "tester", "hunter2"
_HTPASSWD = f"{USER}:$2b$04$HChjsvZHaTOv.qpa8oaZUe4AN/K0MQzd4gI.G1ICd8b4lO0gE9Enq\n"  # bcrypt of PASSWORD
_LISTENING = re.compile(r"listening on ([^,\"\s]+)")
_START_S = 20
_TOKEN_S = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """An authority, and a key with a certificate of it; paths."""

    authority: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path, *addresses: str) -> Certificates:
    """Make an authority, and a certificate of it for these IP addresses."""
    paths = Certificates(
        authority=directory / "ca.crt", certificate=directory / "server.crt", key=directory / "server.key"
    )
    names = ",".join(f"IP:{address}" for address in addresses)
    new = (
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    )
    _run(*new, "-subj", "/CN=test authority", "-keyout", directory / "ca.key", "-out", paths.authority)
    signed = ("-CA", paths.authority, "-CAkey", directory / "ca.key", "-addext", f"subjectAltName={names}")
    _run(*new, "-subj", "/CN=registry", *signed, "-keyout", paths.key, "-out", paths.certificate)
    return paths


def _run(*argv: object) -> bytes:
    return subprocess.run([str(word) for word in argv], check=True, capture_output=True).stdout


@contextmanager
def registry(
    directory: Path, *, address: str = "127.0.0.1", settings: Mapping[str, object] | None = None
) -> Iterator[str]:
    """Give HOST:PORT of a registry that keeps what it has below ``directory`` and runs during the block."""
    directory.mkdir(exist_ok=True)
    configuration = {
        "version": 0.1,
        "log": {"level": "info", "formatter": "json"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}, "delete": {"enabled": True}},
        "http": {"addr": f"{address}:0"},
    }
    for name, value in (settings or {}).items():
        old = configuration.get(name)
        configuration[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    (directory / "config.yml").write_text(json.dumps(configuration))  # JSON is YAML
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(directory / "config.yml")], stdout=log, stderr=log)
    try:
        yield _address(process, directory / "log")
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_S
    while not (found := _LISTENING.search(log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)  # what is waited for is another process's doing
    return found[1]


def with_password(directory: Path) -> dict[str, object]:
    """Return the settings of a registry that wants USER's PASSWORD."""
    directory.mkdir(exist_ok=True)
    (directory / "htpasswd").write_text(_HTPASSWD)
    return {"auth": {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}}


def with_tls(certificates: Certificates) -> dict[str, object]:
    """Return the settings of a registry with a certificate."""
    return {"http": {"tls": {"certificate": str(certificates.certificate), "key": str(certificates.key)}}}


class _Serving:
    """A server of http.server in a thread, while the block lasts."""

    _server: ThreadingHTTPServer
    _thread: threading.Thread

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class TokenServer(_Serving):
    """A token server: GET with a password or without, POST with a refresh token; anybody may pull what is public/."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._key, self.certificate = directory / "token.key", directory / "token.crt"
        _run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens",
             "-keyout", self._key, "-out", self.certificate)  # fmt: skip
        self.refresh_token = base64.b64encode(b"refresh " + directory.name.encode()).decode()
        self.grants: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def settings(self) -> dict[str, object]:
        """The settings of a registry that believes this server."""
        realm = f"http://127.0.0.1:{self._server.server_address[1]}/token"
        service = {
            "realm": realm,
            "service": "test-registry",
            "issuer": "tests",
            "rootcertbundle": str(self.certificate),
        }
        return {"auth": {"token": service}}

    def _token(self, user: str, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, name, actions = scope.rsplit(":", 2) if scope.count(":") > 1 else (scope, "", "")
            allowed = actions.split(",") if user else ["pull"] if name.startswith("public/") else []
            access.append({"type": kind.partition(":")[0], "name": name, "actions": allowed})
        now = int(time.time())
        claims = {"iss": "tests", "sub": user, "aud": "test-registry", "exp": now + _TOKEN_S, "nbf": now - 10,
                  "iat": now, "jti": str(now), "access": access}  # fmt: skip
        chain = "".join(self.certificate.read_text().splitlines()[1:-1])
        head = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (head, claims))
        signing = ["openssl", "dgst", "-sha256", "-sign", str(self._key)]
        signature = subprocess.run(signing, input=signed.encode(), check=True, capture_output=True).stdout
        return f"{signed}.{_base64url(signature)}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                given = self.headers.get("authorization")
                if given not in (None, basic):
                    return self._reply(401, {"details": "incorrect username or password"})
                server.grants.append("password" if given else "anonymous")
                token = {"token": server._token(USER if given else "", query.get("scope", []))}
                offline = {"refresh_token": server.refresh_token} if given and "offline_token" in query else {}
                return self._reply(200, {**token, **offline})

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                if form.get("grant_type") != ["refresh_token"] or form.get("refresh_token") != [server.refresh_token]:
                    return self._reply(
                        400, {"error": "invalid_grant", "error_description": "not a refresh token of ours"}
                    )
                server.grants.append("refresh_token")
                scopes = " ".join(form.get("scope", [])).split()
                return self._reply(200, {"access_token": server._token(USER, scopes)})

            def _reply(self, status: int, document: object) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                pass

        return Handler


class TunnelProxy(_Serving):
    """A proxy that only knows CONNECT, wants USER's PASSWORD, and notes where to."""

    def __init__(self) -> None:
        self.connected: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        """What HTTPS_PROXY is set to."""
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self._server.server_address[1]}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def do_CONNECT(self) -> None:
                if self.headers.get("proxy-authorization") != basic:
                    self.send_error(407)
                    return
                proxy.connected.append(self.path)
                host, _, port = self.path.rpartition(":")
                with socket.create_connection((host, int(port))) as upstream:
                    self.send_response(200)
                    self.end_headers()
                    _hand_on(self.connection, upstream)
                self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
                pass

        return Handler


def _hand_on(one: socket.socket, other: socket.socket) -> None:
    """Hand bytes on both ways until one side ends."""
    while True:
        ready, _, _ = select.select([one, other], [], [])
        for source in ready:
            data = source.recv(1 << 16)
            if not data:
                return
            (other if source is one else one).sendall(data)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
