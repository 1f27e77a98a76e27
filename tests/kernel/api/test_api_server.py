"""The server itself: what it says of what it does not know, what hostile clients get, and what is left of them."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
from collections.abc import Iterator

import pytest
from kernel.api.conftest import Server
from processes import wait_until

from lab.cli import main

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]


class _Bare(http.client.HTTPConnection):
    """One connection with the server, kept alive from request to request."""

    def __init__(self, server: Server) -> None:
        super().__init__("docker", timeout=20)
        self._path = server.socket

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(self._path)

    def ask(self, method: str, target: str, body: bytes | Iterator[bytes] | None = None) -> tuple[int, str]:
        self.request(method, target, body)
        answer = self.getresponse()
        text = answer.read().decode()
        return answer.status, json.loads(text)["message"] if answer.status >= 400 else text


@pytest.fixture
def bare(server: Server) -> Iterator[_Bare]:
    connection = _Bare(server)
    yield connection
    connection.close()


def test_unknown_routes_versions_and_bodies_have_clear_answers_on_one_connection(bare: _Bare) -> None:
    assert bare.ask("GET", "/v1.41/nosuch") == (404, "page not found")
    assert bare.ask("POST", "/nosuch", iter((b"a" * 1000, b"b"))) == (404, "page not found")
    assert bare.ask("GET", "/v9.99/info")[0] == 400
    assert "too old" in bare.ask("GET", "/v1.1/info")[1]
    assert bare.ask("GET", "/v1.50/_ping") == (200, "OK")
    assert "invalid JSON" in bare.ask("POST", "/containers/create", b"{no")[1]
    assert "an object is expected" in bare.ask("POST", "/containers/create", b"[1]")[1]
    assert bare.ask("POST", "/containers/create", b"{}")[0] == 400
    assert (
        bare.ask("GET", "/containers/json?filters=%7B%22colour%22%3A%5B%22x%22%5D%7D")[1] == "Invalid filter 'colour'"
    )
    assert bare.ask("GET", "/swarm")[0] == 503
    assert bare.ask("POST", "/containers/nosuch/start")[:2] == (404, "No such container: nosuch")
    assert bare.ask("POST", "/build?dockerfile=Dockerfile", b"this is no tar")[0] == 500


def test_what_is_no_request_is_refused_and_others_are_served(server: Server, bare: _Bare) -> None:
    for sent in (b"\0\1\2\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 200_000 + b"\r\n\r\n", b"GET /\r\n\r\n"):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(server.socket)
            client.sendall(sent)
            answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 4"), answer
    assert bare.ask("GET", "/_ping") == (200, "OK")


def test_clients_that_wait_for_leave_get_it_before_they_send_a_body(server: Server) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(server.socket)
        head = b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        client.sendall(head)
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        client.sendall(b"{}")
        assert client.recv(1000).startswith(b"HTTP/1.1 400")


def test_hundreds_of_requests_and_of_clients_that_vanish_leave_nothing(server: Server, bare: _Bare) -> None:
    server.ok("run", "-d", "--name", "runs", "busybox", "sleep", "100")
    assert bare.ask("GET", "/containers/json")[0] == 200
    before = _belongings(server)
    for _ in range(200):
        assert bare.ask("GET", "/containers/runs/json")[0] == 200
    for target in ("/containers/runs/attach?stream=1&stdout=1", "/containers/runs/wait", "/build"):
        for _ in range(20):
            client = socket.socket(socket.AF_UNIX)
            client.connect(server.socket)
            client.sendall(f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf".encode())
            client.close()
    wait_until(lambda: all(now <= then for now, then in zip(_belongings(server), before, strict=True)))


def _belongings(server: Server) -> tuple[int, int]:
    """Return the numbers of descriptors and of threads."""
    directory = f"/proc/{server.process.pid}"
    return len(os.listdir(f"{directory}/fd")), len(os.listdir(f"{directory}/task"))


def test_the_socket_is_for_its_owner_and_group_and_one_server_alone(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stat.S_IMODE(os.stat(server.socket).st_mode) == 0o660
    assert main.main(["--root", server.paths.root, "serve", "--socket", server.socket]) == 1
    assert "another server listens" in capsys.readouterr().err
    assert main.main(["--root", server.paths.root, "serve", "--socket", server.socket, "--group", "nosuchgroup"]) == 2
    assert server.ok("ps", "-q") == ""
