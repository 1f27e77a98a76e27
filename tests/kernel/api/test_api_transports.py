"""The other ways to speak with the server: TCP for clients with a certificate, and attach by websocket."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import websocket
from kernel.api.conftest import DOCKER, TIMEOUT_S, Server
from kernel.registry.servers import Certificates, make_certificates

from lab.cli import main

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

_TCP = re.compile(r"DOCKER_HOST=(tcp://\S+)")


@contextmanager
def _websocket(server: Server, target: str) -> Iterator[websocket.WebSocket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(server.socket)
        with closing(websocket.create_connection(f"ws://docker{target}", socket=client)) as found:
            yield found


def test_bytes_go_both_ways_by_websocket_and_its_end_is_told(server: Server) -> None:
    server.ok("create", "--name", "talks", "-i", "busybox", "sh", "-c", "cat; echo bad >&2")
    with _websocket(server, "/v1.41/containers/talks/attach/ws?stream=1&stdin=1&stdout=1&stderr=1") as client:
        client.send("text ")
        client.send_binary(b"and bytes\n")
        server.ok("start", "talks")
        said = b""
        while b"\n" not in said:
            said += client.recv()
        assert said == b"text and bytes\n"
        client.ping()
        server.ok("kill", "talks")
        while client.connected:
            opcode, data = client.recv_data(control_frame=True)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                assert data == (1000).to_bytes(2, "big")
                break
            assert opcode == websocket.ABNF.OPCODE_PONG
    assert server.ok("logs", "talks") == "text and bytes"


def test_what_is_written_before_is_replayed_by_websocket_and_its_goodbye_leaves_the_container_alone(
    server: Server,
) -> None:
    server.ok("run", "-d", "--name", "spoke", "busybox", "sh", "-c", "echo out; echo err >&2; exec sleep 100")
    deadline = time.monotonic() + 20
    while "err" not in server.docker("logs", "spoke").stderr.decode():
        assert time.monotonic() < deadline
    with _websocket(server, "/containers/spoke/attach/ws?logs=1&stream=1&stdout=1&stderr=1") as client:
        assert client.recv() + client.recv() == b"out\nerr\n"
    assert server.ok("ps", "--format", "{{.Names}}") == "spoke"


def test_what_is_no_handshake_is_refused_and_so_is_what_is_not_there(server: Server) -> None:
    server.ok("create", "--name", "waits", "busybox")
    for target, status in (("/containers/waits/attach/ws", 400), ("/containers/nosuch/attach/ws", 400)):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(server.socket)
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(1000).startswith(f"HTTP/1.1 {status}".encode())
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        _websocket(server, "/containers/nosuch/attach/ws?stream=1").__enter__()
    assert refused.value.status_code == 404


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"), "127.0.0.1")


@pytest.fixture
def secured(server: Server, certificates: Certificates) -> Iterator[tuple[Server, str]]:
    """Return a second server on the root, and where it listens for clients with a certificate."""
    scratch = tempfile.mkdtemp(prefix="lab-test-")
    files = ("--tlscacert", certificates.authority, "--tlscert", certificates.certificate, "--tlskey", certificates.key)
    found = Server(server.paths, scratch, "--host", "tcp://127.0.0.1:0", "--tlsverify", *map(str, files))
    try:
        address = _TCP.search(Path(found.log).read_text())
        assert address is not None, "the socket is there once the rest is"
        yield found, address[1]
        assert found.errors() == ""
    finally:
        assert found.end() == 0
        shutil.rmtree(scratch)


def _over_tcp(
    address: str, certificates: Certificates, *words: str, data: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    files = ("--tlscacert", certificates.authority, "--tlscert", certificates.certificate, "--tlskey", certificates.key)
    argv = (DOCKER, "-H", address, "--tlsverify", *map(str, files), *words)
    return subprocess.run(argv, input=data, capture_output=True, timeout=TIMEOUT_S, check=False)


def test_a_client_with_a_certificate_works_over_tcp(secured: tuple[Server, str], certificates: Certificates) -> None:
    _, address = secured
    sent = b"x" * 300_000
    done = _over_tcp(address, certificates, "run", "--rm", "-i", "--network", "none", "busybox", "wc", "-c", data=sent)
    assert (done.stdout, done.returncode) == (b"300000\n", 0), done
    done = _over_tcp(address, certificates, "run", "--rm", "--network", "none", "busybox", "seq", "50000")
    assert done.stdout.split()[-1] == b"50000"


def test_who_has_no_certificate_of_the_authority_is_no_client(
    secured: tuple[Server, str], certificates: Certificates, tmp_path: Path
) -> None:
    server, address = secured
    others = make_certificates(tmp_path, "127.0.0.1")
    stranger = Certificates(
        authority=certificates.authority, certificate=others.certificate, key=others.key
    )  # trusts the server, and is not trusted
    assert _over_tcp(address, stranger, "version").returncode == 1
    host, _, port = address.removeprefix("tcp://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as plain:
        plain.sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        with suppress(ConnectionResetError):
            assert b"OK" not in plain.recv(1000)
    assert server.ok("version", "--format", "{{.Server.APIVersion}}") == "1.41"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--host", "tcp://127.0.0.1:0"), "with client certificates only"),
        (("--host", "tcp://127.0.0.1:0", "--tlsverify"), "with client certificates only"),
        (("--host", "127.0.0.1:2376"), "no address to listen at"),
        (("--host", "tcp://127.0.0.1:port"), "no address to listen at"),
        (
            (
                "--host",
                "tcp://127.0.0.1:0",
                "--tlsverify",
                *(f"--tls{name}=/nosuch" for name in ("cacert", "cert", "key")),
            ),
            "cannot use the certificates",
        ),
    ],
)
def test_there_is_no_tcp_without_certificates(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], words: str
) -> None:
    socket_path = str(tmp_path / "docker.sock")
    assert main.main(["--root", server.paths.root, "serve", "--socket", socket_path, *flags]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "docker.sock").exists()
