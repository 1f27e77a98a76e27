"""Clients that are slow, many, hostile or gone: clear answers, everyone else served, nothing left of them."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from kernel.api.conftest import Server
from processes import wait_until

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

_ATTACHED = 200


@contextmanager
def _client(server: Server) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as found:
        found.settimeout(30)
        found.connect(server.socket)
        yield found


def _head(method: str, target: str, *headers: str) -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: docker", *headers, "", "")).encode()


def _status(server: Server, method: str, target: str, body: bytes = b"", *headers: str) -> int:
    """Ask on a connection of its own, and return the status of the answer."""
    with _client(server) as client:
        client.sendall(_head(method, target, f"Content-Length: {len(body)}", "Connection: close", *headers) + body)
        answer = b""
        while part := client.recv(65536):
            answer += part
    return int(answer.split()[1])


def _belongings(server: Server) -> tuple[int, int, int]:
    """Return the numbers of descriptors, of threads and of children of the server and its process aside."""
    pid = server.process.pid
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        children = file.read().split()
    of_children = 0
    for child in children:
        with open(f"/proc/{child}/task/{child}/children", encoding="ascii") as file:
            of_children += len(file.read().split())
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")), len(children) + of_children


@pytest.fixture
def nothing_stays(server: Server) -> Iterator[None]:
    """See that all that the test's clients had of the server is given back."""
    server.ok("run", "-d", "--name", "runs", "busybox", "sh", "-c", "echo up; exec sleep 1000")
    server.ok("logs", "runs")
    assert _status(server, "HEAD", "/containers/runs/archive?path=/etc") == 200
    before = _belongings(server)
    yield
    assert _status(server, "GET", "/_ping") == 200
    wait_until(lambda: all(now <= then for now, then in zip(_belongings(server), before, strict=True)))


def test_a_thousand_requests_leak_nothing(server: Server, nothing_stays: None) -> None:
    targets = (
        "/containers/json",
        "/containers/runs/json",
        "/images/json",
        "/_ping",
        "/networks",
        "/containers/nosuch/json",
    )
    with _client(server) as client:
        answers = client.makefile("rb")
        for number in range(1000):
            client.sendall(_head("GET", targets[number % len(targets)]))
            assert answers.readline().startswith((b"HTTP/1.1 200", b"HTTP/1.1 404"))
            length = 0
            while (line := answers.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            answers.read(length)


def test_two_hundred_attached_clients_get_all_of_it_and_their_going_is_noticed(
    server: Server, nothing_stays: None
) -> None:
    server.ok("create", "--name", "speaks", "-i", "busybox", "sh", "-c", "read line; echo $line; exec sleep 1000")
    with ExitStack() as stack:
        clients = [stack.enter_context(_client(server)) for _ in range(_ATTACHED)]
        for client in clients:
            client.sendall(
                _head("POST", "/containers/speaks/attach?stream=1&stdout=1", "Upgrade: tcp", "Connection: Upgrade")
            )
            assert client.recv(1000).startswith(b"HTTP/1.1 101")
        server.ok("start", "speaks")
        with _client(server) as writer:
            writer.sendall(_head("POST", "/containers/speaks/attach?stream=1&stdin=1&stdout=1") + b"hello\n")
            for client in clients:
                assert _read(client, 14) == b"\x01\0\0\0\0\0\0\x06hello\n"
        assert server.ok("exec", "speaks", "echo", "served") == "served"
    server.ok("rm", "-f", "speaks")


def _read(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (part := client.recv(size - len(data))):
        data += part
    return data


def test_a_reader_that_does_not_read_holds_up_nobody_else(server: Server, nothing_stays: None) -> None:
    server.ok("run", "-d", "--name", "floods", "busybox", "sh", "-c", "yes | head -c 4000000; exec sleep 1000")
    with ExitStack() as stack:
        for target in ("logs?follow=1&stdout=1", "archive?path=/bin", "export", "attach?logs=1&stream=1&stdout=1"):
            client = stack.enter_context(_client(server))
            client.sendall(_head("POST" if target.startswith("attach") else "GET", f"/containers/floods/{target}"))
        began = time.monotonic()
        assert server.ok("run", "--rm", "busybox", "echo", "served") == "served"
        assert server.ok("logs", "--tail", "1", "floods") == "y"
        assert time.monotonic() - began < 20
    server.ok("rm", "-f", "floods")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/containers/runs/logs?follow=1&stdout=1"),
        ("GET", "/containers/runs/stats"),
        ("GET", "/events"),
        ("GET", "/containers/runs/export"),
        ("GET", "/containers/runs/archive?path=/bin"),
        ("POST", "/containers/runs/attach?stream=1&stdout=1"),
        ("POST", "/containers/runs/wait"),
        ("GET", "/images/get?names=busybox"),
    ],
)
def test_clients_that_vanish_in_mid_stream_are_forgotten(
    server: Server, nothing_stays: None, method: str, target: str
) -> None:
    for _ in range(5):
        with _client(server) as client:
            client.sendall(_head(method, target))
            assert client.recv(10).startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize(
    "target",
    [
        "PUT /containers/runs/archive?path=/tmp",
        "POST /build",
        "POST /images/load",
        "POST /images/create?fromSrc=-",
        "POST /containers/create",
    ],
)
def test_half_a_body_is_no_whole_one(server: Server, nothing_stays: None, target: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("half")
        member.size = 100_000
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    for headers in (("Content-Length: 200000",), ("Transfer-Encoding: chunked",)):
        with _client(server) as client:
            client.sendall(_head(*target.split(" "), *headers))
            sent = archive.getvalue()[:20_000]
            client.sendall(b"%x\r\n%s\r\n" % (len(sent), sent) if "chunked" in headers[0] else sent)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(65536)
            assert b" 20" not in answer[:12], answer
    images = server.ok("images", "-q", "-a").split()
    assert len(images) == 1


def test_what_is_no_tar_and_no_json_is_told(server: Server, nothing_stays: None) -> None:
    for target, status in (
        ("PUT /containers/runs/archive?path=/tmp", (400, 500)),
        ("POST /images/load", (400, 500)),
        ("POST /images/create?fromSrc=-", (400, 500)),
        ("POST /build", (400, 500)),
        ("POST /containers/create", (400,)),
        ("POST /networks/create", (400,)),
        ("POST /volumes/create", (400,)),
        ("POST /containers/runs/exec", (400,)),
        ("POST /containers/runs/update", (400,)),
    ):
        method, path = target.split(" ")
        assert _status(server, method, path, b"{this is neither") in status, target


def test_of_two_that_remove_one_container_one_does_and_both_are_answered(server: Server, nothing_stays: None) -> None:
    for number in range(5):
        server.ok("run", "-d", "--name", f"wanted{number}", "busybox", "sleep", "1000")
        codes = _side_by_side([("DELETE", f"/containers/wanted{number}?force=1")] * 4, server)
        assert 204 in codes
        assert set(codes) <= {204, 404, 409}, codes
        assert f"wanted{number}" not in server.ok("ps", "-a", "--format", "{{.Names}}")


def _side_by_side(requests: Sequence[tuple[str, str]], server: Server) -> list[int]:
    codes: list[int] = []
    threads = [
        threading.Thread(target=lambda given=given: codes.append(_status(server, *given)), daemon=True)
        for given in requests
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return codes


def test_an_idle_server_uses_little_memory(server: Server, tmp_path: Path) -> None:
    fresh = Server(server.paths, str(tmp_path))
    try:
        assert fresh.ok("run", "--rm", "busybox", "echo", "served") == "served"
        assert _pss_kib_of(fresh) < 40 << 10
    finally:
        assert fresh.end() == 0


def _pss_kib_of(server: Server) -> int:
    """Return what a server and its process aside use, what they share with others in proportion."""
    pid = server.process.pid
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        aside, *_ = file.read().split()
    return sum(_pss_kib(each) for each in (pid, int(aside)))


def _pss_kib(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
